"""Traffic cut to size, chunk by chunk: windows, more or less of it, faster or slower, one after another.

Everything takes chunks in order of time and gives chunks in order of time; none holds a whole trace.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice

import numpy as np

from simulations.traces.chunk import TOKENS_MAX, Blocks, Callers, Chunk, Floats, Longs, Tokens, joined

COPY_SPREAD_S = 5.0  # a further copy of a request comes so much later at most: within the same wave
COPIES_MAX = 1000
COPY_SHIFT = 48  # bits: block ids of a copy are those of other conversations
MERGED_ROWS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many times as many requests, as fast a clock, as long prompts and answers."""

    rate_ratio: float = 1.0
    speed_ratio: float = 1.0
    prompt_ratio: float = 1.0
    output_ratio: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rate_ratio", "speed_ratio", "prompt_ratio", "output_ratio"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0 and finite, got {getattr(self, name):g}")
        if self.rate_ratio > COPIES_MAX:
            raise ValueError(f"rate_ratio must be at most {COPIES_MAX}, got {self.rate_ratio:g}")


def scaled(chunks: Iterable[Chunk], scale: Scale, rng: np.random.Generator) -> Iterator[Chunk]:
    """More, fewer, faster, longer, shorter. More are copies some seconds later, fewer an even choice."""
    repeated = chunks if scale.rate_ratio == 1 else _repeated(chunks, scale.rate_ratio, rng)
    for chunk in repeated:
        prompts = _stretched(chunk.prompt_tokens, scale.prompt_ratio)
        yield Chunk(
            at_s=chunk.at_s / scale.speed_ratio,
            prompt_tokens=prompts,
            output_tokens=_stretched(chunk.output_tokens, scale.output_ratio),
            blocks=None if chunk.blocks is None else _fitting(chunk.blocks, prompts),
            callers=None if chunk.callers is None else _faster(chunk.callers, scale.speed_ratio),
        )


def cut(chunks: Iterable[Chunk], begin_s: float, end_s: float) -> Iterator[Chunk]:
    """What comes at `begin_s` or later and before `end_s`, counted from `begin_s`."""
    for chunk in chunks:
        begin, end = np.searchsorted(chunk.at_s, (begin_s, end_s))
        if end > begin:
            yield chunk.between(begin, end).moved(-begin_s)
        if end < len(chunk):
            return


def spliced(parts: Iterable[tuple[Iterable[Chunk], float | None]], gap_s: float) -> Iterator[Chunk]:
    """One after another, `gap_s` apart; a part lasts as long as is said, else to its last request.

    No conversation of one part goes on in the next one.
    """
    begin_s = 0.0
    for number, (chunks, span_s) in enumerate(parts):
        last_s = 0.0
        for chunk in chunks:
            last_s = float(chunk.at_s[-1])
            callers = None if chunk.callers is None else chunk.callers.of_others(number)
            yield replace(chunk.moved(begin_s), callers=callers)
        begin_s += (last_s if span_s is None else span_s) + gap_s


def overlaid(parts: Sequence[Iterable[Chunk]]) -> Iterator[Chunk]:
    """All at once. Block ids and callers are dropped: those of two traces have nothing to do with each other."""
    rows = merge(*map(_rows, parts), key=lambda row: row[0])
    while some := list(islice(rows, MERGED_ROWS)):
        at_s, prompts, outputs = zip(*some, strict=True)
        yield Chunk(
            at_s=np.array(at_s), prompt_tokens=np.array(prompts, np.int32), output_tokens=np.array(outputs, np.int32)
        )


def by_period(chunks: Iterable[Chunk], period_s: float) -> Iterator[Chunk]:
    """The requests of each period of time, also of those that have none, up to the last request."""
    number = 0
    pending: list[Chunk] = []
    for chunk in chunks:
        rest = chunk
        while len(rest) and rest.at_s[-1] >= (number + 1) * period_s:
            inside = int(np.searchsorted(rest.at_s, (number + 1) * period_s))
            yield joined([*pending, rest.between(0, inside)])
            number, pending, rest = number + 1, [], rest.between(inside, len(rest))
        pending.append(rest)
    if any(map(len, pending)):
        yield joined(pending)


