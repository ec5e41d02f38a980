"""Bytes of a file that may be anything, as blocks of whole lines; packed files are unpacked on the way."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from simulations.errors import TraceError

BLOCK_BYTES = 4_000_000  # about 100,000 rows of Azure's: enough for numpy to pay, little to hold
LINE_BYTES_MAX = 4_000_000  # a prompt of a million tokens in blocks of 16 has ids of half a megabyte
WHOLE_BYTES_MAX = 1_000_000_000  # a JSON document is one value and cannot be streamed
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole lines, and the number of the first of them."""

    first_line: int
    data: bytes


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes; every way in which reading can fail is a TraceError."""
    try:
        with path.open("rb") as raw:
            magic = raw.read(len(ZSTD_MAGIC))
            raw.seek(0)
            if magic == ZSTD_MAGIC:
                raise TraceError(path, "expected text or gzip, got Zstandard; unpack it first: zstd -d")
            if magic.startswith(GZIP_MAGIC):
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked  # type: ignore[misc]  # a GzipFile reads as any binary file does
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise TraceError(path, f"expected a whole gzip file: {exc}") from exc
    except OSError as exc:
        raise TraceError(path, f"cannot be read: {exc.strerror}") from exc


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
    with opened(path) as file:
        line, rest = 1, file.read(len(UTF8_MARK)).removeprefix(UTF8_MARK)
        while read := file.read(block_bytes):
            end = read.rfind(b"\n") + 1
            if end:
                data = rest + read[:end]
                yield Block(line, data)
                line, rest = line + data.count(b"\n"), read[end:]
            else:
                rest += read
            if len(rest) > LINE_BYTES_MAX:
                raise TraceError(path, f"expected a line of text of at most {LINE_BYTES_MAX:,} bytes", line=line)
        if rest:
            yield Block(line, rest)
