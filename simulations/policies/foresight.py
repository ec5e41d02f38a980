"""Warmtide with a perfect forecast: the same `decide`, told the demand that will come within the lead time.

The gap to Warmtide is what a better forecaster could win; the gap to the oracle is what the rest of the policy loses.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autoscaler.policy.forecast import Outlook, bin_length_s
from autoscaler.policy.types import Observation
from simulations.compiled.layout import Records

from .base import Cadence, Wish
from .warmtide import Warmtide

Floats = NDArray[np.float64]


class Course:
    """Tokens that arrive, over time."""

    def __init__(self, requests: Records) -> None:
        tokens = requests["prompt_tokens"].astype(np.float64) + requests["output_tokens"]
        self._arrived_at_s: Floats = requests["arrived_at_s"]
        self._tokens_before: Floats = np.concatenate([[0.0], np.cumsum(tokens)])

    def tokens_per_s(self, begins_s: Floats, span_s: float) -> Floats:
        """Mean rates of the spans that begin then."""
        first = np.searchsorted(self._arrived_at_s, begins_s)
        last = np.searchsorted(self._arrived_at_s, begins_s + span_s)
        rates: Floats = (self._tokens_before[last] - self._tokens_before[first]) / span_s
        return rates


@dataclass(slots=True, kw_only=True)
class Foresight:
    """Tells `inner` the highest demand, in bins of its own forecaster, from now to a lead time ahead."""

    inner: Warmtide
    course: Course
    lead_time_s: float

    @property
    def cadence(self) -> Cadence:
        """Its own."""
        return self.inner.cadence

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One look, with the future in the observation."""
        bin_s = bin_length_s(self.lead_time_s)
        begins_s = np.arange(now_s, now_s + self.lead_time_s + bin_s, bin_s)
        rates = self.course.tokens_per_s(begins_s, bin_s)
        most = float(rates.max())
        outlook = Outlook(
            method="foresight",
            now_tokens_per_s=float(rates[0]),
            p50_tokens_per_s=most,
            p90_tokens_per_s=most,
            skill_ratio=0.0,
        )
        return self.inner.wish(replace(seen, foretold=outlook), now_s)
