"""A TCP line to a server that can be made bad: slow, cut, half-closed or silent. Knows nothing of what flows."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

from metrics.clock import Clock, WallClock

CHUNK_BYTES = 64 * 1024
# With a linger of zero a close is a reset, as when the machine at the other end is gone.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultyLine:
    """Use as an async context manager; clients connect to `port`. Attributes may change at any time.

    `delay_s` is added to every chunk in both directions. While `is_silent`, bytes are taken and go nowhere and
    nobody is told, as behind a firewall that forgot the connection. While `refuses`, a new connection is reset.
    """

    def __init__(self, host: str, port: int, clock: Clock | None = None) -> None:
        self._upstream = (host, port)
        self._clock = clock or WallClock()
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.delay_s = 0.0
        self.is_silent = False
        self.refuses = False
        self.connections = 0  # ever accepted, the refused ones too

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for handler in list(self._handlers):
            handler.cancel()
        if self._handlers:
            await asyncio.wait(self._handlers)

    @property
    def port(self) -> int:
        """Where clients connect."""
        if self._server is None:
            raise RuntimeError("FaultyLine is used outside its `async with`")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def open_links(self) -> int:
        """Connections there are."""
        return len(self._links)

    def cut(self) -> None:
        """Reset every connection there is, at both ends."""
        for link in self._links:
            for writer in link:
                _reset(writer)

    def half_close(self) -> None:
        """End the server's half of every connection: clients see the end of the stream, the server sees nothing."""
        for client, _ in self._links:
            if client.can_write_eof():
                client.write_eof()

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if self.refuses or task is None:
            _reset(client)
            return
        self._handlers.add(task)
        try:
            await self._connect(reader, client)
        except asyncio.CancelledError:
            pass  # the line is taken down; asyncio's server would log the cancellation as an error
        finally:
            self._handlers.discard(task)
            client.close()

    async def _connect(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection(*self._upstream)
        except OSError:
            _reset(client)
            return
        link = (client, server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server))
                group.create_task(self._pump(answers, client))
        finally:
            self._links.discard(link)
            server.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction until its end, which is passed on."""
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.delay_s > 0:
                    await self._clock.sleep(self.delay_s)
                if not self.is_silent:
                    writer.write(data)
                    await writer.drain()
            if not self.is_silent and writer.can_write_eof():
                writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
