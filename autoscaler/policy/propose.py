"""Where the number starts: the largest lens, what is on its way, and what the forecast adds."""

import math
from typing import NamedTuple

from autoscaler.policy.capacity import shown_tokens_per_s
from autoscaler.policy.evidence import Evidence, Lookout
from autoscaler.policy.forecast import Outlook
from autoscaler.policy.lenses import REPLICAS_MAX, ROUNDING, Reading
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import Capacity, ForecastReading, Observation, Reason, Step


class Proposal(NamedTuple):
    """Replicas that must serve (`need`), and how many must at least be asked for where nothing can be read (`hold`)."""

    steps: tuple[Step, ...]
    need: int
    hold: int = 0


def propose(seen: Observation, fleet: Fleet, evidence: Evidence) -> Proposal:
    """What the signals ask for now, before forecast and limits."""
    binding = evidence.binding()
    if seen.replicas == 0 and fleet.serving == 0:
        step = _from_zero(binding, evidence)
        return Proposal((step,), step.replicas)
    wanted = 0 if binding is None else binding.lens.replicas or 0
    if binding is None or (fleet.serving == 0 and wanted <= seen.replicas):
        return Proposal((_unread(seen, fleet),), max(1, wanted), seen.replicas)
    return _follow(evidence, binding)


def _from_zero(binding: Reading | None, evidence: Evidence) -> Step:
    if evidence.upstream_problem:
        # Every service at 0 shares one Prometheus: its restart must not start all of them.
        return Step(replicas=0, reason=Reason.UPSTREAM_UNKNOWN, detail=evidence.upstream_problem)
    if evidence.upstream_waiting <= 0:
        return Step(replicas=0, reason=Reason.IDLE, detail="no replica, and nothing waits")
    wanted = 0 if binding is None else binding.lens.replicas or 0
    detail = f"{evidence.upstream_waiting:g} requests wait upstream"
    return Step(replicas=max(1, wanted), reason=Reason.WAKING, detail=detail)


def _unread(seen: Observation, fleet: Fleet) -> Step:
    detail = "no lens can be read"
    if fleet.serving == 0:
        # Pods that start, crash or wait for a node say nothing about what is asked of the service.
        detail = f"no replica serves, {fleet.supply.starting} on their way: demand is unknown"
    return Step(replicas=seen.replicas, reason=Reason.NO_FRESH_DATA, detail=detail)


def _follow(evidence: Evidence, binding: Reading) -> Proposal:
    lens = binding.lens
    number = lens.replicas or 0
    if evidence.is_idle:
        step = Step(replicas=number, reason=Reason.IDLE, detail="no request runs or waits, no token moves")
        return Proposal((step,), number)
    clear = max([reading.unclamped for reading in evidence.readings if reading.lens.replicas is not None])
    reason = Reason.WITHIN_TOLERANCE if binding.is_held else lens.reason
    steps: tuple[Step, ...] = (Step(replicas=clear, reason=reason, detail=_said(binding, evidence.capacity)),)
    if number > clear:
        steps += (Step(replicas=number, reason=Reason.PARTLY_BLIND, detail=f"{lens.name}: {lens.note}"),)
    return Proposal(steps, number)


def _said(reading: Reading, capacity: Capacity) -> str:
    lens = reading.lens
    if lens.value is None:
        return f"{lens.name}: {lens.note}"
    said = f"{lens.name} {lens.value:.4g} of {lens.target or 0.0:.4g} {lens.unit}"
    if lens.reason is Reason.FOLLOWING_TOKENS and lens.target == capacity.trusted_tokens_per_s:
        return f"{said}, as calm lets us trust replicas that seemed full at {capacity.tokens_per_s or 0.0:.4g}"
    return said


