"""NVIDIA Dynamo's planner for aggregated workers: its load loop and its throughput loop.

After `components/src/dynamo/planner/core/{load_scaling,throughput_scaling}.py` and `core/load/predictors.py` of
ai-dynamo/dynamo 1.6 (0c6da1e). Load (target "throughput"): every 5 s, one more when any worker's KV cache, queued
prompts counted in, is over 100 %, one fewer when all are under 60 %; nothing while a change is under way. Throughput:
every 180 s, the next interval's requests and lengths by ARIMA over what one engine serves within the objectives. Dynamo
learns that from forward passes; here it comes from the same coefficients that the simulated engine runs on.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from autoscaler.policy.types import Observation

from .arima import POINTS_MAX, next_value
from .base import Bounds, Cadence, Queries, Site, Wish, ready_pods
from .capacity import profile
from .series import (
    OUTPUT_GUESS_TOKENS,
    PROMPT_GUESS_TOKENS,
    finished_per_s,
    kv_capacity_tokens,
    mean_lengths_tokens,
    outstanding_everywhere,
)

LOAD_S, THROUGHPUT_S = 5.0, 180.0
SCALE_UP_RATIO, SCALE_DOWN_RATIO = 1.0, 0.6
LOOKS = 3  # in an interval; at the last it asks for the increase over all of it
FRONTEND_SCRAPE_S = 30.0  # of the PodMonitor that its chart has for the frontend
ITL_S = 0.050  # the planner's default objective


def load_replicas(use_ratios: list[float], current: int, *, eagerness_ratio: float = 1.0) -> int:
    """`_agg_easy_decision`."""
    if any(ratio * eagerness_ratio > SCALE_UP_RATIO for ratio in use_ratios):
        return current + 1
    if current > 1 and use_ratios and all(ratio * eagerness_ratio < SCALE_DOWN_RATIO for ratio in use_ratios):
        return current - 1
    return current


@dataclass(slots=True, kw_only=True)
class DynamoLoad:
    """The reactive loop alone."""

    bounds: Bounds
    site: Site
    _prompt_tokens: float = PROMPT_GUESS_TOKENS

    @property
    def cadence(self) -> Cadence:
        """Workers publish after each forward pass; the loop looks every 5 s."""
        return Cadence(scrape_s=LOAD_S, decide_s=LOAD_S)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One look."""
        del now_s
        lengths = mean_lengths_tokens(seen)
        if lengths is not None:
            self._prompt_tokens = lengths[0]
        workers = [pod.signals for pod in ready_pods(seen) if pod.signals is not None]
        if not workers or len(workers) != seen.replicas:
            return None  # scaling in progress, or a worker that does not report
        ratios = []
        for sample in workers:
            queued_tokens = (sample.waiting_requests or 0.0) * self._prompt_tokens
            ratio = (sample.kv_cache_usage_ratio or 0.0) + queued_tokens / kv_capacity_tokens(sample, self.site)
            ratios.append(ratio)
        wanted = load_replicas(ratios, seen.replicas, eagerness_ratio=self.site.eagerness_ratio)
        return Wish(replicas=self.bounds.clamp(wanted), reason=f"KV use at most {max(ratios):.2f}")


@dataclass(slots=True, kw_only=True)
class DynamoThroughput:
    """The predictive loop alone."""

    bounds: Bounds
    site: Site
    ttft_s: float
    itl_s: float = ITL_S
    _outstanding: float | None = None  # at the end of the last interval
    _lengths: tuple[float, float] = (PROMPT_GUESS_TOKENS, OUTPUT_GUESS_TOKENS)
    _looked: int = 0
    _requests: deque[float] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))
    _prompts: deque[float] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))
    _outputs: deque[float] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))

    @property
    def cadence(self) -> Cadence:
        """Prometheus answers with what the frontend said."""
        queries = Queries(window_s=THROUGHPUT_S, is_of_router=True)
        return Cadence(scrape_s=FRONTEND_SCRAPE_S, decide_s=THROUGHPUT_S / LOOKS, queries=queries)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """At the end of an interval, count what came in it and predict the next."""
        del now_s
        finished = finished_per_s(seen)
        self._looked += finished is not None
        if finished is None or self._looked < LOOKS:
            return None
        self._lengths = mean_lengths_tokens(seen) or self._lengths
        arrived = self._arrived(finished, outstanding_everywhere(seen))
        for past, value in zip((self._requests, self._prompts, self._outputs), (arrived, *self._lengths), strict=True):
            past.append(value)
        self._looked = 0
        requests, prompt, output = (next_value(tuple(past)) for past in (self._requests, self._prompts, self._outputs))
        each = profile(self.site, (max(prompt, 1.0), max(output, 1.0)), ttft_s=self.ttft_s, itl_s=self.itl_s)
        demand_per_s = self.site.eagerness_ratio * requests / THROUGHPUT_S
        wanted = self.bounds.clamp(math.ceil(demand_per_s / each.requests_per_s))
        return Wish(replicas=wanted, reason=f"{demand_per_s:.2f} requests/s expected, {each.requests_per_s:.2f} each")

    def _arrived(self, finished_per_s: float, outstanding: float) -> float:
        """What ended in the interval, and what more is outstanding since its begin."""
        grown = 0.0 if self._outstanding is None else outstanding - self._outstanding
        self._outstanding = outstanding
        return max(0.0, finished_per_s * THROUGHPUT_S + grown)
