"""Watches over HTTP: one JSON line per event, bookmarks, time limits, and connections cut on demand."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from simulations.cluster.api import ApiError, Object
from simulations.cluster.apiserver.answers import JSON, Answers
from simulations.cluster.apiserver.errors import bad_request, status_of, too_large_version
from simulations.cluster.apiserver.kinds import Kind
from simulations.cluster.apiserver.objects import Objects
from simulations.cluster.apiserver.queries import Feed, ListQuery, Seen, parse_version
from simulations.cluster.apiserver.store import encode

_DEFAULT_TIMEOUT_S = 1_800.0  # --min-request-timeout of the real server, which ends watches after once to twice this
_INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """What a client wants to watch."""

    kind: Kind
    query: ListQuery
    timeout_s: float
    wants_bookmarks: bool
    wants_initial_end: bool  # sendInitialEvents: a marked bookmark after the first objects

    @classmethod
    def of(cls, kind: Kind, query: ListQuery, options: Mapping[str, str]) -> "WatchRequest":
        text = options.get("timeoutSeconds", "0")
        if not text.isdigit():
            raise bad_request(f"timeoutSeconds {text!r} is not a number")
        return cls(
            kind=kind,
            query=query,
            timeout_s=float(text) or _DEFAULT_TIMEOUT_S,
            wants_bookmarks=options.get("allowWatchBookmarks", "") in ("1", "true"),
            wants_initial_end=options.get("sendInitialEvents", "") in ("1", "true"),
        )


class Watches:
    """The watches that are open."""

    def __init__(self, objects: Objects, bookmark_period_s: float) -> None:
        self._objects = objects
        self._bookmark_period_s = bookmark_period_s
        self._open: set[asyncio.BaseTransport] = set()

    def __len__(self) -> int:
        return len(self._open)

    def cut(self) -> None:
        """Break every open watch's connection without a word."""
        for transport in list(self._open):
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    async def refuse(self, request: web.Request, error: ApiError) -> web.StreamResponse:
        """As the real server: once a watch was accepted, errors are events."""
        response = web.StreamResponse(headers={"Content-Type": JSON})
        await response.prepare(request)
        await response.write(_line("ERROR", encode(status_of(error))))
        await response.write_eof()
        return response

    async def serve(self, request: web.Request, watch: WatchRequest, answers: Answers) -> web.StreamResponse:
        try:
            stream = _Stream(self._objects, watch, answers, self._bookmark_period_s)
        except ApiError as error:
            return await self.refuse(request, error)
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        self._open.add(transport)
        try:
            async with asyncio.timeout(watch.timeout_s):
                await stream.run(response)
        except TimeoutError:
            await response.write(stream.bookmark())
        except ConnectionResetError:
            return response  # the client went; it will come again from the last version it saw
        finally:
            self._open.discard(transport)
            stream.close()
        await response.write_eof()
        return response


def _line(change: str, encoded: bytes) -> bytes:
    return b'{"type":"' + change.encode() + b'","object":' + encoded + b"}\n"


class _Stream:
    """One watch: the first objects where they are wanted, then every change."""

    def __init__(self, objects: Objects, watch: WatchRequest, answers: Answers, bookmark_period_s: float) -> None:
        self._store = objects.store
        self._watch = watch
        self._answers = answers
        self._bookmark_period_s = bookmark_period_s
        collection = objects.store.collection(objects.collection(watch.kind))
        version = parse_version(watch.query.version)
        if version > objects.store.version:
            raise too_large_version(version, objects.store.version)
        self._wants_first = version == 0 or watch.wants_initial_end
        start = objects.store.version if self._wants_first else version
        self._first = collection.all(watch.query.namespace) if self._wants_first else []
        position = collection.log.position_after(start)
        self._feed = Feed(collection.log, position, watch.query.namespace, watch.query.matcher)
        self._version = start
        self._feed.log.listeners.add(self._feed.wake)

    def close(self) -> None:
        self._feed.log.listeners.discard(self._feed.wake)

    async def run(self, response: web.StreamResponse) -> None:
        await self._write_first(response)
        while True:
            self._feed.wake.clear()
            try:
                # Read before take: what comes later belongs to the next bookmark.
                version, batch = self._store.version, self._feed.take()
            except ApiError as error:  # too slow: the log has moved past this watch
                await response.write(_line("ERROR", encode(status_of(error))))
                return
            self._version = version
            if batch:
                await response.write(b"".join(self._event(seen) for seen in batch))
            else:
                await self._wait(response)

    async def _write_first(self, response: web.StreamResponse) -> None:
        matches = self._watch.query.matcher
        items = [item for item in self._first if matches is None or matches(item.object)]
        if items:
            await response.write(b"".join(_line("ADDED", self._answers.encoded(item)) for item in items))
        if self._watch.wants_initial_end:
            await response.write(self.bookmark({_INITIAL_END: "true"}))
        self._first = []

    async def _wait(self, response: web.StreamResponse) -> None:
        try:
            async with asyncio.timeout(self._bookmark_period_s):
                await self._feed.wake.wait()
        except TimeoutError:
            self._version = self._store.version if not self._feed.wake.is_set() else self._version
            await response.write(self.bookmark())

    def _event(self, seen: Seen) -> bytes:
        return _line(seen.change, self._answers.encoded(seen.stored))

    def bookmark(self, annotations: Object | None = None) -> bytes:
        """How far the client has seen, so that it can come back there; nothing where it did not ask."""
        if not self._watch.wants_bookmarks:
            return b""
        metadata: Object = {"resourceVersion": str(self._version)}
        if annotations:
            metadata["annotations"] = annotations
        resource = self._watch.kind.resource
        shown = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        return _line("BOOKMARK", encode(shown))
