"""What may cut the number, in this order: bounds, pause or pin, GPU budget, schedulability, rates, windows, victims.

Each limit is `(number, case) -> Step | None`; None means that it had nothing to say.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from autoscaler.policy.behavior import Wishes, highest_allowed, highest_wish, lowest_allowed, lowest_wish
from autoscaler.policy.lead_time import typical_lead_time
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import PolicySpec, SelectPolicy
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import Observation, PodPhase, PodSeen, Reason, Step
from metrics.quick import quick

# Without a word from service or policy.
MIN_DEFAULT, MAX_DEFAULT = 1, 10
# Where the load of a replica that left went shows at the others a scrape under load (2 s) later at the latest.
SETTLE_S = 2.0
# A pod that has not left after the longest drain we grant (10 min) holds up no other.
DRAIN_MAX_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The hard bounds in force. `low_reason` says whose the lower one is."""

    low: int
    high: int
    low_reason: Reason = Reason.BELOW_MIN


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the limits judge by."""

    seen: Observation
    policy: PolicySpec
    memory: Memory  # caught up
    wishes: Wishes  # the present one included
    idle_since_s: float | None
    fleet: Fleet
    bounds: Bounds
    is_leap: bool  # one replica fewer would load the others as never before
    now_s: float


Limit = Callable[[int, Case], Step | None]


def bounds_of(seen: Observation, policy: PolicySpec, *, may_be_zero: bool) -> Bounds:
    """The policy's bounds, else the service's own, else defaults; a schedule lifts the lower one."""
    low = policy.replicas_min
    if low is None and seen.native_min is not None:
        low = max(0, seen.native_min)
    if low is None:
        low = 0 if policy.zero.enabled else MIN_DEFAULT
    high = policy.replicas_max
    if high is None:
        high = seen.native_max if seen.native_max is not None and seen.native_max > 0 else MAX_DEFAULT
    high = max(high, low, 1)
    reason = Reason.BELOW_MIN
    floor = min(seen.schedule_floor or 0, high)
    if floor > low:
        low, reason = floor, Reason.SCHEDULE_FLOOR
    if low == 0 and not may_be_zero:
        low, reason = 1, Reason.KEEPING_ONE
    return Bounds(low=low, high=high, low_reason=reason)


def is_zero_allowed(seen: Observation, policy: PolicySpec, idle_since_s: float | None, now_s: float) -> bool:
    """Asked for, idle for long enough, and someone upstream who would wake it; at 0, who will answer again."""
    is_known = seen.upstream_waiting_requests is not None
    if not policy.zero.enabled:
        return False
    if seen.replicas == 0:
        return is_known or bool(seen.upstream_problem)
    return is_known and idle_since_s is not None and now_s - idle_since_s >= policy.zero.idle_s


def within_bounds(number: int, case: Case) -> Step | None:
    """Native bounds and schedule floors."""
    bounds = case.bounds
    if number < bounds.low:
        return Step(replicas=bounds.low, reason=bounds.low_reason, detail=f"{number} is below {bounds.low}")
    if number > bounds.high:
        return Step(replicas=bounds.high, reason=Reason.ABOVE_MAX, detail=f"{number} is above {bounds.high}")
    if number == 0 and case.seen.replicas > 0:
        return Step(replicas=0, reason=Reason.IDLE_LONG_ENOUGH, detail=f"idle for {case.policy.zero.idle_s:g} s")
    return None


def paused(number: int, case: Case) -> Step | None:
    """An operator's pause: hands off."""
    del number
    return Step(replicas=case.seen.replicas, reason=Reason.PAUSED, detail="the policy is paused")


def pinned(number: int, case: Case) -> Step | None:
    """An operator's number: at once, whatever the signals say."""
    pin = case.policy.pinned_replicas or 0
    return Step(replicas=pin, reason=Reason.PINNED, detail=f"pinned at {pin}; the signals ask for {number}")


def within_budget(number: int, case: Case) -> Step | None:
    """The GPU budget is hard, the lower bound included."""
    budget = case.seen.budget_replicas
    if budget is None or number <= max(0, budget):
        return None
    return Step(replicas=max(0, budget), reason=Reason.GPU_BUDGET, detail=f"the GPU budget leaves {max(0, budget)}")


def schedulable(number: int, case: Case) -> Step | None:
    """More replicas than find a GPU would only wait; those that wait already take the free ones first."""
    room = case.seen.schedulable_replicas
    current = case.seen.replicas
    if room is None or number <= current:
        return None
    most = max(current, case.fleet.placed + max(0, room), min(case.bounds.low, number))
    if number <= most:
        return None
    return Step(replicas=most, reason=Reason.NOT_SCHEDULABLE, detail=f"free GPUs for {max(0, room)} more")


def rate_limited(number: int, case: Case) -> Step | None:
    """HPA `behavior` policies. Hard bounds are reached at once, as with the HPA."""
    current, changes, policy = case.seen.replicas, case.memory.changes, case.policy
    if number > current:
        allowed = min(number, highest_allowed(policy.scale_up, current, changes, case.now_s))
        least = case.bounds.low
        if current == 0 and policy.scale_up.select_policy is not SelectPolicy.DISABLED:
            least = max(least, 1)  # a percentage of nothing is nothing: the first replica is not rationed
        allowed = int(max(allowed, min(number, least)))
        reason = _why(policy.scale_up.select_policy, Reason.RATE_UP)
    elif number < current:
        allowed = max(number, min(lowest_allowed(policy.scale_down, current, changes, case.now_s), _hard_high(case)))
        reason = _why(policy.scale_down.select_policy, Reason.RATE_DOWN)
    else:
        return None
    if allowed == number:
        return None
    return Step(replicas=allowed, reason=reason, detail=f"{number} is further than the rate limits let it go")


