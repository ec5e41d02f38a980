"""What every reader gives: columns of some requests at a time."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tokens = NDArray[np.int32]
Longs = NDArray[np.int64]

TOKENS_MAX = 10_000_000  # ten times the longest context sold today; beyond that a column is mixed up
SECONDS_MAX = 4_000_000_000  # as a time of day: the year 2096; int64 holds it in nanoseconds twice over
NS = 1_000_000_000
NOBODY = -1  # instead of the number of a conversation or of an adapter


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Blocks:
    """Which blocks of tokens each prompt begins with; equal ids mean equal tokens, and equal ones before them.

    Request i has `ids[starts[i]:starts[i + 1]]`, `block_tokens` tokens each but the last, which may be part-filled.
    """

    ids: Longs
    starts: Longs
    block_tokens: int

    def take(self, rows: Longs) -> "Blocks":
        """Those of the requests of these numbers."""
        return self.take_first(rows, np.diff(self.starts)[rows])

    def take_first(self, rows: Longs, lengths: Longs) -> "Blocks":
        """Of each of these requests its first so many blocks, which must be there."""
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        places = np.arange(starts[-1]) + np.repeat(self.starts[:-1][rows] - starts[:-1], lengths)
        return Blocks(ids=self.ids[places], starts=starts, block_tokens=self.block_tokens)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Callers:
    """Who asked, where the trace says so: equal numbers are one conversation, one LoRA adapter; NOBODY: none said."""

    sessions: Longs
    took_s: Floats  # from the request to the end of its answer, as recorded; NaN where nobody noted it
    adapters: Longs

    @staticmethod
    def unknown(requests: int) -> "Callers":
        """Of requests of which nothing is said."""
        nobody = np.full(requests, NOBODY, np.int64)
        return Callers(sessions=nobody, took_s=np.full(requests, np.nan), adapters=nobody)

    def take(self, rows: Longs) -> "Callers":
        """Those of the requests of these numbers."""
        return Callers(sessions=self.sessions[rows], took_s=self.took_s[rows], adapters=self.adapters[rows])

    def of_others(self, number: Longs | int) -> "Callers":
        """The same conversations led by somebody else, another one for each number; by the same for 0."""
        other = (self.sessions ^ (number * _SCATTER & _SESSION_MASK)) & _SESSION_MASK
        return replace(self, sessions=np.where(self.sessions == NOBODY, NOBODY, other))


_SCATTER = 0x1E3779B97F4A7C15  # odd, bits all over: what differs in a copy's number differs everywhere
_SESSION_MASK = (1 << 62) - 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Chunk:
    """Some requests in order of time; times count from the first request of the trace."""

    at_s: Floats
    prompt_tokens: Tokens
    output_tokens: Tokens
    blocks: Blocks | None = None
    callers: Callers | None = None  # of nobody

    def __len__(self) -> int:
        return len(self.at_s)

    def between(self, begin: int, end: int) -> "Chunk":
        """Consecutive requests."""
        return self.take(np.arange(begin, end))

    def take(self, rows: Longs) -> "Chunk":
        """The requests of these numbers, in this order."""
        return Chunk(
            at_s=self.at_s[rows],
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            blocks=None if self.blocks is None else self.blocks.take(rows),
            callers=None if self.callers is None else self.callers.take(rows),
        )

    def moved(self, by_s: float) -> "Chunk":
        """The same requests at another time."""
        return replace(self, at_s=self.at_s + by_s)

    def ordered(self) -> "Chunk":
        """The same in order of time; those of one moment stay as they were."""
        return self.take(np.argsort(self.at_s, kind="stable"))


def joined(chunks: "list[Chunk]") -> Chunk:
    """All of them as one; an empty one for none. Block ids are kept where every chunk has them."""
    if not chunks:
        return Chunk(at_s=np.zeros(0), prompt_tokens=np.zeros(0, np.int32), output_tokens=np.zeros(0, np.int32))
    return Chunk(
        at_s=np.concatenate([chunk.at_s for chunk in chunks]),
        prompt_tokens=np.concatenate([chunk.prompt_tokens for chunk in chunks]),
        output_tokens=np.concatenate([chunk.output_tokens for chunk in chunks]),
        blocks=_joined_blocks([chunk.blocks for chunk in chunks]),
        callers=_joined_callers(chunks),
    )


def _joined_callers(chunks: "list[Chunk]") -> Callers | None:
    if all(chunk.callers is None for chunk in chunks):
        return None
    parts = [chunk.callers or Callers.unknown(len(chunk)) for chunk in chunks]
    return Callers(
        sessions=np.concatenate([part.sessions for part in parts]),
        took_s=np.concatenate([part.took_s for part in parts]),
        adapters=np.concatenate([part.adapters for part in parts]),
    )


def _joined_blocks(parts: list[Blocks | None]) -> Blocks | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    lengths = np.concatenate([np.diff(part.starts) for part in known])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    ids = np.concatenate([part.ids for part in known])
    return Blocks(ids=ids, starts=starts, block_tokens=known[0].block_tokens)
