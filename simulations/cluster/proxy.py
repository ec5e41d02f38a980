"""A small HTTP proxy before the replicas of one service: least outstanding, streaming, patient.

It stands where a gateway stands. Until the first byte of an answer nothing has reached the client, so
a refused, reset, failed (5xx), empty or token-less answer is tried on another replica: that covers replicas that
are on their way out before the watch has said so. After the first byte a break is passed on as a break.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from simulations.cluster.api import PODS, Object, ObjectApi

PORT_ANNOTATION = "prometheus.kserve.io/port"  # KServe's; serving and metrics share vLLM's port
DEFAULT_PORT = 8080  # KServe's convention for a container that names no port
BODY_BYTES_MAX = 16 * 2**20  # a million token ids in JSON are 7 MB
WAIT_FOR_REPLICA_S = 60.0  # a gateway's usual patience; the client gives up no later
RETRY_SAME_AFTER_S = 0.5  # when every replica there is has failed this request once
ATTEMPTS_MAX = 12  # then the request itself is the likelier cause
WAITING_MAX = 2000  # requests held while there is no replica; beyond that 503 at once
CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 120.0  # between two chunks of an answer
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"})


@dataclass(slots=True)
class Backend:
    """One ready replica and the requests it has from us."""

    name: str
    host: str
    port: int
    outstanding: int = 0
    served: int = 0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count one request while it lasts."""
        self.outstanding += 1
        try:
            yield
        finally:
            self.outstanding -= 1
            self.served += 1


class Backends:
    """The ready replicas. Counts survive an address that comes and goes only while it is there."""

    def __init__(self) -> None:
        self._by_name: dict[str, Backend] = {}
        self._changed = asyncio.Event()
        self.waiting = 0
        self.left_to_drain = 0  # requests that were under way on a replica when it took no more

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._by_name.values())

    def put(self, name: str, host: str, port: int) -> None:
        """A replica is ready at this address."""
        known = self._by_name.get(name)
        if known is None or (known.host, known.port) != (host, port):
            self._by_name[name] = Backend(name, host, port)
            self._changed.set()

    def drop(self, name: str) -> None:
        """A replica takes no new requests; those it has may end."""
        gone = self._by_name.pop(name, None)
        self.left_to_drain += gone.outstanding if gone is not None else 0

    async def take(self, tried: set[str], *, within_s: float) -> Backend | None:
        """The replica with the fewest outstanding requests; waits for one, None when none comes in time."""
        if self.waiting >= WAITING_MAX:
            return None
        self.waiting += 1
        try:
            async with asyncio.timeout(within_s):
                while (best := self._least(tried)) is None:
                    await self._change(tried)
                return best
        except TimeoutError:
            return None
        finally:
            self.waiting -= 1

    def _least(self, tried: set[str]) -> Backend | None:
        fresh = (backend for backend in self._by_name.values() if backend.name not in tried)
        return min(fresh, key=lambda backend: (backend.outstanding, backend.served), default=None)

    async def _change(self, tried: set[str]) -> None:
        """Return when there is another replica, or when those that failed are worth a second try."""
        self._changed.clear()
        try:
            async with asyncio.timeout(RETRY_SAME_AFTER_S):
                await self._changed.wait()
        except TimeoutError:
            tried.clear()


def address_of(pod: Object) -> tuple[str, int] | None:
    """Where a pod takes requests; None while it is not ready or is on its way out."""
    status = pod.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    if not ready or "deletionTimestamp" in pod["metadata"] or not status.get("podIP"):
        return None
    ports = [port["containerPort"] for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    named = (pod["metadata"].get("annotations") or {}).get(PORT_ANNOTATION)
    return status["podIP"], int(named or (ports[0] if ports else DEFAULT_PORT))


async def follow_pods(api: ObjectApi, backends: Backends, namespace: str, labels: Mapping[str, str]) -> None:
    """Keep the backends equal to the ready pods with these labels, for ever."""
    async for event in api.watch([PODS]):
        pod = event.object
        metadata = pod["metadata"]
        if metadata["namespace"] != namespace or not labels.items() <= (metadata.get("labels") or {}).items():
            continue
        address = None if event.type == "DELETED" else address_of(pod)
        if address is None:
            backends.drop(metadata["name"])
        else:
            backends.put(metadata["name"], *address)


# vLLM 0.32 answers token ids that come after its SIGTERM, and drops those that queue without `--shutdown-timeout`,
# with 200 and no token: a stream that is over at once, or a whole answer that was aborted before its first token.
_NOTHING = re.compile(
    rb'^data: \[DONE\]|"choices": ?\[\].*"completion_tokens": ?0\b'
    rb'|"finish_reason": ?"abort".*"completion_tokens": ?0\b',
    re.DOTALL,
)


class _TryElsewhereError(Exception):
    """This replica did not answer, and the client has seen nothing of it."""


class Proxy:
    """Listens on a free loopback port while its context lasts."""

    def __init__(self, backends: Backends, *, wait_s: float = WAIT_FOR_REPLICA_S) -> None:
        self.backends = backends
        self.retried = 0
        self.url = ""
        self._wait_s = wait_s
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)  # the backends' queues are the limit
        self._session = aiohttp.ClientSession(timeout=limits, connector=connector, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        tried: set[str] = set()
        failure = f"no replica was ready within {self._wait_s:g} s"
        for _ in range(ATTEMPTS_MAX):
            backend = await self.backends.take(tried, within_s=self._wait_s)
            if backend is None:
                break
            try:
                with backend.busy():
                    return await self._forward(request, body, backend)
            except _TryElsewhereError as exc:
                self.retried += 1
                failure = f"{backend.name}: {exc}"
                tried.add(backend.name)
        return web.json_response({"error": {"message": failure, "code": 503}}, status=503)

    async def _forward(self, request: web.Request, body: bytes, backend: Backend) -> web.StreamResponse:
        assert self._session is not None
        url = f"http://{backend.host}:{backend.port}{request.rel_url}"
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(request.method, url, headers=headers, data=body) as upstream:
                first = await _first_chunk(upstream)
                response = await _begin(request, upstream)
                await response.write(first)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
        except (aiohttp.ClientError, TimeoutError) as exc:
            if response is None:
                raise _TryElsewhereError(str(exc) or type(exc).__name__) from exc
            return _broken(request, response)
        await response.write_eof()
        return response


async def _first_chunk(upstream: aiohttp.ClientResponse) -> bytes:
    """What makes an answer an answer: no server error, and a first byte."""
    first = await upstream.content.readany()
    if upstream.status >= 500:
        raise _TryElsewhereError(f"HTTP {upstream.status} {first[:200].decode(errors='replace')}")
    if upstream.method == "POST" and (not first or _NOTHING.search(first)):
        raise _TryElsewhereError(f"HTTP {upstream.status} without a token")
    return first


async def _begin(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: value for name, value in upstream.headers.items() if name.lower() not in HOP_BY_HOP}
    response = web.StreamResponse(status=upstream.status, headers=headers)
    await response.prepare(request)
    return response


def _broken(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """End as the replica ended: without the chunk that says it is complete."""
    if request.transport is not None:
        request.transport.abort()
    return response
