"""The recent samples of one pod, bounded, and what they say: newest gauges, rates, histogram increases.

A counter's increase is Prometheus' `increase` without extrapolation: where it fell, the process
restarted and counts from 0. Samples older than the newest, or as old, are ignored.
Memory is bounded by thinning, not by forgetting: of samples closer together than
`keep_s / samples_max` only the newest stays, so a pod costs about 18 kB, and rates between two
samples stay exact.
"""

from array import array
from collections import deque
from math import isnan, nan
from operator import add
from typing import NamedTuple

from metrics.quantile import has_restarted
from metrics.sample import EngineSample, Histogram, PodSignals

KEEP_S = 90.0  # longer than the slowest lens looks back
SAMPLES_MAX = 16  # one per 6 s: 5,000 pods then fit the controller's memory

_COUNTERS = (
    "prompt_tokens_total",
    "computed_prompt_tokens_total",
    "generation_tokens_total",
    "prefix_cache_queried_tokens_total",
    "prefix_cache_hit_tokens_total",
    "preemptions_total",
    "finished_requests_total",
    "rejected_requests_total",
    "iterations_total",
    "iteration_tokens_total",
)
_HISTOGRAMS = ("ttft_s", "itl_s", "queue_time_s")
_PROGRESS = ("iterations_total", "generation_tokens_total", "prompt_tokens_total")


class _Entry(NamedTuple):
    """One sample as running totals that never fall: the counters, then each histogram's counts and sum.

    One array, since memory counts here. NaN, here only, stands for what was not on the page.
    """

    at_s: float
    totals: "array[float]"


class Window:
    """Samples of one pod over the last `keep_s` seconds."""

    def __init__(self, *, keep_s: float = KEEP_S, samples_max: int = SAMPLES_MAX) -> None:
        if keep_s <= 0 or samples_max < 2:
            raise ValueError(f"a window needs keep_s > 0 and samples_max ≥ 2, got {keep_s} s and {samples_max}")
        self.newest: EngineSample | None = None
        self._keep_s = keep_s
        self._spacing_s = keep_s / (samples_max - 1)
        self._entries: deque[_Entry] = deque()
        self._counters = [_Counter() for _ in _COUNTERS]
        self._histograms = [_RunningHistogram() for _ in _HISTOGRAMS]
        self._moved_at_s = 0.0

    @property
    def kept_samples(self) -> int:
        """How many samples stay. Not `__len__`: an empty window must not be falsy."""
        return len(self._entries)

    def add(self, sample: EngineSample) -> bool:
        """Take a sample in; False when it is not newer than the last and so is ignored."""
        at_s, last = sample.observed_at_s, self.newest
        if last is not None and at_s <= last.observed_at_s:
            return False
        if last is None or _has_moved(last, sample):
            self._moved_at_s = at_s
        totals = array("d", map(_Counter.take, self._counters, (getattr(sample, name) for name in _COUNTERS)))
        for index, name in enumerate(_HISTOGRAMS):
            totals.extend(self._take_histogram(index, getattr(sample, name)))
        self._append(_Entry(at_s, totals))
        self.newest = sample
        return True

    def signals(self, *, now_s: float, span_s: float) -> PodSignals | None:
        """What the samples of the `span_s` before the newest say; None when the newest is older than `keep_s`.

        An old sample is not hidden: its `observed_at_s` lets the caller judge. Where the span holds
        one sample only, the one before it is the base, so that slow scrapes have rates too.
        """
        newest = self.newest
        if newest is None or now_s - newest.observed_at_s > self._keep_s:
            return None
        base, last = self._base(span_s), self._entries[-1]
        span = last.at_s - base.at_s
        rates = _Rates(base, last)
        increases = [self._increase(i, base, last) for i in range(len(_HISTOGRAMS))]
        return PodSignals(
            observed_at_s=newest.observed_at_s,
            window_s=span,
            running_requests=newest.running_requests,
            waiting_requests=newest.waiting_requests,
            deferred_requests=newest.deferred_requests,
            kv_cache_usage_ratio=newest.kv_cache_usage_ratio,
            kv_cache_capacity_tokens=newest.kv_cache_capacity_tokens,
            prompt_tokens_per_s=rates.of("prompt_tokens_total"),
            computed_prompt_tokens_per_s=rates.of("computed_prompt_tokens_total"),
            generation_tokens_per_s=rates.of("generation_tokens_total"),
            prefix_hit_ratio=rates.ratio("prefix_cache_hit_tokens_total", "prefix_cache_queried_tokens_total"),
            preemptions_per_s=rates.of("preemptions_total"),
            finished_requests_per_s=rates.of("finished_requests_total"),
            rejected_requests_per_s=rates.of("rejected_requests_total"),
            iterations_per_s=rates.of("iterations_total"),
            iteration_tokens_per_s=rates.of("iteration_tokens_total"),
            ttft_s=increases[0],
            itl_s=increases[1],
            queue_time_s=increases[2],
            stalled_for_s=self._stalled_for_s(newest) if span > 0 else None,
            is_awake=newest.is_awake,
        )

    def _append(self, entry: _Entry) -> None:
        entries = self._entries
        if len(entries) >= 2 and entries[-1].at_s - entries[-2].at_s < self._spacing_s:
            entries.pop()
        entries.append(entry)
        # two stay whatever their age: a pod scraped rarely has rates too
        while len(entries) > 2 and entries[0].at_s < entry.at_s - self._keep_s:
            entries.popleft()

    def _base(self, span_s: float) -> _Entry:
        entries = self._entries
        from_s = entries[-1].at_s - span_s
        base = entries[-1]
        for entry in reversed(entries):
            if entry.at_s < from_s and base is not entries[-1]:
                break
            base = entry
            if entry.at_s < from_s:
                break
        return base

    def _take_histogram(self, index: int, histogram: Histogram | None) -> "array[float]":
        running = self._histograms[index]
        if histogram is None:
            return array("d", [nan]) * running.width
        if running.last is None or running.last.bounds != histogram.bounds:
            self._rebase(index, len(histogram.bounds) + 1)
        return self._histograms[index].take(histogram)

    def _rebase(self, index: int, width: int) -> None:
        """Other bounds are another process: all that it counts came after the entries there are."""
        place = self._place(index)
        for at, entry in enumerate(self._entries):
            was_known = place.stop > place.start and not isnan(entry.totals[place.start])
            totals = entry.totals[:]
            totals[place] = array("d", [0.0 if was_known else nan]) * width
            self._entries[at] = entry._replace(totals=totals)
        self._histograms[index] = _RunningHistogram()
        self._histograms[index].width = width

    def _place(self, index: int) -> slice:
        start = len(_COUNTERS) + sum(running.width for running in self._histograms[:index])
        return slice(start, start + self._histograms[index].width)

    def _increase(self, index: int, base: _Entry, last: _Entry) -> Histogram | None:
        known, place = self._histograms[index].last, self._place(index)
        if known is None or base is last or isnan(last.totals[place.start]) or isnan(base.totals[place.start]):
            return None
        # max: adding large totals may round the sum down by its last bit
        increase = [max(0.0, new - old) for new, old in zip(last.totals[place], base.totals[place], strict=True)]
        return Histogram(bounds=known.bounds, counts=tuple(increase[:-1]), sum=increase[-1])

    def _stalled_for_s(self, newest: EngineSample) -> float | None:
        if all(getattr(newest, name) is None for name in _PROGRESS):
            return None
        return newest.observed_at_s - self._moved_at_s


