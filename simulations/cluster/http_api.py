"""ObjectApi over HTTP: the stand-in controllers on any Kubernetes API server, the embedded one or a real one."""

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import aiohttp
import yaml

from metrics.clock import Clock, WallClock
from simulations.cluster.api import ApiError, Object, Resource, WatchEvent
from simulations.cluster.apiserver.errors import BadSpecError, error_from
from simulations.cluster.apiserver.known import Known
from simulations.cluster.apiserver.local import typed
from simulations.cluster.apiserver.patches import MERGE_PATCH

PAGE_OBJECTS = 500  # as client-go's reflectors
WATCH_S = 300  # a watch is renewed this often; a dead connection is noticed soon after
SILENCE_S = 30.0  # added to WATCH_S before a silent connection counts as dead
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.05, 2.0
QUEUE_EVENTS = 10_000  # a slow consumer makes the watches wait, not the memory grow
LINE_BYTES = 4 * 1024 * 1024  # one watch event; objects are at most 3 MB


class HttpApi:
    """Use as an async context manager."""

    def __init__(
        self, url: str, token: str = "", context: ssl.SSLContext | None = None, clock: Clock | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._context = context
        self._clock = clock or WallClock()
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_kubeconfig(cls, path: Path, clock: Clock | None = None) -> "HttpApi":
        """The current context's cluster and user: token or client certificate."""
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            context = _named(config["contexts"], config["current-context"])["context"]
            cluster = _named(config["clusters"], context["cluster"])["cluster"]
            user = _named(config["users"], context["user"])["user"]
            url = cluster["server"]
        except (KeyError, TypeError, StopIteration) as exc:
            raise BadSpecError(f"kubeconfig {path}: the current context is not whole: {exc!r}") from exc
        is_tls = url.startswith("https")
        return cls(url, user.get("token", ""), _tls_context(cluster, user) if is_tls else None, clock)

    async def __aenter__(self) -> "HttpApi":
        connector = aiohttp.TCPConnector(limit=100, ssl=self._context if self._context else True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=30),
            read_bufsize=LINE_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("HttpApi is used outside its `async with`")
        return self._session

    async def request(
        self, method: str, path: str, body: Object | None = None, params: Mapping[str, str] | None = None
    ) -> Object:
        """One call; ApiError for what the server refuses, and 503 where it cannot be reached."""
        headers = {"Content-Type": MERGE_PATCH if method == "PATCH" else "application/json"} if body is not None else {}
        raw = None if body is None else json.dumps(body).encode()
        try:
            async with self._open().request(
                method, self._url + path, data=raw, headers=headers, params=params
            ) as response:
                return _answer(await response.read(), response.status)
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise ApiError(503, "ServiceUnavailable", f"{method} {path}: {exc!r}") from exc

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return await self.request("GET", path_of(resource, namespace, name))

    async def _list(self, resource: Resource, namespace: str | None, selector: str) -> tuple[list[Object], str]:
        """All pages, and the version they are from."""
        params = {"limit": str(PAGE_OBJECTS)} | ({"labelSelector": selector} if selector else {})
        items: list[Object] = []
        while True:
            page = await self.request("GET", path_of(resource, namespace or ""), params=params)
            items += page["items"]
            if not page["metadata"].get("continue"):
                break
            params["continue"] = page["metadata"]["continue"]
        for item in items:  # a real server leaves these out of lists
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return items, page["metadata"]["resourceVersion"]

    async def list(
        self, resource: Resource, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        return (await self._list(resource, namespace, selector))[0]

    async def create(self, resource: Resource, obj: Object) -> Object:
        return await self.request("POST", path_of(resource, _namespace(resource, obj)), typed(resource, obj))

    async def update(self, resource: Resource, obj: Object, subresource: str = "") -> Object:
        path = path_of(resource, _namespace(resource, obj), obj["metadata"]["name"], subresource)
        return await self.request("PUT", path, obj)

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, subresource: str = ""
    ) -> Object:
        return await self.request("PATCH", path_of(resource, namespace, name, subresource), patch)

    async def delete(self, resource: Resource, namespace: str, name: str, grace_period_s: int | None = None) -> None:
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        await self.request("DELETE", path_of(resource, namespace, name), options)

    async def watch(self, resources: Sequence[Resource]) -> AsyncIterator[WatchEvent]:
        """In order within each resource; iterate in one task and close it there."""
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue(QUEUE_EVENTS)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._follow(resource, queue)) for resource in resources]
            with suppress(GeneratorExit):  # a TaskGroup would wrap it; closing a watch is no error
                while True:
                    yield await queue.get()
            for task in tasks:
                task.cancel()

    async def _follow(self, resource: Resource, queue: "asyncio.Queue[WatchEvent]") -> None:
        """List, watch, and begin again whenever the server or the line gives up."""
        known, version, backoff_s = Known(), "", BACKOFF_FIRST_S
        while True:
            try:
                if not version:
                    version = await self._relist(resource, known, queue)
                async for line in self._watch_once(resource, version):
                    version, backoff_s = line.version, BACKOFF_FIRST_S
                    if line.type != "BOOKMARK":
                        await queue.put(known.note(WatchEvent(line.type, line.object)))
                pause_s = BACKOFF_FIRST_S  # the watch's time was over
            except ApiError as error:
                if error.code in (401, 403):
                    raise  # no use in asking again: a human must grant access
                version = ""  # 410, 504, 429, a server that is away, or a kind not served yet: list again
                pause_s = _retry_s(error, backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
            await self._clock.sleep(pause_s)

    async def _relist(self, resource: Resource, known: Known, queue: "asyncio.Queue[WatchEvent]") -> str:
        items, version = await self._list(resource, None, "")
        for event in known.replace(items):
            await queue.put(event)
        return version

    async def _watch_once(self, resource: Resource, version: str) -> "AsyncIterator[_Line]":
        params = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WATCH_S + SILENCE_S)
        try:
            async with self._open().get(self._url + path_of(resource), params=params, timeout=timeout) as response:
                if response.status != 200:
                    raise error_from(_parsed(await response.read()), response.status)
                async for line in response.content:
                    yield _Line.parse(line)
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise ApiError(503, "ServiceUnavailable", f"watch of {resource.plural}: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a watch that is no error."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object

    @property
    def version(self) -> str:
        return str(self.object["metadata"]["resourceVersion"])

    @classmethod
    def parse(cls, raw: bytes) -> "_Line":
        line = _parsed(raw)
        match line.get("type"), line.get("object"):
            case ("ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK") as change, dict(obj) if "metadata" in obj:
                return cls(change, obj)
            case "ERROR", dict(status):
                raise error_from(status, 500)
        raise ApiError(500, "InternalError", f"not a watch event: {raw[:100]!r}")


def path_of(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Where the API serves a resource, an object or a part of one."""
    root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
    space = f"/namespaces/{namespace}" if namespace and resource.namespaced else ""
    return root + space + "/" + "/".join(part for part in (resource.plural, name, subresource) if part)


def _namespace(resource: Resource, obj: Object) -> str:
    return obj["metadata"].get("namespace") or ("default" if resource.namespaced else "")


def _parsed(raw: bytes) -> Object:
    try:
        parsed = json.loads(raw)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"message": raw[:200].decode(errors="replace")}


def _answer(raw: bytes, code: int) -> Object:
    answer = _parsed(raw)
    if code >= 400:
        raise error_from(answer, code)
    return answer


def _retry_s(error: ApiError, backoff_s: float) -> float:
    asked = error.details.get("retryAfterSeconds")
    return max(backoff_s, float(asked)) if isinstance(asked, int | float) else backoff_s


def _named(entries: Sequence[Object], name: str) -> Object:
    return next(entry for entry in entries if entry["name"] == name)


def _tls_context(cluster: Object, user: Object) -> ssl.SSLContext:
    data = cluster.get("certificate-authority-data")
    pem = base64.b64decode(data).decode() if data else None
    context = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=pem)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if user.get("client-certificate"):
        context.load_cert_chain(user["client-certificate"], user.get("client-key"))
    elif user.get("client-certificate-data"):
        _load_client_data(context, user)
    return context


def _load_client_data(context: ssl.SSLContext, user: Object) -> None:
    """OpenSSL reads certificates from files only; this one is gone before the function returns."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(base64.b64decode(user["client-certificate-data"]) + b"\n")
        file.write(base64.b64decode(user["client-key-data"]))
        file.flush()
        context.load_cert_chain(file.name)
