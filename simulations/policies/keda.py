"""ScaledObjects that projects publish for vLLM: between 1 and N each is the HPA that KEDA makes of it.

Sources: vLLM production-stack `helm/templates/scaledobject.yaml`; llm-d `guides/workload-autoscaling/`:
`keda-epp/optimized-baseline/overlays/k8s/{queue,queue-guard}`, `keda-epp-token-aware`, `README.slo-aware.md`
(June to September 2026); the HPA's part is KEDA 2.20's `controllers/keda/hpa.go`.
KEDA's known trap is kept where `is_zero_when_lost`: where a series is lost, its prometheus scaler says 0, not unknown,
as long as nobody writes `ignoreNullValues: "false"`.
"""

import math
from collections import deque
from dataclasses import dataclass, field, replace

from autoscaler.policy.spec import PolicyType, RateLimit, ScalingRules, default_scale_down
from autoscaler.policy.types import Observation

from .base import Bounds, Queries, Site, counts
from .hpa import ExternalMetric, Hpa, PodsMetric, Total
from .hpa_limits import TOLERANCE_RATIO, Behavior, Unruled
from .series import (
    PROMPT_GUESS_TOKENS,
    epp_queue,
    epp_running,
    held_requests,
    kv_cache_usage,
    latency_quantile_s,
    mean_lengths_tokens,
    prefill_tokens_per_s,
    sum_of,
    tpot_s,
    waiting_requests,
    zero_if_lost,
)

PRODUCTION_STACK_WAITING = 5.0
EPP_QUEUED, EPP_RUNNING = 1.0, 16.0
EPP_WINDOW_S = 300.0
TOKEN_BACKLOG_S = 1.5  # seconds of prefill that may wait per replica
TOKEN_KV_RATIO = 0.8
SLO_QUANTILE, SLO_CLAMP, SLO_SMOOTHING_S = 0.90, 2.0, 45.0
SLO_UP, SLO_DOWN = 0.55, 0.40
SLO_TPOT_S = 0.100
SLO_RULE_S = 15.0  # `interval` of its recording rules
OF_ROUTER = Queries(is_of_router=True)


def external(name: str, total: Total, target: float, *, is_zero_when_lost: bool = True) -> ExternalMetric:
    """A prometheus trigger of type AverageValue."""
    return ExternalMetric(name=name, total=zero_if_lost(total) if is_zero_when_lost else total, target=target)


def production_stack(bounds: Bounds, site: Site, *, is_zero_when_lost: bool = True) -> Hpa:
    """Waiting requests, threshold 5, no `behavior`."""
    target = PRODUCTION_STACK_WAITING / site.eagerness_ratio
    trigger = external("waiting", sum_of(waiting_requests), target, is_zero_when_lost=is_zero_when_lost)
    return Hpa(metrics=(trigger,), limits=Unruled(bounds=bounds))


def epp_windows(bounds: Bounds, site: Site, *, is_zero_when_lost: bool = True) -> Hpa:
    """Queue of the endpoint picker 1 and running 16 per replica; 300 s of stabilisation in both directions."""
    up = _rules(EPP_WINDOW_S, _percent(100, 15.0))
    limits = Behavior(bounds=bounds, up=up, down=default_scale_down())
    triggers = _epp_triggers(site, is_zero_when_lost=is_zero_when_lost)
    return Hpa(metrics=triggers, limits=limits, queries=OF_ROUTER)


def epp_guard(bounds: Bounds, site: Site) -> Hpa:
    """The same demand without a window upwards; what already starts is taken off, never below the present number."""

    def composite(seen: Observation, now_s: float) -> float | None:
        triggers = _epp_triggers(site, is_zero_when_lost=True)
        demand = max((trigger.total(seen, now_s) or 0.0) / trigger.target for trigger in triggers)
        present = counts(seen)
        return discounted(demand, pending=present.pending, replicas=present.wanted)

    up = _rules(0.0, _percent(100, 15.0))
    limits = Behavior(bounds=bounds, up=up, down=default_scale_down())
    metric = ExternalMetric(name="composite", total=composite, target=1.0)
    return Hpa(metrics=(metric,), limits=limits, queries=replace(OF_ROUTER, counts_replicas=True))


def discounted(demand: float, *, pending: int, replicas: int) -> float:
    """`demand <= replicas ? demand : max(demand - (pending ?? 0), replicas)`."""
    return demand if demand <= replicas else max(demand - pending, replicas)


def _epp_triggers(site: Site, *, is_zero_when_lost: bool) -> tuple[ExternalMetric, ...]:
    eagerness = site.eagerness_ratio
    return (
        external("queue", epp_queue, EPP_QUEUED / eagerness, is_zero_when_lost=is_zero_when_lost),
        external("running", epp_running, EPP_RUNNING / eagerness, is_zero_when_lost=is_zero_when_lost),
    )


