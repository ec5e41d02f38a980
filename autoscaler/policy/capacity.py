"""Tokens per second that one replica can serve, learned from the windows in which replicas were saturated."""

import math
from dataclasses import dataclass, field, replace

from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import Capacity, PodSeen
from metrics.quick import quick
from metrics.sample import PodSignals

# The newest samples kept; older ones tell of another mix of requests.
KEPT_SAMPLES = 32
# Fewer windows are chance: with three, the lowest one counts.
WINDOWS_MIN = 3
# A low quantile: over-estimating capacity by 15 % costs 1-3 points of attainment.
CAUTIOUS_QUANTILE = 0.25
# vLLM preempts from here on: the usable share of the KV cache.
KV_FULL_RATIO = 0.90
# What a replica once served stands for half after an hour: the mix of requests may have changed.
DEMONSTRATED_HALF_LIFE_S = 3600.0
# Over less it is a burst: a replica that has just joined reads prompts only, which is the faster half of its work.
SHOWN_OVER_S = 20.0
# Smaller news are not worth a new record.
NEWS_RATIO = 1.02
# Replicas whose saturation is followed at a time; the rest of a larger fleet teaches nothing new.
FOLLOWED_MAX = 256

KV, COMPUTE, BATCH, UNKNOWN = "kv", "compute", "batch", "unknown"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityRecord:
    """Achieved rates of saturated replicas, oldest first, and what they say."""

    samples_tokens_per_s: tuple[float, ...] = ()
    windows: int = 0
    learned_at_s: float = -math.inf
    changed_at_s: float = -math.inf  # the newest sample that `learned` rests on
    demonstrated_at_s: float = -math.inf
    looked_at_s: float = -math.inf  # when calm was last looked at
    over_at_s: float = -math.inf  # when a queue or latency last asked for more
    saturated_since_s: tuple[tuple[str, float], ...] = ()
    learned: Capacity = field(default_factory=lambda: Capacity(regime=UNKNOWN))
    learned_before: Capacity = field(default_factory=lambda: Capacity(regime=UNKNOWN))


def capacity_at(record: CapacityRecord, newest_sample_s: float) -> Capacity:
    """What was learned from earlier samples than the newest: looking twice at one sample changes nothing."""
    return record.learned if newest_sample_s > record.changed_at_s else record.learned_before


def usable_tokens_per_s(capacity: Capacity, policy: PolicySpec) -> float | None:
    """What a replica may be asked to serve: the user's number, else what was learned less headroom or calm adds."""
    targets = policy.targets
    if targets.tokens_per_s is not None:
        return targets.tokens_per_s
    learned_tokens_per_s = capacity.tokens_per_s
    if not targets.use_learned_capacity or learned_tokens_per_s is None:
        return None
    return max(learned_tokens_per_s * targets.headroom_ratio, capacity.trusted_tokens_per_s or 0.0)


def shown_tokens_per_s(capacity: Capacity) -> float | None:
    """What a replica surely bears, where nobody knows what it would bear: what it served, and what calm adds."""
    demonstrated, trusted = capacity.demonstrated_tokens_per_s, capacity.trusted_tokens_per_s
    return demonstrated if demonstrated is None or trusted is None else max(demonstrated, trusted)


def learn_capacity(record: CapacityRecord, fleet: Fleet, policy: PolicySpec) -> CapacityRecord:
    """Add what saturated replicas served over a whole window; windows never overlap."""
    since_s = dict(record.saturated_since_s) if record.saturated_since_s else {}
    still: list[tuple[str, float]] = []
    rates: list[float] = []
    regime = UNKNOWN
    for pod, sample, waiting, rate in zip(
        fleet.sighted, fleet.signals, fleet.waiting_requests, fleet.tokens_per_s, strict=True
    ):
        limit = saturation(sample, waiting, policy)
        if limit is None:
            continue
        at_s = min(since_s.get(pod.name, sample.observed_at_s), sample.observed_at_s)
        still.append((pod.name, at_s))
        if rate and _is_whole(sample, max(at_s, record.learned_at_s)) and _is_typical(pod, sample, limit, policy):
            rates.append(rate)
            regime = limit
    saturated_since_s = tuple(still[:FOLLOWED_MAX])
    if saturated_since_s != record.saturated_since_s:
        record = replace(record, saturated_since_s=saturated_since_s)
    if rates:
        record = _with_sample(record, sum(rates) / len(rates), regime, fleet.newest_sample_s)
    return _with_best(record, fleet)


