"""llm-d's workload-variant-autoscaler 0.5.1 with one variant: by saturation (v1) and by tokens (v2).

After `internal/saturation/analyzer.go` and `internal/engines/{analyzers/saturation_v2,pipeline/cost_aware_optimizer}`
of llm-d/llm-d-workload-variant-autoscaler. Every minute it publishes the number it wants, from peaks of one minute; the
HPA of its chart follows that number (AverageValue 1, windows of 240 s, 10 pods per 150 s).
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median_low

from autoscaler.policy.spec import PolicyType, RateLimit, ScalingRules
from autoscaler.policy.types import Observation

from .base import Bounds, Queries, Site, ready_pods
from .hpa import SYNC_JITTER_S, ExternalMetric, Hpa, Total
from .hpa_limits import TOLERANCE_RATIO, Behavior
from .series import OUTPUT_GUESS_TOKENS, PROMPT_GUESS_TOKENS, held_requests, kv_capacity_tokens, mean_lengths_tokens

PEAK_S = 60.0  # max_over_time[1m]
CHART_WINDOW_S = 240.0
LOOP_S = 60.0  # GLOBAL_OPT_INTERVAL of 0.5.1: internal/config/loader.go, and `reconcileInterval` of its chart
KV_SATURATED, QUEUE_SATURATED = 0.80, 5.0
KV_SPARE_MIN, QUEUE_SPARE_MIN = 0.10, 3.0
SCALE_UP_AT, SCALE_DOWN_AT = 0.85, 0.70  # demand ÷ supply
HISTORY_SAMPLES = 10
SHORT_OUTPUT_TOKENS, MEDIUM_OUTPUT_TOKENS = 100.0, 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """One replica's worst minute."""

    kv_ratio: float
    queued: float
    capacity_tokens: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """v1's thresholds; eagerness lowers the saturating ones."""

    kv_ratio: float = KV_SATURATED
    queued: float = QUEUE_SATURATED

    def target(self, peaks: Sequence[Peak], *, current: int) -> int:
        """One more where too little is spare, one fewer where the others could take its load."""
        if len(peaks) != current:
            return current  # in transition: everything is blocked
        clear = [peak for peak in peaks if peak.kv_ratio < self.kv_ratio and peak.queued < self.queued]
        count = len(clear)
        kv_spare = sum(self.kv_ratio - peak.kv_ratio for peak in clear) / count if count else 0.0
        queue_spare = sum(self.queued - peak.queued for peak in clear) / count if count else 0.0
        if kv_spare < KV_SPARE_MIN or queue_spare < QUEUE_SPARE_MIN:
            return current + 1
        if count < 2:
            return current
        factor = count / (count - 1)
        kv_left = self.kv_ratio - (self.kv_ratio - kv_spare) * factor
        queue_left = self.queued - (self.queued - queue_spare) * factor
        return current - 1 if kv_left >= KV_SPARE_MIN and queue_left >= QUEUE_SPARE_MIN else current


@dataclass(slots=True, kw_only=True)
class Tokens:
    """v2: what each replica can hold and compute, learned where it queued, against what is asked of all."""

    max_batched_tokens: int
    max_seqs: int
    eagerness_ratio: float = 1.0
    _learned: dict[str, deque[float]] = field(default_factory=dict)
    _per_replica: float = 0.0

    def target(
        self, peaks: Sequence[Peak], lengths_tokens: tuple[float, float], *, current: int, held: float = 0.0
    ) -> int:
        """More by what is short of 85 %, fewer by what is spare of 70 %; starting replicas count as supply."""
        prompt, output = lengths_tokens
        if peaks:
            self._per_replica = median_low(self._capacity(peak, prompt, output) for peak in peaks)
        each = self._per_replica
        if each <= 0:
            return current
        demand = sum(peak.kv_ratio * peak.capacity_tokens + peak.queued * prompt for peak in peaks)
        demand = (demand + held * (prompt + output)) * self.eagerness_ratio
        required = demand / SCALE_UP_AT - current * each
        if required > 0:
            return current + math.ceil(required / each)
        spare = len(peaks) * each - demand / SCALE_DOWN_AT
        return max(1, current - math.floor(spare / each)) if spare > 0 else current

    def _capacity(self, peak: Peak, prompt: float, output: float) -> float:
        held_most = KV_SATURATED * peak.capacity_tokens
        in_use = peak.kv_ratio * peak.capacity_tokens
        learned = self._learned.setdefault(_output_bucket(output), deque(maxlen=HISTORY_SAMPLES))
        if peak.queued >= QUEUE_SATURATED and in_use > 0:
            learned.append(in_use)
            return min(held_most, in_use)
        if learned:
            return min(held_most, sum(learned) / len(learned))
        return min(held_most, derived_tokens(self.max_batched_tokens, self.max_seqs, prompt, output) or held_most)


