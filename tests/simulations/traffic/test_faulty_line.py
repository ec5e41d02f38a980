"""The bad line: what goes through it, and each way it goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from simulations.cluster.faulty_line import FaultyLine

pytestmark = pytest.mark.cluster


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it gets."""
    try:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def line_to_echo() -> AsyncIterator[tuple[FaultyLine, asyncio.StreamReader, asyncio.StreamWriter]]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultyLine("127.0.0.1", server.sockets[0].getsockname()[1]) as line:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"first")
        assert await reader.readexactly(5) == b"first"
        yield line, reader, writer
        writer.close()


async def test_a_good_line_carries_both_directions_and_the_end() -> None:
    async with line_to_echo() as (line, reader, writer):
        writer.write_eof()

        assert await reader.read() == b""
        assert line.connections == 1


async def test_a_cut_resets_what_there_is_and_lets_the_next_one_in() -> None:
    async with line_to_echo() as (line, reader, _writer):
        line.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()

        _, again = await asyncio.open_connection("127.0.0.1", line.port)
        again.close()
        assert line.open_links == 0


async def test_a_half_closed_line_ends_the_answers_only() -> None:
    async with line_to_echo() as (line, reader, _writer):
        line.half_close()

        assert await reader.read() == b""
        assert line.open_links == 1


async def test_a_silent_line_swallows_and_tells_nobody() -> None:
    async with line_to_echo() as (line, reader, writer):
        line.is_silent = True
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)

        line.is_silent = False
        writer.write(b"heard")
        assert await reader.readexactly(5) == b"heard"


async def test_a_refusing_line_resets_new_connections() -> None:
    async with line_to_echo() as (line, _reader, _writer):
        line.refuses = True
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()

        writer.close()
        assert line.connections == 2


async def test_a_line_to_nowhere_resets() -> None:
    async with FaultyLine("127.0.0.1", 1) as line:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
