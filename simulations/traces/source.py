"""Bytes of a file that may be anything, as blocks of whole lines; packed files are unpacked on the way."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from simulations.errors import TraceError

BLOCK_BYTES = 4_000_000  # about 100,000 rows of Azure's: enough for numpy to pay, little to hold
LINE_BYTES_MAX = 4_000_000  # a prompt of a million tokens in blocks of 16 has ids of half a megabyte
WHOLE_BYTES_MAX = 1_000_000_000  # a JSON document is one value and cannot be streamed
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
UNPACKED_BYTES = 64 * 1024  # at once: what was unpacked before a fault must not be lost with it
BROKEN = (OSError, EOFError, zlib.error)  # a BadGzipFile is an OSError, as are all faults of Zstandard
UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole lines, and the number of the first of them."""

    first_line: int
    data: bytes


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The unpacked bytes; every way in which reading can fail is a TraceError."""
    try:
        with path.open("rb") as raw:
            magic = raw.peek(len(ZSTD_MAGIC))
            if magic.startswith(ZSTD_MAGIC):
                yield _unpacked_zstd(raw)
            elif magic.startswith(GZIP_MAGIC):
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast("io.BufferedReader", unpacked)  # it reads as one
            else:
                yield raw
    except BROKEN as exc:
        raise _refused(path, exc) from exc


def _unpacked_zstd(raw: io.BufferedReader) -> io.BufferedReader:
    import pyarrow as pa  # half a second, for the few whose traces are packed so

    unpacked = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
    return io.BufferedReader(unpacked, UNPACKED_BYTES)


def _refused(path: Path, exc: BaseException, *, line: int | None = None) -> TraceError:
    """Why bytes could not be had; `line` is the first that is not there."""
    strerror = getattr(exc, "strerror", None)
    said = f"cannot be read: {strerror}" if strerror else f"expected a whole packed file: {exc}"
    return TraceError(path, said, line=line)


def first_line(path: Path) -> bytes:
    """The first line that is not blank, without its end; at most LINE_BYTES_MAX of it."""
    with opened(path) as file:
        for _ in range(100):  # blank lines above a header
            line = file.readline(LINE_BYTES_MAX).removeprefix(UTF8_MARK)
            if not line or line.strip():
                return line.strip()
    return b""


def whole(path: Path) -> bytes:
    """All bytes of a document."""
    with opened(path) as file:
        data = file.read(WHOLE_BYTES_MAX + 1)
    if len(data) > WHOLE_BYTES_MAX:
        raise TraceError(path, f"expected at most {WHOLE_BYTES_MAX:,} bytes of JSON")
    return data.removeprefix(UTF8_MARK)


def blocks(path: Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file's lines in blocks; the last line of the last block may lack its end."""
    line, rest = 1, b""
    with opened(path) as file:
        try:
            for read in _pieces(file, block_bytes):
                end = read.rfind(b"\n") + 1
                if end:
                    data = rest + read[:end]
                    yield Block(line, data)
                    line, rest = line + data.count(b"\n"), read[end:]
                else:
                    rest += read
                if len(rest) > LINE_BYTES_MAX:
                    raise TraceError(path, f"expected a line of text of at most {LINE_BYTES_MAX:,} bytes", line=line)
        except BROKEN as exc:
            raise _refused(path, exc, line=line) from exc
    if rest:
        yield Block(line, rest)


def _pieces(file: io.BufferedReader, piece_bytes: int) -> Iterator[bytes]:
    """The bytes after a mark of UTF-8; what came before a failure is given before it is raised."""
    parts = [file.read(len(UTF8_MARK)).removeprefix(UTF8_MARK)]
    bite_bytes = min(UNPACKED_BYTES, piece_bytes)
    try:
        while read := file.read1(bite_bytes):
            parts.append(read)
            if len(parts) * bite_bytes >= piece_bytes and sum(map(len, parts)) >= piece_bytes:
                yield b"".join(parts)
                parts = []
    except BROKEN:
        yield b"".join(parts)
        raise
    yield b"".join(parts)
