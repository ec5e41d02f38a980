"""Prompts that begin alike: how a trace's conversations go on, and conversations made to go on so.

In Mooncake's trace every prompt begins with the same block (the system's), and a third of them are a further turn
of a conversation: they begin with nearly all that the turn before had. A turn comes some minutes after the last.
"""

from collections import OrderedDict
from dataclasses import dataclass, fields
from itertools import count

import numpy as np

from simulations.traces.chunk import Blocks, Chunk, Floats, Longs
from simulations.traffic import shipped_figures

OPEN_TURNS_MAX = 4096  # latest turns that may be gone on with: older ones are past the longest pause
STEPS = tuple(step / 20 for step in range(21))
TURN_BLOCKS_MIN = 2  # what shares no more has the system's block in common, not a conversation
CAPACITIES = (3_000, 10_000, 30_000)  # blocks of a cache whose hits are among the known figures
LENGTH_BINS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixFigures:
    """How conversations go on. `known_hits` are shares of all blocks that LRU caches of CAPACITIES would have had."""

    source: str
    licence: str
    block_tokens: int
    length_edges: tuple[float, ...]  # tokens
    turn_ratios: tuple[float, ...]  # of prompts of each length, those that are a further turn
    pause_quantiles_s: tuple[float, ...]  # at STEPS: since the turn before
    share_quantiles: tuple[float, ...]  # at STEPS: of a further turn's blocks, those of the turn before
    known_hits: tuple[float, ...]
    known_shared_ratio: float


def load_prefixes(name: str) -> PrefixFigures:
    """Figures that ship with the package."""
    return PrefixFigures(**shipped_figures(name, (field.name for field in fields(PrefixFigures))))


def derive_prefixes(found: Chunk, source: str, licence: str) -> PrefixFigures:
    """The figures of a trace with block ids."""
    if found.blocks is None:
        raise ValueError("the trace has no block ids")
    lengths = np.diff(found.blocks.starts)
    shared, parents = _first_seen(found.blocks)
    is_turn = (shared >= TURN_BLOCKS_MIN) & (parents >= 0)
    edges = np.quantile(found.prompt_tokens, np.linspace(0, 1, LENGTH_BINS + 1))
    bins = np.clip(np.searchsorted(edges, found.prompt_tokens, side="right") - 1, 0, LENGTH_BINS - 1)
    pauses_s = (found.at_s - found.at_s[np.maximum(parents, 0)])[is_turn]
    return PrefixFigures(
        source=source,
        licence=licence,
        block_tokens=found.blocks.block_tokens,
        length_edges=tuple(edges.tolist()),
        turn_ratios=tuple(round(float(is_turn[bins == number].mean()), 4) for number in range(LENGTH_BINS)),
        pause_quantiles_s=_rounded(np.quantile(pauses_s, STEPS)),
        share_quantiles=_rounded(np.quantile((shared / lengths)[is_turn], STEPS)),
        known_hits=tuple(round(lru_hit_ratio(found.blocks, capacity), 4) for capacity in CAPACITIES),
        known_shared_ratio=round(float(shared.sum() / lengths.sum()), 4),
    )


def with_prefixes(drawn: Chunk, figures: PrefixFigures, rng: np.random.Generator) -> Chunk:
    """The same requests, with blocks: some go on with an earlier one, as often and as late as in the figures."""
    requests = len(drawn)
    lengths = -(-drawn.prompt_tokens.astype(np.int64) // figures.block_tokens)
    bins = np.searchsorted(figures.length_edges, drawn.prompt_tokens, side="right") - 1
    turn_ratios = np.array(figures.turn_ratios)[np.clip(bins, 0, len(figures.turn_ratios) - 1)]
    is_turn = rng.random(requests) < turn_ratios
    pauses_s = np.interp(rng.random(requests), STEPS, figures.pause_quantiles_s)
    shares = np.interp(rng.random(requests), STEPS, figures.share_quantiles)
    table = _Turns(drawn.at_s, lengths)
    for number in range(requests):
        wanted = max(1, round(shares[number] * lengths[number])) if is_turn[number] else 0
        table.add(number, wanted, pauses_s[number])
    blocks = Blocks(
        ids=np.concatenate(table.ids) if table.ids else np.zeros(0, np.int64),
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        block_tokens=figures.block_tokens,
    )
    return Chunk(at_s=drawn.at_s, prompt_tokens=drawn.prompt_tokens, output_tokens=drawn.output_tokens, blocks=blocks)


class _Turns:
    """Prompts' blocks as they are made. Block 0 is everyone's first."""

    def __init__(self, at_s: Floats, lengths: Longs) -> None:
        self.ids: list[Longs] = []
        self._at_s, self._lengths = at_s, lengths
        self._open: list[int] = []  # turns that nobody has gone on with, oldest first
        self._fresh = count(1)

    def add(self, number: int, wanted: int, pause_s: float) -> None:
        """The next prompt: after the open turn that is nearest in age and length, or a new conversation."""
        length = int(self._lengths[number])
        parent = self._nearest(number, wanted, pause_s) if wanted else None
        begin = np.zeros(min(1, length), np.int64)
        if parent is not None:
            self._open.remove(parent)
            begin = self.ids[parent][: min(wanted, length, len(self.ids[parent]))]
        fresh = [next(self._fresh) for _ in range(length - len(begin))]
        self.ids.append(np.concatenate([begin, np.array(fresh, np.int64)]))
        self._open.append(number)
        del self._open[:-OPEN_TURNS_MAX]

    def _nearest(self, number: int, wanted: int, pause_s: float) -> int | None:
        if not self._open:
            return None
        candidates = np.array(self._open)
        ages_s = np.maximum(self._at_s[number] - self._at_s[candidates], 1.0)
        # A factor in length weighs as much as the same factor in time; who is too short cannot be the turn before.
        distance = np.abs(np.log(ages_s / max(pause_s, 1.0)))
        distance += np.abs(np.log(self._lengths[candidates] / wanted)) * np.where(
            self._lengths[candidates] < wanted, 4.0, 1.0
        )
        return int(candidates[distance.argmin()])


def lru_hit_ratio(blocks: Blocks, capacity: int) -> float:
    """The share of blocks that a cache of so many would have had; only whole prefixes hit, as in vLLM."""
    cache: OrderedDict[int, None] = OrderedDict()
    ids, hits = blocks.ids.tolist(), 0
    for begin, end in zip(blocks.starts[:-1].tolist(), blocks.starts[1:].tolist(), strict=True):
        is_prefix = True
        for one in ids[begin:end]:
            is_prefix = is_prefix and one in cache
            hits += is_prefix
            cache[one] = None
            cache.move_to_end(one)
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits / max(1, len(ids))


def _first_seen(blocks: Blocks) -> tuple[Longs, Longs]:
    """Of each prompt: how many of its first blocks stood in an earlier one, and the latest that had all of these."""
    requests = len(blocks.starts) - 1
    shared, parents = np.zeros(requests, np.int64), np.full(requests, -1)
    last: dict[int, int] = {}
    for number in range(requests):
        ids = blocks.ids[blocks.starts[number] : blocks.starts[number + 1]].tolist()
        for one in ids:
            if one not in last:
                break
            shared[number] += 1
            parents[number] = last[one]
        last.update(dict.fromkeys(ids, number))
    return shared, parents


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
