"""The API server as a thing to start, stop, disturb and connect to."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import yaml
from aiohttp import web

from metrics.clock import Clock, WallClock
from simulations.cluster.api import Object
from simulations.cluster.apiserver.faults import Fault, Faults
from simulations.cluster.apiserver.http import Front
from simulations.cluster.apiserver.kinds import Registry
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.apiserver.objects import Objects, Target
from simulations.cluster.apiserver.rbac import ADMIN, GROUP, Access, User, first_objects
from simulations.cluster.apiserver.store import LOG_EVENTS, Store
from simulations.cluster.apiserver.tls import Certificates
from simulations.cluster.apiserver.watches import Watches

HOST = "127.0.0.1"
MAX_BODY_BYTES = 3 * 1024 * 1024  # as the real server


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What is seldom changed."""

    bookmark_period_s: float = 60.0  # as the real server, about once a minute
    version_wait_s: float = 3.0  # as the real server's wait for a future version
    log_events: int = LOG_EVENTS
    seed: int | None = None  # of uids and generated names
    tls: bool = False  # kubectl needs it: it sends no token over plain HTTP


class ApiServer:
    """An API server on loopback. Restarting it keeps its port and its objects."""

    def __init__(
        self,
        port: int = 0,
        tokens: Mapping[str, User] | None = None,
        clock: Clock | None = None,
        options: ServerOptions | None = None,
    ) -> None:
        options = options or ServerOptions()
        self._port = port
        self._clock = clock or WallClock()
        self._store = Store(options.log_events)
        self.objects = Objects(self._store, Registry(), self._clock.now_s, options.seed)
        for plural, obj in first_objects():
            kind = self.objects.registry.find(GROUP, "v1", plural)
            self.objects.create(Target(kind), obj)
        self.api = LocalApi(self.objects)
        self.admin_token = secrets.token_urlsafe(24)
        self._watches = Watches(self.objects, options.bookmark_period_s)
        self._front = Front(
            objects=self.objects,
            access=Access(self._store),
            clock=self._clock,
            tokens={**(tokens or {}), self.admin_token: ADMIN},
            version_wait_s=options.version_wait_s,
            watches=self._watches,
        )
        self._certificates = Certificates() if options.tls else None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "ApiServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; on the same port as before after a stop."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._front.handle)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        context = self._certificates.context if self._certificates else None
        site = web.TCPSite(runner, HOST, self._port, ssl_context=context)
        await site.start()
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening and cut every connection; the objects stay."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._watches.cut()
            await runner.cleanup()

    @property
    def url(self) -> str:
        return f"{'https' if self._certificates else 'http'}://{HOST}:{self._port}"

    @property
    def authority_pem(self) -> bytes | None:
        """Who vouches for the server's certificate; None without TLS."""
        return self._certificates.authority_pem if self._certificates else None

    def kubeconfig(self, token: str | None = None) -> Object:
        """A kubeconfig for a token; the administrator's by default."""
        cluster: Object = {"name": "warmtide", "cluster": {"server": self.url}}
        if self._certificates:
            cluster["cluster"]["certificate-authority-data"] = self._certificates.authority_data
        user = {"name": "user", "user": {"token": token or self.admin_token}}
        context = {"name": "warmtide", "context": {"cluster": "warmtide", "user": "user", "namespace": "default"}}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [user],
            "contexts": [context],
            "current-context": "warmtide",
        }

    def write_kubeconfig(self, path: Path, token: str | None = None) -> Path:
        """The same as a file that only its owner can read."""
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(self.kubeconfig(token)), encoding="utf-8")
        return path

    # --- trouble ---

    def replace_authority(self) -> None:
        """From the next start on the certificate is another authority's; kubeconfigs written before know it not."""
        self._certificates = Certificates()

    @property
    def faults(self) -> Faults:
        return self._front.faults

    def fail_next(
        self, code: int, count: int = 1, *, retry_after_s: int | None = None, verb: str = "", plural: str = ""
    ) -> None:
        """Answer the next fitting requests with an error."""
        self.faults.add(Fault(code=code, count=count, retry_after_s=retry_after_s, verb=verb, plural=plural))

    def delay(self, latency_s: float) -> None:
        """Make every request wait before it is read."""
        self._front.latency_s = latency_s

    def cut_watches(self) -> None:
        """Break the connections of all watches."""
        self._watches.cut()

    @property
    def open_watches(self) -> int:
        return len(self._watches)

    def forget_history(self) -> None:
        """As if everything up to now had been compacted: older versions answer 410."""
        self._store.forget_history()
