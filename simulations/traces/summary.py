"""What a trace looks like, in figures that do not grow with it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from simulations.traces.chunk import NOBODY, Blocks, Callers, Chunk, Longs

MINUTE_S = 60.0
MINUTES_MAX = 10_000_000  # nineteen years
BLOCK_IDS_MAX = 20_000_000  # distinct ones that are remembered; past that sharing is not counted on
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFigures:
    """Of prompts, or of answers."""

    mean: float
    p50: int
    p95: int
    p99: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of a whole trace."""

    requests: int
    span_s: float
    requests_per_s: float
    peak_minute_to_mean: float
    gap_variation: float  # standard deviation of the gaps between requests ÷ their mean; 1 of a Poisson process
    prompt: TokenFigures
    output: TokenFigures
    empty_requests: int  # without prompt or answer: no server takes them
    shared_block_ratio: float | None  # of prompt blocks, those that stood in an earlier prompt; None: no blocks
    sessions: int  # conversations; 0: the trace names none
    session_requests: int  # of them all
    adapters: int


class Tally:
    """Counts while a trace goes by."""

    def __init__(self) -> None:
        self.per_minute: Longs = np.zeros(0, np.int64)
        self._requests = self._empty = 0
        self._last_s = self._gap_sum = self._gap_squares = 0.0
        self._prompts: Longs = np.zeros(1, np.int64)
        self._outputs: Longs = np.zeros(1, np.int64)
        self._known_ids: set[int] = set()
        self._blocks = self._shared = 0
        self._sessions: set[int] = set()
        self._adapters: set[int] = set()
        self._session_requests = 0

    @property
    def requests(self) -> int:
        """So far."""
        return self._requests

    def add(self, chunk: Chunk) -> None:
        """The next requests."""
        gaps_s = np.diff(chunk.at_s, prepend=self._last_s if self._requests else chunk.at_s[0])
        self._gap_sum += float(gaps_s.sum())
        self._gap_squares += float((gaps_s**2).sum())
        self._last_s = float(chunk.at_s[-1])
        minutes = np.minimum(chunk.at_s // MINUTE_S, MINUTES_MAX).astype(np.int64)
        self.per_minute = _added(self.per_minute, minutes)
        self._prompts = _added(self._prompts, chunk.prompt_tokens.astype(np.int64))
        self._outputs = _added(self._outputs, chunk.output_tokens.astype(np.int64))
        self._empty += int(((chunk.prompt_tokens == 0) | (chunk.output_tokens == 0)).sum())
        self._requests += len(chunk)
        if chunk.blocks is not None:
            self._count_shared(chunk.blocks)
        if chunk.callers is not None:
            self._count_callers(chunk.callers)

    def summary(self) -> Summary:
        """What was counted; there must have been a request."""
        gaps = max(1, self._requests - 1)
        gap_mean = self._gap_sum / gaps
        variance = max(0.0, self._gap_squares / gaps - gap_mean**2)
        mean_per_minute = self._requests / max(1.0, self._last_s / MINUTE_S)
        return Summary(
            requests=self._requests,
            span_s=self._last_s,
            requests_per_s=self._requests / self._last_s if self._last_s else math.inf,
            peak_minute_to_mean=float(self.per_minute.max()) / mean_per_minute,
            gap_variation=math.sqrt(variance) / gap_mean if gap_mean else 0.0,
            prompt=_figures(self._prompts),
            output=_figures(self._outputs),
            empty_requests=self._empty,
            shared_block_ratio=self._shared / self._blocks if self._blocks else None,
            sessions=len(self._sessions),
            session_requests=self._session_requests,
            adapters=len(self._adapters),
        )

    def _count_callers(self, callers: Callers) -> None:
        known = callers.sessions[callers.sessions != NOBODY]
        if len(self._sessions) <= BLOCK_IDS_MAX:
            self._sessions.update(np.unique(known).tolist())
        self._session_requests += len(known)
        self._adapters.update(np.unique(callers.adapters[callers.adapters != NOBODY]).tolist())

    def _count_shared(self, blocks: Blocks) -> None:
        if len(self._known_ids) > BLOCK_IDS_MAX:
            return
        ids = blocks.ids.tolist()
        distinct = set(ids)
        self._shared += len(ids) - len(distinct - self._known_ids)
        self._blocks += len(ids)
        self._known_ids |= distinct


def summarise(chunks: Iterable[Chunk], tally: Tally | None = None) -> Tally:
    """Count all of them; who gives the tally has what was counted when the reading is broken off."""
    tally = tally or Tally()
    for chunk in chunks:
        tally.add(chunk)
    return tally


def _added(counts: Longs, values: Longs) -> Longs:
    more = np.bincount(values, minlength=len(counts)).astype(np.int64)
    more[: len(counts)] += counts
    return more


def _figures(counts: Longs) -> TokenFigures:
    """From counts of each number of tokens: exact, and small."""
    cumulated = np.cumsum(counts)
    total = int(cumulated[-1])
    p50, p95, p99 = (int(np.searchsorted(cumulated, math.ceil(total * share))) for share in QUANTILES)
    mean = float((counts * np.arange(len(counts))).sum() / total)
    return TokenFigures(mean=mean, p50=p50, p95=p95, p99=p99, most=len(counts) - 1)