def derived_tokens(max_batched_tokens: int, max_seqs: int, prompt: float, output: float) -> float:
    """Tokens in use when a replica computes all it can: min(B·O/(I+O), S) requests of I + O/2 tokens."""
    if output <= 0:
        return 0.0
    steady = min(max_batched_tokens * output / (prompt + output), max_seqs)
    return steady * (prompt + output / 2)


def _output_bucket(output_tokens: float) -> str:
    if output_tokens < SHORT_OUTPUT_TOKENS:
        return "short"
    return "medium" if output_tokens < MEDIUM_OUTPUT_TOKENS else "long"


@dataclass(slots=True, kw_only=True)
class _Peaks:
    """What each pod said in the last minute."""

    site: Site
    _said: dict[str, deque[tuple[float, float, float]]] = field(default_factory=dict)

    def read(self, seen: Observation, now_s: float) -> list[Peak]:
        peaks = []
        present = {pod.name: pod.signals for pod in ready_pods(seen) if pod.signals is not None}
        self._said = {name: said for name, said in self._said.items() if name in present}
        for name, sample in present.items():
            said = self._said.setdefault(name, deque())
            said.append((now_s, sample.kv_cache_usage_ratio or 0.0, sample.waiting_requests or 0.0))
            while said[0][0] <= now_s - PEAK_S:
                said.popleft()
            peaks.append(
                Peak(
                    kv_ratio=max(ratio for _, ratio, _ in said),
                    queued=max(queued for _, _, queued in said),
                    capacity_tokens=kv_capacity_tokens(sample, self.site),
                )
            )
        return peaks


def by_saturation(bounds: Bounds, site: Site) -> Hpa:
    """v1."""
    peaks, loop, eagerness = _Peaks(site=site), _Loop(), site.eagerness_ratio
    kv_ratio = min(1.0, KV_SPARE_MIN + (KV_SATURATED - KV_SPARE_MIN) / eagerness)
    rule = Saturation(kv_ratio=kv_ratio, queued=QUEUE_SPARE_MIN + (QUEUE_SATURATED - QUEUE_SPARE_MIN) / eagerness)

    def desired(seen: Observation, now_s: float) -> float | None:
        found = peaks.read(seen, now_s)
        return loop.publish(lambda: rule.target(found, current=seen.replicas), now_s)

    return _followed(desired, bounds, reads_rates=False)


def by_tokens(bounds: Bounds, site: Site) -> Hpa:
    """v2."""
    config, peaks, loop = site.config, _Peaks(site=site), _Loop()
    rule = Tokens(
        max_batched_tokens=config.max_num_batched_tokens,
        max_seqs=config.max_num_seqs,
        eagerness_ratio=site.eagerness_ratio,
    )

    def desired(seen: Observation, now_s: float) -> float | None:
        lengths = mean_lengths_tokens(seen) or (PROMPT_GUESS_TOKENS, OUTPUT_GUESS_TOKENS)
        found, held = peaks.read(seen, now_s), held_requests(seen)
        return loop.publish(lambda: rule.target(found, lengths, current=seen.replicas, held=held), now_s)

    return _followed(desired, bounds, reads_rates=True)


@dataclass(slots=True)
class _Loop:
    """Looks once in LOOP_S: the number that it publishes stays until then, whatever becomes of the pods."""

    _next_at_s: float = -math.inf
    _number: float = 0.0

    def publish(self, decide: Callable[[], int], now_s: float) -> float:
        if now_s >= self._next_at_s:
            self._number = float(decide())
            self._next_at_s = now_s + LOOP_S - SYNC_JITTER_S  # the fourth sync from now, not the fifth
        return self._number


def _followed(desired: Total, bounds: Bounds, *, reads_rates: bool) -> Hpa:
    rate = RateLimit(type=PolicyType.PODS, value=10, period_s=150.0)
    rules = ScalingRules(tolerance_ratio=TOLERANCE_RATIO, stabilization_window_s=CHART_WINDOW_S, rate_limits=(rate,))
    metric = ExternalMetric(name="wva_desired_replicas", total=desired, target=1.0)
    limits = Behavior(bounds=bounds, up=rules, down=rules)
    return Hpa(metrics=(metric,), limits=limits, reads_rates=reads_rates, queries=Queries(is_relayed=True))
