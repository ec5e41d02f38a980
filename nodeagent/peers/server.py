"""What this node gives to others: byte ranges of published trees, by digest and file number. Nothing else.

    GET /v1/trees/DIGEST            the tree's manifest
    GET /v1/trees/DIGEST/files/N    its N-th file, with Range
    GET /v1/trees/DIGEST/progress   `{"published": false, "stagedBytes": N, "open": B}` while it is fetched here; N is
                                    0 while this node asks around whether it is the one to fetch, 404 where it is not

Of a tree that is being fetched, and `open`, the manifest and those files are given that are whole and agreed with
their digests; the others are 503 until they are.

No name of a request ever becomes a path: a digest is looked up among the trees that the last pass found sound, a
number among its manifest's files. Without the token there is no answer but 401, not even that a model exists.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from cacheops.bandwidth import Bandwidth
from cacheops.manifest_file import Published, encode
from cacheops.model import FileEntry
from cacheops.page_cache import read_leaving_no_trace
from cacheops.sources.beneath import open_beneath
from metrics.clock import Clock
from nodeagent.peers.token import TokenFile
from nodeagent.peers.underway import Underway

STREAMS_MAX = 32  # four nodes with eight connections each: more would only share the same line
BYTES_PER_S = 600e6  # half of a 10 GbE line: what runs on the node keeps the other half
BLOCK_BYTES = 1 << 20  # in memory per stream: 32 MiB at the most
STALL_S = 30.0  # a reader that takes no block for so long gives its place to others
IDLE_S = 15.0
BODY_BYTES_MAX = 1024
RETRY_AFTER_S = 1
_RANGE = re.compile(r"^bytes=([0-9]{1,16})-([0-9]{0,16})$")


class Shelf(Protocol):
    """What may be given away now."""

    def shared(self, digest: str) -> Published | None:
        """The sound tree of a digest."""
        ...

    def staged_bytes(self, digest: str) -> int | None:
        """How far a fetch of it is, more than 0 once it has begun; None: there is none, or it waits for others."""
        ...

    def underway(self, digest: str) -> Underway | None:
        """What may be given of it while it is fetched; None: nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLimits:
    """How much of this node others may have."""

    streams_max: int = STREAMS_MAX
    bytes_per_s: float = BYTES_PER_S


class PeerServer:
    """The answers."""

    def __init__(self, shelf: Shelf, token: TokenFile, limits: ServeLimits, clock: Clock) -> None:
        self._shelf = shelf
        self._token = token
        self._limits = limits
        self._clock = clock
        self._bandwidth = Bandwidth(limits.bytes_per_s, clock)
        self._streams = 0
        self.sent_bytes = 0

    def app(self) -> web.Application:
        """As a web application."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._gate])
        tree = "/v1/trees/{digest:[0-9a-f]{64}}"
        app.add_routes(
            [
                web.get(tree, self._manifest, allow_head=False),
                web.get(tree + "/files/{number:[0-9]{1,6}}", self._file, allow_head=False),
                web.get(tree + "/progress", self._progress, allow_head=False),
            ]
        )
        return app

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may ask at all."""
        if not self._token.accepts(request.headers.get("Authorization", "")):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    async def _manifest(self, request: web.Request) -> web.Response:
        tree = self._tree(request.match_info["digest"])
        if self._streams >= self._limits.streams_max:
            raise _busy()  # told before a node settles on us
        return web.Response(body=await asyncio.to_thread(encode, tree), content_type="application/json")

    async def _progress(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if self._shelf.shared(digest) is not None:
            return web.json_response({"published": True})
        staged_bytes = self._shelf.staged_bytes(digest)
        if staged_bytes is None:
            raise web.HTTPNotFound
        is_open = self._shelf.underway(digest) is not None
        return web.json_response({"published": False, "stagedBytes": staged_bytes, "open": is_open})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        digest, number = request.match_info["digest"], int(request.match_info["number"])
        tree = self._tree(digest)
        if number >= len(tree.manifest.files):
            raise web.HTTPNotFound
        entry = tree.manifest.files[number]
        start, stop = _asked(request.headers.get("Range"), entry.size_bytes)
        if self._streams >= self._limits.streams_max:
            raise _busy()
        self._streams += 1
        try:
            fd = await asyncio.to_thread(self._opened, digest, number)
            try:
                return await self._send(request, entry, fd, start, stop)
            finally:
                os.close(fd)
        finally:
            self._streams -= 1

    def _tree(self, digest: str) -> Published:
        if tree := self._shelf.shared(digest):
            return tree
        if begun := self._shelf.underway(digest):
            return begun.as_published()
        raise web.HTTPNotFound

    def _opened(self, digest: str, number: int) -> int:
        """A file that still is what its manifest says at a glance."""
        tree, begun = self._shelf.shared(digest), self._shelf.underway(digest)
        try:
            if tree is not None:
                entry = tree.manifest.files[number]
                fd = open_beneath(tree.path, entry.path)
            elif begun is not None:
                if number not in begun.whole:
                    raise _busy()
                entry = begun.manifest.files[number]
                fd = os.open(begun.whole[number], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            else:
                raise web.HTTPNotFound
        except OSError as exc:
            raise web.HTTPNotFound from exc  # evicted, or moved to its place, this very moment
        if os.fstat(fd).st_size != entry.size_bytes:
            os.close(fd)
            raise web.HTTPNotFound
        return fd

    async def _send(self, request: web.Request, entry: FileEntry, fd: int, start: int, stop: int) -> web.StreamResponse:
        answer = web.StreamResponse(status=206 if "Range" in request.headers else 200)
        answer.content_length = stop - start
        answer.content_type = "application/octet-stream"
        if answer.status == 206:
            answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size_bytes}"
        await answer.prepare(request)
        with suppress(ConnectionResetError, TimeoutError):  # it had enough, or takes nothing any more
            await self._blocks(answer.write, fd, start, stop)
        return answer

    async def _blocks(self, write: Callable[[memoryview], Awaitable[None]], fd: int, start: int, stop: int) -> None:
        """Out of the page cache where the file is in it, past it where it is not."""
        while start < stop:
            # A fresh buffer for each: the transport may still hold the last one.
            buffer = memoryview(bytearray(min(BLOCK_BYTES, stop - start)))
            count = await asyncio.to_thread(read_leaving_no_trace, fd, buffer, start)
            if count == 0:
                raise ConnectionResetError("the file is shorter than its manifest says")
            async with asyncio.timeout(STALL_S):
                await write(buffer[:count])
            start += count
            self.sent_bytes += count
            if wait_s := self._bandwidth.wait_s(count):
                await self._clock.sleep(wait_s)


@asynccontextmanager
async def serving_peers(server: PeerServer, host: str, port: int) -> AsyncIterator[int]:
    """Serve within the block; gives the port."""
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.2, keepalive_timeout=IDLE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _asked(header: str | None, size_bytes: int) -> tuple[int, int]:
    """First byte and the one behind the last; 416 for anything but one range within the file."""
    if header is None:
        return 0, size_bytes
    found = _RANGE.match(header)
    stop = min(int(found[2]) + 1 if found and found[2] else size_bytes, size_bytes)
    if not found or int(found[1]) >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size_bytes}"})
    return int(found[1]), stop


def _busy() -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(headers={"Retry-After": str(RETRY_AFTER_S)})
