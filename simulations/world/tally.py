"""Requests that ended, counted: what met the objective, and what arrived when. A long course is thinned, not kept."""

import math

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.layout import Records
from simulations.world.outcome import Series

# A quantile of so many requests is as good as one of all: its error is a hundredth of a percentile.
KEPT_MAX = 500_000


class Tally:
    """Figures of all requests, and each n-th of them. `at_s` are the moments of the series."""

    def __init__(self, at_s: NDArray[np.float64], *, ttft_s: float, requests: int | None) -> None:
        """`requests`: how many there will be, and all are kept; None: nobody knows yet."""
        self._at_s, self._ttft_s = at_s, ttft_s
        self._keeps_all = requests is not None
        self._every = 1
        self._kept: list[Records] = []
        self._arrived = self._met = 0
        self._cumulated = np.zeros((3, len(at_s)))

    @property
    def attainment_ratio(self) -> float:
        """Of all requests."""
        return self._met / self._arrived

    def requests(self) -> Records:
        """Those that are kept, in order of arrival."""
        if len(self._kept) == 1:
            return self._kept[0]
        kept = np.concatenate(self._kept)
        return kept[np.argsort(kept["arrived_at_s"], kind="stable")]

    def add(self, requests: Records) -> None:
        """Requests that ended, or never will, in order of arrival."""
        arrived_at_s = requests["arrived_at_s"]
        met = requests["first_token_at_s"] - arrived_at_s <= self._ttft_s
        self._arrived += len(requests)
        self._met += int(met.sum())
        # At each moment of the series: how many arrived by then, their tokens, those of them that missed.
        by_then = np.searchsorted(arrived_at_s, self._at_s, side="right")
        tokens = requests["prompt_tokens"].astype(np.int64) + requests["output_tokens"]
        for row, values in zip(self._cumulated, (np.ones(len(requests)), tokens, ~met), strict=True):
            row += np.concatenate([[0], np.cumsum(values)])[by_then]
        self._keep(requests)

    def fill(self, series: Series) -> None:
        """What arrived before each moment, and after the one before it."""
        for name, row in zip(("arrived_requests", "arrived_tokens", "missed_requests"), self._cumulated, strict=True):
            series[name] = np.rint(np.diff(row, prepend=0.0))

    def _keep(self, requests: Records) -> None:
        self._kept.append(requests if self._every == 1 else requests[:: self._every].copy())
        if not self._keeps_all and sum(map(len, self._kept)) > KEPT_MAX:
            self._every *= 2
            self._kept = [part[::2].copy() for part in self._kept]


def ttft_quantile_s(requests: Records, probability: float) -> float:
    """Infinite where too many never got a token."""
    ttft_s = np.nan_to_num(requests["first_token_at_s"] - requests["arrived_at_s"], nan=math.inf)
    return float(np.quantile(ttft_s, probability, method="inverted_cdf"))