def foresee(
    proposal: Proposal, seen: Observation, policy: PolicySpec, evidence: Evidence, lookout: Lookout | None
) -> tuple[ForecastReading | None, Proposal]:
    """What the forecast adds: it may raise the number or veto a scale-in, nothing else."""
    if lookout is None:
        return None, proposal
    steps, need, hold = proposal
    outlook, demand = seen.foretold or lookout.record.outlook, evidence.demand_tokens_per_s
    most = math.ceil(max(need, 1) * (1.0 + policy.forecast.max_raise_ratio) - ROUNDING)
    if outlook is None or demand is None:
        note = lookout.record.note if outlook is None else "demand cannot be seen"
        off = ForecastReading(active=False, horizon_s=lookout.horizon_s, demand_now_tokens_per_s=demand, note=note)
        kept = min(_kept(lookout, evidence), seen.replicas, most)
        if demand is not None and kept > need:
            return off, Proposal((*steps, _veto(max(kept, hold), lookout)), kept, hold)
        step = Step(replicas=max(need, hold), reason=Reason.FORECAST_OFF, detail=note)
        return off, Proposal((*steps, step), need, hold)
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
        note="" if seen.foretold else lookout.record.note,
    )
    if wanted <= need:
        return reading, proposal
    reason = Reason.FORECAST_RAISED if wanted > seen.replicas else Reason.FORECAST_HELD
    detail = f"{outlook.p90_tokens_per_s:.4g} tokens/s at most expected in {lookout.horizon_s:.0f} s"
    step = Step(replicas=max(wanted, hold), reason=reason, detail=detail)
    return reading, Proposal((*steps, step), wanted, hold)


def _kept(lookout: Lookout, evidence: Evidence) -> int:
    """Replicas that bear what demand likely stays below: by capacity, else by what replicas have shown to bear."""
    likely, capacity = lookout.record.likely_tokens_per_s, evidence.capacity_tokens_per_s
    if capacity is None and evidence.is_learning:
        capacity = shown_tokens_per_s(evidence.capacity)
    if likely is None or not capacity:
        return 0
    return math.ceil(min(likely / capacity, REPLICAS_MAX) - ROUNDING)


def _veto(kept: int, lookout: Lookout) -> Step:
    likely = lookout.record.likely_tokens_per_s or 0.0
    detail = f"{likely:.4g} tokens/s may come within {lookout.horizon_s:.0f} s, as demand has changed so far"
    return Step(replicas=kept, reason=Reason.FORECAST_HELD, detail=detail)


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


def on_their_way(proposal: Proposal, fleet: Fleet) -> tuple[Step, ...]:
    """Starting replicas count until they are overdue; then each one that is needed is ordered once more."""
    _, need, hold = proposal
    supply = fleet.supply
    short = need - supply.ready - supply.asleep
    if short <= 0:
        return ()
    if supply.overdue:
        replicas = max(need + min(fleet.stuck, short), hold)
        if replicas == hold:
            return ()
        detail = f"{supply.overdue} of the replicas asked for are not coming"
        return (Step(replicas=replicas, reason=Reason.STARTING_OVERDUE, detail=detail),)
    if supply.starting and need > hold:
        detail = f"{min(supply.starting, short)} of them on their way"
        return (Step(replicas=need, reason=Reason.STARTING_COUNTED, detail=detail),)
    return ()


def held(number: int, seen: Observation, fleet: Fleet, evidence: Evidence) -> tuple[Step, ...]:
    """Blind is not idle: a lens that is on and cannot be read vetoes every scale-in. So does knowing too little."""
    current = seen.replicas
    if number >= current:
        return ()
    names = evidence.silent_names()
    if names:
        names += ("upstream",) if evidence.upstream_problem else ()
        is_all_blind = fleet.serving > 0 and not fleet.signals
        reason = Reason.NO_FRESH_DATA if is_all_blind else Reason.PARTLY_BLIND
        return (Step(replicas=current, reason=reason, detail=f"cannot be read: {', '.join(names)}"),)
    if evidence.upstream_problem:
        return (Step(replicas=current, reason=Reason.UPSTREAM_UNKNOWN, detail=evidence.upstream_problem),)
    if not evidence.is_idle and not any(r.is_use and r.lens.replicas is not None for r in evidence.readings):
        # An empty queue says enough, not how little would be.
        return (Step(replicas=current, reason=Reason.STEADY, detail="no lens that is read says how few would do"),)
    return ()
