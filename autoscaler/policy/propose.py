"""Where the number starts: the largest lens, what is on its way, and what the forecast adds."""

import math

from autoscaler.policy.evidence import Evidence, Lookout
from autoscaler.policy.forecast import Outlook
from autoscaler.policy.lenses import REPLICAS_MAX, ROUNDING, Reading
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import ForecastReading, Observation, Reason, Step


def propose(seen: Observation, fleet: Fleet, evidence: Evidence) -> tuple[Step, ...]:
    """What the signals ask for now, before forecast and limits."""
    binding = evidence.binding()
    if seen.replicas == 0:
        return (_from_zero(binding, evidence),)
    if binding is None:
        return (_unread(seen, fleet),)
    return _follow(seen, fleet, evidence, binding)


def _from_zero(binding: Reading | None, evidence: Evidence) -> Step:
    if evidence.upstream_waiting <= 0:
        return Step(replicas=0, reason=Reason.IDLE, detail="no replica, and nothing waits")
    wanted = 0 if binding is None else binding.lens.replicas or 0
    detail = f"{evidence.upstream_waiting:g} requests wait upstream"
    return Step(replicas=max(1, wanted), reason=Reason.WAKING, detail=detail)


def _unread(seen: Observation, fleet: Fleet) -> Step:
    if fleet.serving == 0:
        detail = f"none is ready, {fleet.supply.starting} on their way"
        return Step(replicas=seen.replicas, reason=Reason.STARTING_COUNTED, detail=detail)
    return Step(replicas=seen.replicas, reason=Reason.NO_FRESH_DATA, detail="no lens can be read")


def _follow(seen: Observation, fleet: Fleet, evidence: Evidence, binding: Reading) -> tuple[Step, ...]:
    lens = binding.lens
    number = lens.replicas or 0
    clear = max((reading.unclamped for reading in evidence.readings if reading.lens.replicas is not None), default=0)
    if evidence.is_idle:
        return (Step(replicas=number, reason=Reason.IDLE, detail="no request runs or waits, no token moves"),)
    steps: tuple[Step, ...]
    if binding.is_held:
        steps = (Step(replicas=clear, reason=Reason.WITHIN_TOLERANCE, detail=_said(binding)),)
    else:
        steps = (Step(replicas=clear, reason=lens.reason, detail=_said(binding)),)
    if number > clear:
        steps += (Step(replicas=number, reason=Reason.PARTLY_BLIND, detail=f"{lens.name}: {lens.note}"),)
    if number < seen.replicas and not any(r.is_use and r.lens.replicas is not None for r in evidence.readings):
        # An empty queue says enough, not how little would be.
        number = seen.replicas
        steps += (Step(replicas=number, reason=Reason.STEADY, detail="no lens that is read says how few would do"),)
    return steps


def _said(reading: Reading) -> str:
    lens = reading.lens
    if lens.value is None or lens.target is None:
        return f"{lens.name}: {lens.note}"
    return f"{lens.name} {lens.value:.4g} of {lens.target:.4g} {lens.unit}"


def on_their_way(number: int, fleet: Fleet) -> tuple[Step, ...]:
    """Starting replicas count until they are overdue; then each one that is needed is ordered once more."""
    supply = fleet.supply
    short = number - supply.ready - supply.asleep
    if short <= 0:
        return ()
    if supply.overdue:
        replaced = min(fleet.stuck, short)
        detail = f"{supply.overdue} of the replicas asked for are not coming"
        return (Step(replicas=number + replaced, reason=Reason.STARTING_OVERDUE, detail=detail),)
    if supply.starting:
        detail = f"{min(supply.starting, short)} of them on their way"
        return (Step(replicas=number, reason=Reason.STARTING_COUNTED, detail=detail),)
    return ()


def foresee(
    number: int, seen: Observation, policy: PolicySpec, evidence: Evidence, lookout: Lookout | None
) -> tuple[ForecastReading | None, tuple[Step, ...]]:
    """What the forecast adds: it may raise the number or veto a scale-in, nothing else."""
    if lookout is None:
        return None, ()
    outlook, demand = lookout.record.outlook, evidence.demand_tokens_per_s
    if outlook is None or demand is None:
        note = lookout.record.note if outlook is None else "demand cannot be seen"
        off = ForecastReading(active=False, horizon_s=lookout.horizon_s, demand_now_tokens_per_s=demand, note=note)
        return off, (Step(replicas=number, reason=Reason.FORECAST_OFF, detail=note),)
    most = math.ceil(max(number, 1) * (1.0 + policy.forecast.max_raise_ratio) - ROUNDING)
    wanted = min(_replicas_for(outlook, evidence), most)
    reading = ForecastReading(
        active=True,
        horizon_s=lookout.horizon_s,
        demand_now_tokens_per_s=demand,
        demand_p50_tokens_per_s=outlook.p50_tokens_per_s,
        demand_p90_tokens_per_s=outlook.p90_tokens_per_s,
        replicas=wanted,
        skill_ratio=outlook.skill_ratio,
        method=outlook.method,
        note=lookout.record.note,
    )
    if wanted <= number:
        return reading, ()
    reason = Reason.FORECAST_RAISED if wanted > seen.replicas else Reason.FORECAST_HELD
    detail = f"{outlook.p90_tokens_per_s:.4g} tokens/s at most expected in {lookout.horizon_s:.0f} s"
    return reading, (Step(replicas=wanted, reason=reason, detail=detail),)


def _replicas_for(outlook: Outlook, evidence: Evidence) -> int:
    """By capacity where it is known; otherwise in proportion to what the replicas carry now."""
    expected, now = outlook.p90_tokens_per_s, outlook.now_tokens_per_s
    if evidence.capacity_tokens_per_s:
        replicas = expected / evidence.capacity_tokens_per_s
    elif now > 0:
        replicas = evidence.use * expected / now
    else:
        replicas = 0.0
    return math.ceil(min(replicas, REPLICAS_MAX) - ROUNDING)


def held_for_freshness(number: int, seen: Observation, fleet: Fleet, evidence: Evidence) -> tuple[Step, ...]:
    """Blind is not idle: a lens that is on and cannot be read vetoes every scale-in."""
    if number >= seen.replicas:
        return ()
    names = evidence.silent_names()
    if not names:
        return ()
    is_all_blind = fleet.serving > 0 and not fleet.signals
    reason = Reason.NO_FRESH_DATA if is_all_blind else Reason.PARTLY_BLIND
    return (Step(replicas=seen.replicas, reason=reason, detail=f"cannot be read: {names}"),)