def _is_whole(sample: PodSignals, since_s: float) -> bool:
    """Whether the window lies after that moment, all of it."""
    return sample.window_s > 0 and sample.observed_at_s - sample.window_s >= since_s


def _is_typical(pod: PodSeen, sample: PodSignals, limit: str, policy: PolicySpec) -> bool:
    """Whether the window shows lasting work at the limit, not the rush to a replica that has just joined.

    Little's law (Operations Research 9(3), 1961) twice. Looks at a queue are moments: as many requests as are too many
    must have waited for their first token on average. And a replica that has served for less than a request stays
    still reads prompts for answers that it has not begun to write.
    """
    if limit == BATCH and sample.ttft_s is not None and sample.ttft_s.sum < _queue_limit(policy) * sample.window_s:
        return False
    finished_per_s, running_requests = sample.finished_requests_per_s, sample.running_requests
    if pod.ready_at_s is None or finished_per_s is None or running_requests is None:
        return True
    return (sample.observed_at_s - pod.ready_at_s) * finished_per_s >= running_requests


def _queue_limit(policy: PolicySpec) -> float:
    return policy.targets.queue_requests or 1.0


def _with_best(record: CapacityRecord, fleet: Fleet) -> CapacityRecord:
    """Remember the most that replicas have served, on average: one alone had the others' luck. It fades."""
    both = zip(fleet.signals, fleet.tokens_per_s, strict=True)
    shown = [rate for sample, rate in both if rate and sample.window_s >= SHOWN_OVER_S]
    best = sum(shown) / len(shown) if shown else 0.0
    known, at_s = record.learned.demonstrated_tokens_per_s, fleet.newest_sample_s
    if known is not None:
        age_s = max(0.0, at_s - record.demonstrated_at_s)
        if best <= known * NEWS_RATIO * 0.5 ** (age_s / DEMONSTRATED_HALF_LIFE_S):
            return record
    if best <= 0:
        return record
    return replace(
        record,
        changed_at_s=at_s,
        demonstrated_at_s=at_s,
        learned=replace(record.learned, demonstrated_tokens_per_s=best),
        learned_before=capacity_at(record, at_s),
    )


def saturation(sample: PodSignals, waiting: float | None, policy: PolicySpec) -> str | None:
    """What keeps this replica from serving more; None while nothing does."""
    if sample.kv_cache_usage_ratio is not None and sample.kv_cache_usage_ratio >= KV_FULL_RATIO:
        return KV
    objective_s, itl_s = policy.objectives.itl_s, sample.itl_s
    if objective_s is not None and itl_s is not None and itl_s.sum > objective_s * itl_s.count:
        return COMPUTE
    if waiting is not None and waiting >= _queue_limit(policy):
        return BATCH
    return None


def _with_sample(record: CapacityRecord, rate: float, regime: str, at_s: float) -> CapacityRecord:
    """A measured rate ends all trust; earlier ones below what replicas bore calmly until then were too low."""
    borne = min(record.learned.trusted_tokens_per_s or 0.0, rate)
    samples = (*[max(sample, borne) for sample in record.samples_tokens_per_s[1 - KEPT_SAMPLES :]], rate)
    windows = record.windows + 1
    return replace(
        record,
        samples_tokens_per_s=samples,
        windows=windows,
        learned_at_s=at_s,
        changed_at_s=at_s,
        learned=estimate(samples, windows, regime, record.learned.demonstrated_tokens_per_s),
        learned_before=record.learned,
    )


def estimate(
    samples_tokens_per_s: tuple[float, ...], windows: int, regime: str, demonstrated_tokens_per_s: float | None
) -> Capacity:
    """A cautious capacity; none while the windows are too few."""
    tokens_per_s: float | None = None
    if len(samples_tokens_per_s) >= WINDOWS_MIN:
        tokens_per_s = sorted(samples_tokens_per_s)[int(CAUTIOUS_QUANTILE * len(samples_tokens_per_s))]
    return Capacity(
        tokens_per_s=tokens_per_s,
        regime=regime,
        windows=windows,
        demonstrated_tokens_per_s=demonstrated_tokens_per_s,
    )