def resampled(chunks: Iterable[Chunk], period_s: float, rng: np.random.Generator) -> Iterator[Chunk]:
    """New requests like the old: each period a Poisson number of those it had, each near one of them in time.

    Waves longer than the period stay, as does what is long with what, and for which adapter; who comes when is
    another's luck, and nobody's conversation.
    """
    for number, period in enumerate(by_period(chunks, period_s)):
        requests = int(rng.poisson(len(period))) if len(period) else 0
        if not requests:
            continue
        drawn = period.take(rng.integers(0, len(period), requests))
        spread_s = min(COPY_SPREAD_S, period_s)
        at_s = drawn.at_s + rng.uniform(-spread_s, spread_s, requests)
        begin_s = number * period_s
        inside_s = begin_s + np.abs(at_s - begin_s)  # reflected at both ends: none leaves its period
        inside_s = np.minimum(inside_s, 2 * (begin_s + period_s) - inside_s)
        if drawn.callers is not None:
            drawn = replace(drawn, callers=replace(Callers.unknown(requests), adapters=drawn.callers.adapters))
        yield replace(drawn, at_s=inside_s).ordered()


def _repeated(chunks: Iterable[Chunk], ratio: float, rng: np.random.Generator) -> Iterator[Chunk]:
    """Each request `ratio` times on average; a fraction by systematic choice, which adds no waves of its own."""
    share, pending = rng.random(), joined([])
    for chunk in chunks:
        crossed = np.floor(share + ratio * np.arange(len(chunk) + 1)).astype(np.int64)
        share = (share + ratio * len(chunk)) % 1.0
        copies = np.diff(crossed)
        rows = np.repeat(np.arange(len(chunk)), copies)
        copy_of = np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies)
        added = _copied(chunk, rows, copy_of, rng)
        everything = (joined([pending, added]) if len(pending) else added).ordered()
        done = int(np.searchsorted(everything.at_s, chunk.at_s[-1], side="right"))
        pending = everything.between(done, len(everything))
        if done:
            yield everything.between(0, done)
    if len(pending):
        yield pending


def _copied(chunk: Chunk, rows: Longs, copy_of: Longs, rng: np.random.Generator) -> Chunk:
    taken = chunk.take(rows)
    later_s: Floats = np.where(copy_of > 0, rng.uniform(0.0, COPY_SPREAD_S, len(rows)), 0.0)
    blocks = taken.blocks
    if blocks is not None:
        ids = blocks.ids + (np.repeat(copy_of, np.diff(blocks.starts)) << COPY_SHIFT)
        blocks = replace(blocks, ids=ids)
    callers = None if taken.callers is None else taken.callers.of_others(copy_of)
    return replace(taken, at_s=taken.at_s + later_s, blocks=blocks, callers=callers)


def _stretched(tokens: Tokens, ratio: float) -> Tokens:
    """Nothing stays nothing; anything else stays at least one token."""
    if ratio == 1:
        return tokens
    longer: Tokens = np.clip(np.rint(tokens * ratio), np.minimum(tokens, 1), TOKENS_MAX).astype(np.int32)
    return longer


def _faster(callers: Callers, ratio: float) -> Callers:
    """Whose answers were as much faster as they ask."""
    return replace(callers, took_s=callers.took_s / ratio)


def _fitting(blocks: Blocks, prompts: Tokens) -> Blocks:
    """No more blocks than the prompt has tokens for."""
    most = -(-prompts.astype(np.int64) // blocks.block_tokens)
    return blocks.take_first(np.arange(len(prompts)), np.minimum(np.diff(blocks.starts), most))


def _rows(chunks: Iterable[Chunk]) -> Iterator[tuple[float, int, int]]:
    for chunk in chunks:
        yield from zip(chunk.at_s.tolist(), chunk.prompt_tokens.tolist(), chunk.output_tokens.tolist(), strict=True)
