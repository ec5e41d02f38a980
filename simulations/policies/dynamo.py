"""NVIDIA Dynamo's planner: its load loop and its throughput loop, for workers that do all and for prefill and decode.

After `components/src/dynamo/planner/core/{load_scaling,throughput_scaling}.py`, `core/perf_model/{prefill,decode}.py`
and `core/load/predictors.py` of ai-dynamo/dynamo 1.6 (0c6da1e). Load (target "throughput"): every 5 s, one more when
any worker is over its threshold, one fewer when all are under a lower one; nothing while a change is under way, in
either pool. Decode, and workers that do all: the KV cache, queued prompts counted in, over 100 % and under 60 %.
Prefill: queued prompts, of the model's context length, at 100 % and under 10 %. Throughput: every 180 s, the next
interval's requests and lengths by ARIMA over what one engine serves within the objectives. Dynamo learns that from
forward passes; here it comes from the same coefficients that the simulated engine runs on. Its discount for prompts
that a prefix cache knows is left out: nobody tells it.

`as_released` holds also what could go while a worker cannot start (issue 14251); since pull request 14671 that is let
go, here by the serving workers' say at once, there once they said so for a while.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoscaler.policy.types import Observation
from metrics.sample import PodSignals

from .arima import POINTS_MAX, next_value
from .base import Bounds, Cadence, Queries, Role, Site, Wish, ready_pods
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
PREFILL_UP_RATIO, PREFILL_DOWN_RATIO = 1.0, 0.1
LOOKS = 3  # in an interval; at the last it asks for the increase over all of it
FRONTEND_SCRAPE_S = 30.0  # of the PodMonitor that its chart has for the frontend
ITL_S = 0.050  # the planner's default objective


def load_replicas(use_ratios: Sequence[float], current: int, *, eagerness_ratio: float = 1.0) -> int:
    """`_agg_easy_decision` and `_decode_easy_decision`."""
    if any(ratio * eagerness_ratio > SCALE_UP_RATIO for ratio in use_ratios):
        return current + 1
    if current > 1 and use_ratios and all(ratio * eagerness_ratio < SCALE_DOWN_RATIO for ratio in use_ratios):
        return current - 1
    return current


def prefill_replicas(queue_ratios: Sequence[float], current: int, *, eagerness_ratio: float = 1.0) -> int:
    """`_prefill_easy_decision`: at the threshold it grows, too."""
    if any(ratio * eagerness_ratio >= PREFILL_UP_RATIO for ratio in queue_ratios):
        return current + 1
    if current > 1 and queue_ratios and all(ratio * eagerness_ratio < PREFILL_DOWN_RATIO for ratio in queue_ratios):
        return current - 1
    return current


@dataclass(slots=True)
class Settled:
    """Which pools have all the workers that were asked for, each reporting: else neither pool is changed."""

    unsettled: set[Role] = field(default_factory=set)

    def note(self, role: Role, *, is_settled: bool) -> bool:
        """Whether both are, as far as is known."""
        self.unsettled = self.unsettled - {role} if is_settled else self.unsettled | {role}
        return not self.unsettled


@dataclass(slots=True, kw_only=True)
class DynamoLoad:
    """The reactive loop alone, of one pool."""

    bounds: Bounds
    site: Site
    settled: Settled = field(default_factory=Settled)
    as_released: bool = True
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
        is_settled = bool(workers) and len(workers) == seen.replicas
        is_settled = self.settled.note(self.site.role or Role.DECODE, is_settled=is_settled)
        if not workers or (self.as_released and not is_settled):
            return None  # scaling in progress, or a worker that does not report
        ratios = [self._ratio(sample) for sample in workers]
        decide, what = (prefill_replicas, "queue") if self.site.role is Role.PREFILL else (load_replicas, "KV use")
        wanted = decide(ratios, seen.replicas, eagerness_ratio=self.site.eagerness_ratio)
        if not is_settled and wanted >= seen.replicas:
            return None
        return Wish(replicas=self.bounds.clamp(wanted), reason=f"{what} at most {max(ratios):.2f}")

    def _ratio(self, sample: PodSignals) -> float:
        queued_tokens = (sample.waiting_requests or 0.0) * self._prompt_tokens
        if self.site.role is Role.PREFILL:
            return queued_tokens / self.site.config.max_model_len_tokens
        return (sample.kv_cache_usage_ratio or 0.0) + queued_tokens / kv_capacity_tokens(sample, self.site)


@dataclass(slots=True, kw_only=True)
class DynamoThroughput:
    """The predictive loop alone, of one pool."""

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
        each_per_s, floor = self._engine(max(prompt, 1.0), max(output, 1.0))
        demand_per_s = self.site.eagerness_ratio * requests / THROUGHPUT_S
        wanted = self.bounds.clamp(max(floor, math.ceil(demand_per_s / each_per_s)))
        return Wish(replicas=wanted, reason=f"{demand_per_s:.2f} requests/s expected, {each_per_s:.2f} each")

    def _engine(self, prompt: float, output: float) -> tuple[float, int]:
        """Requests per second of one, and how many `_compute_prefill_replicas` wants where none keeps the TTFT."""
        each_per_s = profile(self.site, (prompt, output), ttft_s=self.ttft_s, itl_s=self.itl_s).requests_per_s
        return each_per_s, math.ceil(1.0 / each_per_s / self.ttft_s) if self.site.role is Role.PREFILL else 1

    def _arrived(self, finished_per_s: float, outstanding: float) -> float:
        """What ended in the interval, and what more is outstanding since its begin."""
        grown = 0.0 if self._outstanding is None else outstanding - self._outstanding
        self._outstanding = outstanding
        return max(0.0, finished_per_s * THROUGHPUT_S + grown)
