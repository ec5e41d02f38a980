"""Arithmetic of cumulative histograms: quantile, merge, subtract. Pure."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from metrics.sample import Histogram


def quantile(histogram: Histogram, q: float) -> float | None:
    """The q-quantile as Prometheus' `histogram_quantile` has it, or None without observations.

    Linear within a bucket; the first bucket starts at 0 unless its bound is negative. What falls
    into +Inf is the highest finite bound: the histogram knows no more.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"quantile must be in [0, 1], got {q}")
    bounds = histogram.bounds
    if len(bounds) < 2 or not histogram.count > 0:
        return None
    counts = tuple(accumulate(histogram.counts, max))  # a racing scrape may dip; Prometheus mends it so too
    rank = q * counts[-1]
    index = min(bisect_left(counts, rank), len(bounds) - 1)
    if index == len(bounds) - 1 and math.isinf(bounds[-1]):
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    inside = counts[index] - below
    share = (rank - below) / inside if inside > 0 else 0.0
    # min: rounding must not lift the value over the bucket it lies in
    return min(lower + (bounds[index] - lower) * share, bounds[index])


def merge(histograms: Iterable[Histogram]) -> Histogram | None:
    """All observations together; None of nothing.

    Where bounds differ, only the shared ones stay: cumulative counts are exact at those.
    """
    parts = list(histograms)
    if not parts:
        return None
    bounds = parts[0].bounds
    if any(part.bounds != bounds for part in parts):
        shared = set(bounds).intersection(*(part.bounds for part in parts))
        bounds = tuple(bound for bound in bounds if bound in shared)
        parts = [_at(part, bounds) for part in parts]
    return Histogram(
        bounds=bounds,
        counts=tuple(map(math.fsum, zip(*(part.counts for part in parts), strict=True))),
        sum=math.fsum(part.sum for part in parts),
    )


def subtract(newer: Histogram, older: Histogram) -> Histogram:
    """What `newer` counted beyond `older`; after a restart (any count fell) all of `newer` is new."""
    if newer.bounds != older.bounds:
        raise ValueError(f"cannot subtract histograms of different bounds: {newer.bounds} and {older.bounds}")
    if has_restarted(newer, older):
        return newer
    return Histogram(
        bounds=newer.bounds,
        counts=tuple(new - old for new, old in zip(newer.counts, older.counts, strict=True)),
        sum=newer.sum - older.sum,
    )


def has_restarted(newer: Histogram, older: Histogram) -> bool:
    """Whether the process behind `newer` cannot be the one that counted `older`."""
    if newer.bounds != older.bounds:
        return True
    return any(new < old for new, old in zip(newer.counts, older.counts, strict=True))


def _at(histogram: Histogram, bounds: tuple[float, ...]) -> Histogram:
    """The same observations, seen at fewer bounds."""
    count_of = dict(zip(histogram.bounds, histogram.counts, strict=True))
    return Histogram(bounds=bounds, counts=tuple(count_of[bound] for bound in bounds), sum=histogram.sum)
