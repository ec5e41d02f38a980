"""Who gets the next request: what a gateway knows of the replicas, and how it chooses.

`PREFIX_AWARE` is the endpoint picker of the Gateway API inference extension as its chart and llm-d set it up: three
scorers with weights 3, 2, 2. Its prefix scorer does not know what a replica has in its cache: it keeps, for each, an
LRU index of the prompt blocks that it has sent there, of as many as the replica has (`autoTune`), and looks for the
longest beginning among the first 256 (`maxPrefixBlocksToMatch`). Queue and KV use are those of the moment: it scrapes
every 50 ms. Of equals the endpoint picker takes any; here it is the least busy, then the first.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum

MATCHED_BLOCKS_MAX = 256
PREFIX_WEIGHT, QUEUE_WEIGHT, KV_WEIGHT = 3.0, 2.0, 2.0


class Router(Enum):
    """How a gateway chooses."""

    LEAST_OUTSTANDING = "least-outstanding"  # the first of those with the fewest
    ROUND_ROBIN = "round-robin"
    PREFIX_AWARE = "prefix-aware"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A replica that could take a request."""

    slot: int
    outstanding: int
    waiting: int
    kv_usage_ratio: float


class PrefixIndex:
    """Blocks that were sent to one replica, the latest sent last; the oldest are forgotten."""

    def __init__(self, capacity_blocks: int) -> None:
        self._capacity_blocks = capacity_blocks
        self._blocks: OrderedDict[Hashable, int] = OrderedDict()  # a name, or what a request alone has: so many
        self._total = 0

    def matched(self, names: Sequence[Hashable]) -> int:
        """Of these, in order, how many were sent."""
        for count, name in enumerate(names):
            if name not in self._blocks:
                return count
        return len(names)

    def add(self, key: Hashable, blocks: int) -> None:
        """Sent now."""
        self._total += blocks - self._blocks.pop(key, 0)
        self._blocks[key] = blocks
        while self._total > self._capacity_blocks:
            oldest, held = next(iter(self._blocks.items()))
            dropped = min(held, self._total - self._capacity_blocks)
            self._total -= dropped
            if dropped == held:
                del self._blocks[oldest]
            else:
                self._blocks[oldest] = held - dropped


class Gateway:
    """Chooses, and remembers what it needs for the next choice."""

    def __init__(self, router: Router, capacities_blocks: Sequence[int], *, block_size_tokens: int) -> None:
        self._router, self._size = router, block_size_tokens
        self._last_turn = -1
        self._indexes = [PrefixIndex(capacity) for capacity in capacities_blocks]  # of each slot

    def choose(self, number: int, prompt_tokens: int, names: Sequence[Hashable], serving: Sequence[Candidate]) -> int:
        """The slot for a request."""
        blocks = min(prompt_tokens // self._size, MATCHED_BLOCKS_MAX)
        shared = tuple(names[:blocks])
        if self._router is Router.ROUND_ROBIN:
            chosen = min(serving, key=lambda one: (one.slot - self._last_turn - 1) % len(self._indexes))
        elif self._router is Router.LEAST_OUTSTANDING:
            chosen = min(serving, key=lambda one: one.outstanding)
        else:
            scores = {one.slot: self._score(one, shared, blocks, serving) for one in serving}
            chosen = min(serving, key=lambda one: (-scores[one.slot], one.outstanding))
            self._remember(chosen.slot, number, shared, blocks)
        self._last_turn = chosen.slot
        return chosen.slot

    def _score(self, one: Candidate, shared: Sequence[Hashable], blocks: int, serving: Sequence[Candidate]) -> float:
        fewest, most = min(other.waiting for other in serving), max(other.waiting for other in serving)
        queue = 1.0 if most == fewest else (most - one.waiting) / (most - fewest)
        prefix = self._indexes[one.slot].matched(shared) / blocks if blocks else 0.0
        return PREFIX_WEIGHT * prefix + QUEUE_WEIGHT * queue + KV_WEIGHT * (1.0 - one.kv_usage_ratio)

    def _remember(self, slot: int, number: int, shared: Sequence[Hashable], blocks: int) -> None:
        for name in shared:
            self._indexes[slot].add(name, 1)
        if blocks > len(shared):
            self._indexes[slot].add(("own", number), blocks - len(shared))
