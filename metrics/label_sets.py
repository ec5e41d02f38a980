"""Label sets of vLLM's series, read once and remembered: what `le`, engine and cache configuration say. Pure."""

from collections import defaultdict
from functools import lru_cache
from math import inf, isfinite
from typing import NamedTuple

from metrics.errors import ExpositionError
from metrics.exposition import Labels, parse

# Pages repeat their label sets from scrape to scrape, so what was read is kept; sized for 600 services of
# different model names. Longer label sets are read anew each time, which bounds what is kept to some 100 MB at worst.
_LABELS_MEMO_ENTRIES = 16_384
_LABELS_MEMO_BYTES = 1_024
_MEMO_ENTRIES = 4_096
_MEMO_BYTES = 8_192


class Layout(NamedTuple):
    """What the `le` labels of a histogram's lines say, which one scrape after the other repeats."""

    bounds: tuple[float, ...]
    slots: tuple[int, ...] | None  # the bucket of each line, -1 for a repeated one; None: in order, one engine
    engines: int


def _read_labels(raw: bytes) -> Labels:
    try:
        (family,) = parse(b"x{" + raw + b"} 0\n")
    except ExpositionError as exc:
        raise ExpositionError(0, exc.what) from None
    return tuple(sorted(family.series[0].labels))


def _read_layout(raws: tuple[bytes, ...]) -> Layout:
    seen: set[Labels] = set()
    engines: defaultdict[Labels, set[float]] = defaultdict(set)
    places: list[float | None] = []
    for raw in raws:
        labels = _read_labels(raw)
        bound = _bound_of(labels)
        places.append(None if labels in seen else bound)
        seen.add(labels)
        engines[tuple(label for label in labels if label[0] != "le")].add(bound)
    first, *others = engines.values()
    if inf not in first or any(other != first for other in others):
        raise ExpositionError(0, f"it was cut, or engines disagree: buckets of {raws[0][:80]!r}")
    bounds = tuple(sorted(first))
    if tuple(places) == bounds:
        return Layout(bounds, None, 1)
    index = {bound: place for place, bound in enumerate(bounds)}
    return Layout(bounds, tuple(-1 if place is None else index[place] for place in places), len(engines))


def _bound_of(labels: Labels) -> float:
    try:
        bound = float(dict(labels)["le"])
    except (KeyError, ValueError):
        raise ExpositionError(0, f"a bucket without a numeric le: {labels!r}") from None
    if bound != bound:
        raise ExpositionError(0, f"a bucket with le NaN: {labels!r}")
    return bound


def _read_capacity(raw: bytes) -> float | None:
    """Tokens that one engine's KV cache holds; a value may be "None"."""
    labels = dict(_read_labels(raw))
    told = _positive(labels.get("kv_cache_size_tokens"))
    if told is not None:
        return told
    blocks, block_tokens = _positive(labels.get("num_gpu_blocks")), _positive(labels.get("block_size"))
    return None if blocks is None or block_tokens is None else blocks * block_tokens


def _positive(text: str | None) -> float | None:
    try:
        value = float(text) if text else 0.0
    except ValueError:
        return None
    return value if isfinite(value) and value > 0 else None


_labels_memo = lru_cache(maxsize=_LABELS_MEMO_ENTRIES)(_read_labels)
_layout_memo = lru_cache(maxsize=_MEMO_ENTRIES)(_read_layout)
_capacity_memo = lru_cache(maxsize=_MEMO_ENTRIES)(_read_capacity)


def labels_of(raw: bytes) -> Labels:
    return _labels_memo(raw) if len(raw) <= _LABELS_MEMO_BYTES else _read_labels(raw)


def layout_of(raws: tuple[bytes, ...]) -> Layout:
    return _layout_memo(raws) if sum(map(len, raws)) <= _MEMO_BYTES else _read_layout(raws)


def capacity_of(raw: bytes) -> float | None:
    return _capacity_memo(raw) if len(raw) <= _MEMO_BYTES else _read_capacity(raw)