def _has_moved(last: EngineSample, sample: EngineSample) -> bool:
    """Whether the engine did a step since the last sample, or had nothing to do."""
    if not (_has_work(last) and _has_work(sample)):
        return True  # what has just arrived is not stuck yet
    return any(getattr(last, name) != getattr(sample, name) for name in _PROGRESS)


def _has_work(sample: EngineSample) -> bool:
    return bool(sample.running_requests or sample.waiting_requests)


class _Counter:
    """One counter as a running total over restarts."""

    __slots__ = ("_last", "_offset")

    def __init__(self) -> None:
        self._last = 0.0
        self._offset = 0.0

    def take(self, value: float | None) -> float:
        if value is None:
            return nan
        if value < self._last:
            self._offset += self._last
        self._last = value
        return self._offset + value


class _RunningHistogram:
    """One histogram as running totals over restarts."""

    __slots__ = ("_offset", "last", "width")

    def __init__(self) -> None:
        self.last: Histogram | None = None
        self.width = 0  # numbers it takes in an entry: its counts and its sum
        self._offset: array[float] | None = None

    def take(self, histogram: Histogram) -> "array[float]":
        row = array("d", (*histogram.counts, histogram.sum))
        last, self.last = self.last, histogram
        if last is not None and has_restarted(histogram, last):
            before = (*last.counts, last.sum)
            offset = self._offset or [0.0] * len(before)
            self._offset = array("d", map(add, before, offset))
        return row if self._offset is None else array("d", map(add, row, self._offset))


class _Rates(NamedTuple):
    """Increases between two entries, per second."""

    base: _Entry
    last: _Entry

    def increase(self, name: str) -> float | None:
        index = _COUNTERS.index(name)
        change = self.last.totals[index] - self.base.totals[index]
        return None if isnan(change) or self.base is self.last else change

    def of(self, name: str) -> float | None:
        change = self.increase(name)
        return None if change is None else change / (self.last.at_s - self.base.at_s)

    def ratio(self, part: str, whole: str) -> float | None:
        """None when nothing was asked: 0 of 0 is unknown, not 0."""
        hits, queries = self.increase(part), self.increase(whole)
        return None if hits is None or not queries else min(1.0, hits / queries)
