"""Names of the KV blocks of many requests: equal names are equal content, so that requests share blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Names = NDArray[np.int64]
STREAM_BITS = 22  # of a block's place in a stream: 4 million blocks are 67 million tokens of 16 a block


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockNames:
    """The leading full blocks of each request, prompt and then answer: `names[starts[n]:starts[n + 1]]` for request n.

    A name stands for a block and all before it, as vLLM's hash chain does. Blocks without one are a request's own.
    """

    names: Names
    starts: Names  # one more than there are requests

    def __post_init__(self) -> None:
        if not len(self.starts) or self.starts[0] != 0 or self.starts[-1] != len(self.names):
            raise ValueError(f"BlockNames.starts must lead from 0 to {len(self.names)}, the number of names")
        if (np.diff(self.starts) < 0).any():
            raise ValueError("BlockNames.starts must not fall")

    @property
    def requests(self) -> int:
        """How many these are the names of."""
        return len(self.starts) - 1

    def of(self, request: int) -> tuple[int, ...]:
        """Names of one request."""
        return tuple(self.names[self.starts[request] : self.starts[request + 1]].tolist())

    def part(self, first: int, last: int) -> "BlockNames":
        """Names of the requests from first to before last."""
        starts = self.starts[first : last + 1]
        return BlockNames(names=self.names[starts[0] : starts[-1]], starts=starts - starts[0])


def names_of(lists: Sequence[Sequence[int]]) -> BlockNames:
    """From a list per request."""
    flat = np.array([name for names in lists for name in names], dtype=np.int64)
    return BlockNames(names=flat, starts=_starts(np.array([len(names) for names in lists], dtype=np.int64)))


def names_of_chunks(lists: Sequence[Sequence[int]], blocks_per_chunk: int) -> BlockNames:
    """Ids of longer pieces, such as Mooncake's `hash_ids` of 512 tokens: each names so many blocks."""
    coarse = names_of(lists)
    within = np.arange(blocks_per_chunk, dtype=np.int64)
    names = (coarse.names[:, None] * blocks_per_chunk + within).ravel()
    return BlockNames(names=names, starts=coarse.starts * blocks_per_chunk)


def names_of_streams(streams: Names, blocks: Names) -> BlockNames:
    """Requests that begin with the first so many blocks of a stream: a conversation so far, or a system prompt.

    What no other of these requests has stays without names, which changes nothing and is faster.
    """
    blocks = np.minimum(blocks, _most_of_others(streams, blocks))
    starts = _starts(blocks)
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], blocks)
    return BlockNames(names=np.repeat(streams << STREAM_BITS, blocks) + within, starts=starts)


def _most_of_others(streams: Names, blocks: Names) -> Names:
    """How much of its stream any other request has, at most."""
    order = np.lexsort((blocks, streams))
    same = streams[order][1:] == streams[order][:-1]
    most = np.zeros(len(order), np.int64)
    # Within a stream, the longest meets the second longest; all others meet the longest.
    most[order] = np.iinfo(np.int64).max
    is_last = np.append(~same, True)
    runner_up = np.append(0, np.where(same, blocks[order][:-1], 0))
    most[order[is_last]] = runner_up[is_last]
    return most


def _starts(counts: Names) -> Names:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
