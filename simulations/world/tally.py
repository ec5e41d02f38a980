"""Requests that ended, counted: what met the objective, and what arrived when. A long course is thinned, not kept."""

import math

import numpy as np

from simulations.compiled.layout import Records
from simulations.compiled.loss import LOST
from simulations.compiled.records import count_requests, joined
from simulations.world.outcome import Series

# A quantile of so many requests is as good as one of all: its error is a hundredth of a percentile.
KEPT_MAX = 500_000


class Tally:
    """Figures of all requests, and each n-th of them. `points`: those of the series, `spacing_s` apart."""

    def __init__(self, points: int, *, spacing_s: float, ttft_s: float, keeps_all: bool) -> None:
        self._spacing_s, self._ttft_s, self._keeps_all = spacing_s, ttft_s, keeps_all
        self._every = 1
        self._kept: list[Records] = []
        self._arrived = self._met = 0
        self._counts = np.zeros((3, points))

    @property
    def attainment_ratio(self) -> float:
        """Of all requests."""
        return self._met / self._arrived

    def requests(self) -> Records:
        """Those that are kept, in order of arrival."""
        kept = self._kept[0] if len(self._kept) == 1 else joined(self._kept)
        if (np.diff(kept["arrived_at_s"]) >= 0).all():
            return kept
        return kept[np.argsort(kept["arrived_at_s"], kind="stable")]

    def add(self, requests: Records) -> None:
        """Requests that ended, or never will."""
        self._arrived += len(requests)
        self._met += count_requests(requests, self._counts, self._spacing_s, self._ttft_s)
        self._kept.append(requests if self._every == 1 else requests[:: self._every].copy())
        if not self._keeps_all and sum(map(len, self._kept)) > KEPT_MAX:
            self._every *= 2
            self._kept = [part[::2].copy() for part in self._kept]

    def fill(self, series: Series) -> None:
        """What arrived before each moment, and after the one before it."""
        for name, row in zip(("arrived_requests", "arrived_tokens", "missed_requests"), self._counts, strict=True):
            series[name] = np.rint(row)


def ttft_quantile_s(requests: Records, probability: float) -> float:
    """Infinite where too many never got a token."""
    ttft_s = np.nan_to_num(requests["first_token_at_s"] - requests["arrived_at_s"], nan=math.inf)
    return float(np.quantile(ttft_s, probability, method="inverted_cdf"))


def pace_quantile_s(requests: Records, probability: float) -> float | None:
    """Of the mean time between the tokens of each request that has several and got them; None where none has."""
    gaps = requests["output_tokens"] - 1
    had = (gaps > 0) & np.isfinite(requests["finished_at_s"])
    spent_s = (requests["finished_at_s"] - requests["first_token_at_s"])[had]
    return float(np.quantile(spent_s / gaps[had], probability, method="inverted_cdf")) if had.any() else None


def lost_among(requests: Records) -> int:
    """Requests that went with their replica."""
    return int(np.count_nonzero(requests["replica"] == LOST))
