"""The JSON that `vllm bench serve --save-result --save-detailed` writes: one list per column."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from simulations.errors import TraceError
from simulations.traces.chunk import NS, Chunk
from simulations.traces.jsonl import Place
from simulations.traces.source import whole

TIMES, PROMPTS, OUTPUTS = "start_times", "input_lens", "output_lens"
KEYS = (TIMES, PROMPTS, OUTPUTS)


def bench_chunks(path: Path) -> Iterator[Chunk]:
    """The requests of one run, in order of their start."""
    place = Place(path, None)
    found = place.parsed_object(whole(path))
    times, prompts, outputs = (_list(place, found, key) for key in KEYS)
    if not len(times) == len(prompts) == len(outputs):
        lengths = f"{len(times)}, {len(prompts)} and {len(outputs)}"
        raise TraceError(path, f"expected {', '.join(KEYS)} of one length, got {lengths}", column=TIMES)
    if not times:
        raise TraceError(path, "there is no request in the file", column=TIMES)
    at_ns = np.array([place.time_ns(f"{TIMES}[{i}]", value, NS) for i, value in enumerate(times)], np.int64)
    order = np.argsort(at_ns, kind="stable")
    yield Chunk(
        at_s=(at_ns[order] - at_ns.min()) / NS,
        prompt_tokens=_tokens(place, PROMPTS, prompts)[order],
        output_tokens=_tokens(place, OUTPUTS, outputs)[order],
    )


def _list(place: Place, found: Mapping[str, object], key: str) -> list[object]:
    value = found.get(key)
    if not isinstance(value, list):
        hint = "a list with one entry per request; record with `vllm bench serve --save-result --save-detailed`"
        place.refuse(key, hint, value)
    return value


def _tokens(place: Place, key: str, values: list[object]) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    return np.array([place.tokens(f"{key}[{index}]", value) for index, value in enumerate(values)], np.int32)
