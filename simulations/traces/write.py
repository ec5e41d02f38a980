"""Traces written in formats that others read: whole or not at all."""

import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from simulations.errors import TraceError
from simulations.traces.chunk import NOBODY, Blocks, Chunk
from simulations.traces.jsonl import LINES

AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
VIDUR_HEADER = "arrived_at,num_prefill_tokens,num_decode_tokens\n"
AZURE_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday: a trace says when it began only to its own second 0
[MOONCAKE_TOKENS] = [lines.block_tokens for lines in LINES if lines.name == "mooncake"]


class Sink(Protocol):
    """A file that is written."""

    def write(self, data: bytes, /) -> object: ...


def write_trace(chunks: Iterable[Chunk], path: Path, format_name: str) -> int:
    """Write all requests, packed where the name ends in .gz or .zst, and say how many; TraceError."""
    written = path.with_name(f".{path.name}.{os.getpid()}.part")
    requests = 0
    try:
        with _created(written, path.suffix) as file:
            file.write(HEADERS.get(format_name, "").encode())
            for chunk in chunks:
                requests += len(chunk)
                for line in WRITERS[format_name](path, chunk):
                    file.write(line.encode())
        written.replace(path)
    except OSError as exc:
        raise TraceError(path, f"cannot be written: {exc.strerror}") from exc
    finally:
        written.unlink(missing_ok=True)
    return requests


def left_out(chunk: Chunk, format_name: str) -> Iterator[str]:
    """What of it a format has no place for, in a sentence each."""
    if format_name != "mooncake":
        if chunk.blocks is not None:
            yield f"{format_name} has no blocks: what prompts share was left out (--to mooncake keeps it)"
        if chunk.callers is not None:
            yield f"{format_name} has no conversations or adapters: they were left out (--to mooncake keeps them)"
    elif chunk.callers is not None and not np.isnan(chunk.callers.took_s).all():
        yield "mooncake does not say how long answers took: who comes again will seem to have thought as long, too"


def _created(path: Path, suffix: str) -> AbstractContextManager[Sink]:
    if suffix == ".gz":
        return gzip.GzipFile(path, "wb", mtime=0)
    if suffix == ".zst":
        import pyarrow as pa  # half a second, for the few whose traces are packed so

        packed: AbstractContextManager[Sink] = pa.CompressedOutputStream(str(path), "zstd")
        return packed
    return path.open("wb")


def _azure(path: Path, chunk: Chunk) -> Iterator[str]:
    del path
    for at_s, prompt, output in _rows(chunk):
        moment = AZURE_BEGIN + timedelta(microseconds=round(at_s * 1e6))
        yield f"{moment:%Y-%m-%d %H:%M:%S.%f}0,{prompt},{output}\n"


def _vidur(path: Path, chunk: Chunk) -> Iterator[str]:
    del path
    for at_s, prompt, output in _rows(chunk):
        yield f"{at_s:.6f},{prompt},{output}\n"


def _mooncake(path: Path, chunk: Chunk) -> Iterator[str]:
    for number, (at_s, prompt, output) in enumerate(_rows(chunk)):
        row: dict[str, object] = {"timestamp": round(at_s * 1000), "input_length": prompt, "output_length": output}
        if chunk.blocks is not None:
            begin, end = chunk.blocks.starts[number : number + 2]
            row["hash_ids"] = _coarser(path, chunk.blocks, chunk.blocks.ids[begin:end].tolist())
        if chunk.callers is not None:
            for key, numbers in (("session_id", chunk.callers.sessions), ("adapter", chunk.callers.adapters)):
                row |= {key: str(numbers[number])} if numbers[number] != NOBODY else {}
        yield json.dumps(row) + "\n"


def _coarser(path: Path, blocks: Blocks, ids: list[int]) -> list[int]:
    """Ids of blocks of MOONCAKE_TOKENS: the last of the smaller ones stands for all before it, as each id does."""
    smaller, odd = divmod(MOONCAKE_TOKENS, blocks.block_tokens)
    if odd:
        raise TraceError(path, f"mooncake has blocks of {MOONCAKE_TOKENS} tokens, not of {blocks.block_tokens}")
    return [*ids[smaller - 1 :: smaller], *(ids[-1:] if len(ids) % smaller else ())]


def _rows(chunk: Chunk) -> Iterator[tuple[float, int, int]]:
    yield from zip(chunk.at_s.tolist(), chunk.prompt_tokens.tolist(), chunk.output_tokens.tolist(), strict=True)


HEADERS = {"azure": AZURE_HEADER, "vidur": VIDUR_HEADER}
WRITERS: dict[str, Callable[[Path, Chunk], Iterator[str]]] = {"azure": _azure, "mooncake": _mooncake, "vidur": _vidur}