def _why(select: SelectPolicy, reason: Reason) -> Reason:
    return Reason.SCALING_DISABLED if select is SelectPolicy.DISABLED else reason


def _hard_high(case: Case) -> int:
    budget = case.seen.budget_replicas
    return case.bounds.high if budget is None else min(case.bounds.high, max(0, budget))


def stabilized(number: int, case: Case) -> Step | None:
    """HPA stabilisation: up to the lowest, down to the highest wish of the window."""
    current = case.seen.replicas
    if number > current:
        window_s = case.policy.scale_up.stabilization_window_s
        lowest = lowest_wish(case.wishes, window_s, case.now_s)
        least = max(case.bounds.low, 1 if current == 0 else 0)
        allowed = max(current, min(number, lowest), min(number, least))
        reason, extreme = Reason.STABILIZING_UP, f"lowest wish of the last {window_s:g} s: {lowest}"
    elif number < current:
        window_s = case.policy.scale_down.stabilization_window_s
        highest = highest_wish(case.wishes, window_s, case.now_s)
        allowed = max(number, min(current, highest, _hard_high(case)))
        reason, extreme = Reason.STABILIZING_DOWN, f"highest wish of the last {window_s:g} s: {highest}"
    else:
        return None
    return None if allowed == number else Step(replicas=allowed, reason=reason, detail=extreme)


def one_at_a_time(number: int, case: Case) -> Step | None:
    """One victim, and the next when that one is gone and the others have shown how they bear it."""
    current, high = case.seen.replicas, _hard_high(case)
    if number >= current:
        return None
    allowed = high if current > high else current if is_settling(case) else current - 1
    if allowed <= number:
        return None
    detail = "one replica at a time" if allowed < current else "the last removal has not shown its effect yet"
    return Step(replicas=allowed, reason=Reason.ONE_AT_A_TIME, detail=detail)


def settle_s(case: Case) -> float:
    """How long the fleet must bear the last removal before the next; a leap into unknown load is tried once per window.

    What went is back after a start-up, so one goes per start-up: demand that comes back within the time
    that nothing makes up for meets a fleet that is one replica short, not many. Congestion control lets go once per
    round trip for the same reason (Jacobson, SIGCOMM 1988; RFC 3168, 6.1.2). A shorter window is the user's word.
    """
    window_s = case.policy.scale_down.stabilization_window_s
    if case.is_leap:
        return max(SETTLE_S, window_s)
    lead = typical_lead_time(case.memory.starts, case.policy.lead_time_prior_s, case.seen.landing)
    return max(SETTLE_S, min(lead.p50_s, window_s))


def is_settling(case: Case) -> bool:
    """Whether the last removal is still under way, or too fresh to see what it did."""
    shrunk_at_s = case.memory.shrunk_at_s
    if shrunk_at_s is None:
        return False
    since_s = case.now_s - shrunk_at_s
    if since_s < settle_s(case):
        return True
    # What a replica said before the removal is no evidence of how it bears it.
    is_unread = any(sample.observed_at_s < shrunk_at_s for sample in case.fleet.signals)
    is_leaving = case.fleet.supply.terminating > 0 or case.fleet.present > case.seen.replicas
    return (is_unread or is_leaving) and since_s < DRAIN_MAX_S


def last_warm_copy(number: int, case: Case) -> Step | None:
    """The last warm copy of a pinned model never goes."""
    kept, current = case.seen.last_warm_copies, case.seen.replicas
    if number >= current or not kept:
        return None
    protected = sum(pod.name in kept for pod in case.seen.pods if pod.phase is not PodPhase.TERMINATING)
    least = min(current, protected)
    if number >= least:
        return None
    return Step(replicas=least, reason=Reason.LAST_WARM_COPY, detail=f"{protected} hold the last warm copy")


def choose_victim(case: Case) -> PodSeen | None:
    """Who goes first: what serves nothing and is not needed, then the emptiest; never a last warm copy."""
    kept = case.seen.last_warm_copies
    for pod in case.fleet.surplus_first:
        if pod.name not in kept:
            return pod
    victim: PodSeen | None = None
    least: tuple[float, float] = (math.inf, math.inf)
    for pod, sample in zip(case.fleet.sighted, case.fleet.signals, strict=True):
        requests = (sample.running_requests or 0.0) + (sample.waiting_requests or 0.0)
        load = (requests, sample.kv_cache_usage_ratio or 0.0)
        if pod.name not in kept and (victim is None or load < least or (load == least and _is_younger(pod, victim))):
            victim, least = pod, load
    return victim or _youngest_blind(case)


def _is_younger(pod: PodSeen, other: PodSeen) -> bool:
    return (-pod.created_at_s, pod.name) < (-other.created_at_s, other.name)


def _youngest_blind(case: Case) -> PodSeen | None:
    """A blind replica may be the busiest: it goes when no other can."""
    kept = case.seen.last_warm_copies
    pods = [pod for pod in case.seen.pods if pod.phase is PodPhase.READY and pod.name not in kept]
    return min(pods, key=lambda pod: (-pod.created_at_s, pod.name), default=None)


LIMITS: tuple[Limit, ...] = (
    within_bounds,
    within_budget,
    schedulable,
    rate_limited,
    stabilized,
    one_at_a_time,
    last_warm_copy,
)
PAUSED_LIMITS: tuple[Limit, ...] = (paused,)
PINNED_LIMITS: tuple[Limit, ...] = (pinned, within_budget)


def limits_for(policy: PolicySpec) -> tuple[Limit, ...]:
    """A pause stops everything; a pin leaves the budget alone in force."""
    if policy.paused:
        return PAUSED_LIMITS
    return LIMITS if policy.pinned_replicas is None else PINNED_LIMITS
