"""What each signal alone would ask for. The largest binds; the others say why not more."""

import math
from typing import NamedTuple

from autoscaler.policy.demand import BACKLOG_DRAIN_S, Demand
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import LensReading, Reason

# More replicas than any cluster has: numbers beyond are a broken series, not a need.
REPLICAS_MAX = 100_000
# Waiting is a sign of saturation, not of use: a replica goes only while the others hold half their queue target.
QUEUE_CALM_RATIO = 0.5
# Sums of ratios are not exact: 3.0000000000000004 replicas are 3.
ROUNDING = 1e-9


class Reading(NamedTuple):
    """A lens and what only the core needs of it."""

    lens: LensReading
    unclamped: int = 0  # the number before blind replicas held it
    is_held: bool = False  # by the tolerance
    is_silent: bool = False  # switched on, but its series cannot be read
    is_use: bool = False  # it measures use, so it may say that fewer would do
    use: float = 0.0  # replicas' worth of work, exact


class Signal(NamedTuple):
    """How one signal is named, and what it is compared with."""

    name: str
    reason: Reason
    unit: str
    target: float


class Total(NamedTuple):
    """The sum of a series over the replicas that have it."""

    amount: float
    replicas: int


def read_use(signal: Signal, total: Total, fleet: Fleet, policy: PolicySpec) -> Reading:
    """Replicas for a total: absolute, so replicas on their way are never ordered twice."""
    if total.replicas == 0 and fleet.serving > 0:
        return silent(signal, "no replica has a fresh sample of it")
    shrink_ratio = 1.0 - policy.scale_down.tolerance_ratio
    return _replicas_for(signal, total, fleet, shrink_ratio=shrink_ratio, policy=policy)


def _replicas_for(signal: Signal, total: Total, fleet: Fleet, *, shrink_ratio: float, policy: PolicySpec) -> Reading:
    use = min(total.amount / signal.target, REPLICAS_MAX)
    value = total.amount / total.replicas if total.replicas else total.amount
    coming, blind = fleet.coming, fleet.serving - total.replicas
    note, is_held = "", False
    if use > coming * (1.0 + policy.scale_up.tolerance_ratio):
        replicas = unclamped = math.ceil(use - ROUNDING)
    else:
        # The fleet without the victim must still be under target by the tolerance: it does not grow back at once.
        fits = math.ceil(use / shrink_ratio - ROUNDING)
        unclamped = min(coming, fits)
        # Missing pods count as busy when shrinking and as idle when growing (as the HPA fills them in).
        replicas = min(coming, fits + blind)
        is_held = unclamped == coming and math.ceil(use - ROUNDING) != coming
        if blind:
            note = f"{blind} of {fleet.serving} replicas cannot be read"
    lens = LensReading(
        name=signal.name,
        reason=signal.reason,
        replicas=replicas,
        value=value,
        target=signal.target,
        unit=signal.unit,
        note=note,
    )
    return Reading(lens, unclamped, is_held, False, True, use)


def silent(signal: Signal, note: str, *, is_missing: bool = True) -> Reading:
    """A lens that cannot be read, and why."""
    lens = LensReading(
        name=signal.name, reason=signal.reason, replicas=None, target=signal.target, unit=signal.unit, note=note
    )
    return Reading(lens, 0, False, is_missing)


def replicas_to_clear(demand: Demand | None, capacity_tokens_per_s: float | None) -> int | None:
    """Replicas that serve what arrives and the backlog in time; None where there is none, or capacity is not known."""
    if demand is None or not capacity_tokens_per_s or not demand.backlog_tokens:
        return None
    arriving = demand.tokens_per_s + demand.growth_tokens_per_s
    return math.ceil(min(arriving / capacity_tokens_per_s, REPLICAS_MAX) - ROUNDING)


def read_queue(fleet: Fleet, policy: PolicySpec, upstream_waiting: float, clears: int | None) -> Reading:
    """Waiting requests over what a replica may hold; never more than clears the queue, once capacity is known."""
    target = policy.targets.queue_requests or math.inf
    signal = Signal(name="queue", reason=Reason.FOLLOWING_QUEUE, unit="waiting requests per replica", target=target)
    waits = [waiting for waiting in fleet.waiting_requests if waiting is not None]
    if not waits and fleet.serving > 0 and upstream_waiting <= 0:
        return silent(signal, "no replica has a fresh sample of it")
    total = Total(sum(waits) + upstream_waiting, len(waits))
    reading = _replicas_for(signal, total, fleet, shrink_ratio=QUEUE_CALM_RATIO, policy=policy)
    reading = reading._replace(is_use=False, is_silent=not waits and fleet.serving > 0)
    return reading if clears is None else at_most(reading, max(clears, fleet.coming), "by requests")


def at_most(reading: Reading, clears: int, by: str) -> Reading:
    """No more than clears the queue: what waits says that there are too few replicas, not how many are missing."""
    lens = reading.lens
    if lens.replicas is None or lens.replicas <= clears:
        return reading
    note = f"{lens.replicas} {by}; {clears} clear the queue within {BACKLOG_DRAIN_S:g} s"
    lens = LensReading(
        name=lens.name,
        reason=lens.reason,
        replicas=clears,
        value=lens.value,
        target=lens.target,
        unit=lens.unit,
        note=note,
    )
    return reading._replace(lens=lens, unclamped=clears)


def read_kv_cache(fleet: Fleet, policy: PolicySpec) -> Reading:
    """Used share of the KV cache."""
    signal = Signal(
        name="kv_cache",
        reason=Reason.FOLLOWING_KV_CACHE,
        unit="used share per replica",
        target=policy.targets.kv_cache_usage_ratio or math.inf,
    )
    used = [ratio for sample in fleet.signals if (ratio := sample.kv_cache_usage_ratio) is not None]
    return read_use(signal, Total(max(0.0, sum(used)), len(used)), fleet, policy)


def read_concurrency(fleet: Fleet, policy: PolicySpec, upstream_waiting: float) -> Reading:
    """Requests in the engines: running and waiting."""
    signal = Signal(
        name="concurrency",
        reason=Reason.FOLLOWING_CONCURRENCY,
        unit="requests per replica",
        target=policy.targets.running_requests or math.inf,
    )
    held = [
        running + waiting
        for sample, waiting in zip(fleet.signals, fleet.waiting_requests, strict=True)
        if waiting is not None and (running := sample.running_requests) is not None
    ]
    return read_use(signal, Total(max(0.0, sum(held)) + upstream_waiting, len(held)), fleet, policy)


def read_tokens(
    fleet: Fleet, policy: PolicySpec, demand: Demand | None, capacity_tokens_per_s: float | None
) -> Reading:
    """Tokens per second, the backlog among them, over what a replica serves."""
    signal = Signal(
        name="tokens",
        reason=Reason.FOLLOWING_TOKENS,
        unit="tokens/s per replica",
        target=capacity_tokens_per_s or math.inf,
    )
    if capacity_tokens_per_s is None:
        return silent(signal, "capacity not learned yet", is_missing=False)
    if demand is None:
        return read_use(signal, Total(0.0, 0), fleet, policy)
    return read_use(signal, Total(demand.tokens_per_s, demand.rated), fleet, policy)