def epp_tokens(bounds: Bounds, site: Site, *, is_zero_when_lost: bool = True) -> Hpa:
    """Seconds of prompts not yet computed, and replicas' worth of full KV cache; a pod up per 180 s, down per 300 s."""
    speed, lengths = prefill_tokens_per_s(site), _Lengths()

    def backlog_s(seen: Observation, now_s: float) -> float | None:
        del now_s
        waiting = held_requests(seen) + (sum_of(waiting_requests)(seen, 0.0) or 0.0)
        return waiting * lengths.prompt_tokens(seen) / speed

    limits = Behavior(
        bounds=bounds,
        up=_rules(0.0, RateLimit(type=PolicyType.PODS, value=1, period_s=180.0)),
        down=_rules(300.0, RateLimit(type=PolicyType.PODS, value=1, period_s=300.0)),
    )
    eagerness = site.eagerness_ratio
    triggers = (
        external("prefill backlog", backlog_s, TOKEN_BACKLOG_S / eagerness, is_zero_when_lost=is_zero_when_lost),
        external("KV cache", sum_of(kv_cache_usage), TOKEN_KV_RATIO / eagerness, is_zero_when_lost=is_zero_when_lost),
    )
    return Hpa(metrics=triggers, limits=limits, reads_rates=True, queries=OF_ROUTER)


@dataclass(slots=True)
class _Lengths:
    """The mean prompt, remembered while nothing ends."""

    _prompt_tokens: float = PROMPT_GUESS_TOKENS

    def prompt_tokens(self, seen: Observation) -> float:
        lengths = mean_lengths_tokens(seen)
        if lengths is not None:
            self._prompt_tokens = lengths[0]
        return self._prompt_tokens


def slo_aware(bounds: Bounds, site: Site, *, ttft_s: float) -> Hpa:
    """The P90 of TTFT and time per token against their objectives; the formula gives the replicas themselves.

    Of two pools each has those of its own pods: a prefill pool makes single tokens, which have no time per token.
    """
    each_s = site.itl_s or SLO_TPOT_S
    signal = _Saturation(ttft_s=ttft_s / site.eagerness_ratio, tpot_s=each_s / site.eagerness_ratio)

    def composite(seen: Observation, now_s: float) -> float | None:
        present = counts(seen)
        return float(slo_replicas(signal.read(seen, now_s), provisioned=present.wanted, ready=present.ready))

    limits = Behavior(
        bounds=bounds,
        up=_rules(30.0, _percent(100, 60.0), RateLimit(type=PolicyType.PODS, value=4, period_s=60.0)),
        down=_rules(180.0, RateLimit(type=PolicyType.PODS, value=1, period_s=120.0)),
    )
    metrics = (ExternalMetric(name="saturation", total=composite, target=1.0),)
    queries = Queries(is_of_router=True, rule_s=SLO_RULE_S, counts_replicas=True)
    return Hpa(metrics=metrics, limits=limits, reads_rates=True, reads_gaps=True, queries=queries)


def slo_replicas(saturation: float, *, provisioned: int, ready: int) -> int:
    """Up with credit for what starts, down without it, and nothing within the band."""
    credit = ready / provisioned if 0 < ready < provisioned else 1.0
    if saturation > SLO_UP:
        return provisioned + math.ceil(provisioned * (saturation * credit / SLO_UP - 1.0))
    if saturation < SLO_DOWN:
        return provisioned - math.floor(provisioned * (1.0 - saturation / SLO_DOWN))
    return provisioned


@dataclass(slots=True, kw_only=True)
class _Saturation:
    """Two recording rules: the worse of both quantiles over its objective, cut at the clamp; its mean over 45 s."""

    ttft_s: float
    tpot_s: float
    _recorded: deque[tuple[float, float]] = field(default_factory=deque)

    def read(self, seen: Observation, now_s: float) -> float:
        ttft_s = latency_quantile_s(seen, lambda sample: sample.ttft_s, SLO_QUANTILE) or 0.0
        each_s = latency_quantile_s(seen, tpot_s, SLO_QUANTILE) or 0.0
        self._recorded.append((now_s, min(max(ttft_s / self.ttft_s, each_s / self.tpot_s), SLO_CLAMP)))
        while self._recorded[0][0] <= now_s - SLO_SMOOTHING_S:
            self._recorded.popleft()
        return sum(value for _, value in self._recorded) / len(self._recorded)


def queue_hpa(bounds: Bounds, site: Site) -> Hpa:
    """Not KEDA: a plain HPA on the pods' waiting requests, average 5, without `behavior`."""
    target = PRODUCTION_STACK_WAITING / site.eagerness_ratio
    metric = PodsMetric(name="waiting", read=waiting_requests, target=target)
    return Hpa(metrics=(metric,), limits=Unruled(bounds=bounds))


def _percent(value: int, period_s: float) -> RateLimit:
    return RateLimit(type=PolicyType.PERCENT, value=value, period_s=period_s)


def _rules(window_s: float, *rates: RateLimit) -> ScalingRules:
    return ScalingRules(tolerance_ratio=TOLERANCE_RATIO, stabilization_window_s=window_s, rate_limits=rates)
