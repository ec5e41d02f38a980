"""What would change the answer, in plain sentences for `warmtide why`."""

import math

from autoscaler.policy.behavior import next_expiry_s, next_period_end_s
from autoscaler.policy.lenses import REPLICAS_MAX, Reading
from autoscaler.policy.limits import Case, settle_s
from autoscaler.policy.types import Reason, Step

# More sentences than this nobody reads at night.
SENTENCES_MAX = 4


def would_change(case: Case, steps: tuple[Step, ...], readings: tuple[Reading, ...]) -> tuple[str, ...]:
    """Up to four sentences: what holds the number back first, then what would raise it."""
    sentences = [sentence for sentence in (_for_zero(case, steps[0]),) if sentence]
    before: int | None = None
    for step in steps:
        if before is not None and step.replicas != before:
            sentence = _for_step(case, step, before)
            if sentence:
                sentences.append(sentence)
        before = step.replicas
    for reading in readings:
        sentence = _for_lens(case, reading)
        if sentence:
            sentences.append(sentence)
    return tuple(sentences[:SENTENCES_MAX])


def _for_zero(case: Case, first: Step) -> str | None:
    """What wakes a service that sleeps."""
    if case.seen.replicas > 0 or not case.policy.zero.enabled:
        return None
    if first.reason is Reason.UPSTREAM_UNKNOWN:
        return "an answer to upstream.query would say whether to wake it; pause.replicas: 1 wakes it by hand"
    return "one request that waits upstream would wake it" if first.reason is Reason.IDLE else None


def _for_step(case: Case, step: Step, wanted: int) -> str | None:
    now_s, policy, wishes = case.now_s, case.policy, case.wishes
    match step.reason:
        case Reason.STABILIZING_DOWN:
            at_s = next_expiry_s(wishes.highs, policy.scale_down.stabilization_window_s, now_s)
            return _in_time(f"the stabilization window lets it fall towards {wanted}", at_s - now_s)
        case Reason.STABILIZING_UP:
            at_s = next_expiry_s(wishes.lows, policy.scale_up.stabilization_window_s, now_s)
            return _in_time(f"the stabilization window lets it rise towards {wanted}", at_s - now_s)
        case Reason.RATE_UP:
            at_s = next_period_end_s(policy.scale_up, case.memory.changes, now_s)
            return _in_time(f"the scale-up rate lets it go on towards {wanted}", at_s - now_s)
        case Reason.RATE_DOWN:
            at_s = next_period_end_s(policy.scale_down, case.memory.changes, now_s)
            return _in_time(f"the scale-down rate lets it go on towards {wanted}", at_s - now_s)
        case Reason.ONE_AT_A_TIME:
            since_s = case.memory.shrunk_at_s
            if since_s is not None and now_s < since_s + settle_s(case):
                return _in_time(f"the next one may go, down to {wanted}", since_s + settle_s(case) - now_s)
            return f"each replica that has left lets the next one go, down to {wanted}"
        case Reason.KEEPING_ONE if case.idle_since_s is not None and policy.zero.enabled:
            return _in_time("it goes to 0", case.idle_since_s + policy.zero.idle_s - now_s)
        case _:
            return _for_cause(step, wanted)


def _for_cause(step: Step, wanted: int) -> str | None:
    template = _CAUSES.get(step.reason)
    return template and template.format(wanted=wanted, more=wanted - step.replicas, detail=step.detail)


def _in_time(what: str, in_s: float) -> str:
    return f"{what} in {in_s:.0f} s" if math.isfinite(in_s) else f"{what} with the next decision"


def _for_lens(case: Case, reading: Reading) -> str | None:
    """How much more of a signal would ask for another replica."""
    lens, coming = reading.lens, case.fleet.coming
    if lens.replicas is None:
        return f"{lens.name} is silent: {lens.note}" if reading.is_silent else None
    if not lens.target or lens.replicas > coming or lens.reason in _LATENCY:
        return None
    edge = coming * (1.0 + case.policy.scale_up.tolerance_ratio)
    if edge >= REPLICAS_MAX:
        return None
    replicas = math.floor(edge) + 1 if math.floor(edge) == coming else math.ceil(edge)
    if lens.reason is Reason.FOLLOWING_QUEUE:
        more = math.floor((edge - reading.use) * lens.target) + 1
        replicas = max(replicas, math.ceil(reading.use + more / lens.target))
        return f"{more} more waiting requests would ask for {replicas}"
    return f"{lens.name} above {edge * lens.target / max(coming, 1):.4g} {lens.unit} would ask for {replicas}"


_CAUSES = {
    Reason.NO_FRESH_DATA: "fresh samples would let it fall to {wanted} ({detail})",
    Reason.PARTLY_BLIND: "fresh samples would let it fall to {wanted} ({detail})",
    Reason.UPSTREAM_UNKNOWN: "an answer to upstream.query would let it fall to {wanted} ({detail})",
    Reason.NOT_SCHEDULABLE: "free GPUs for {more} more would let it grow to {wanted}",
    Reason.GPU_BUDGET: "a larger GPU budget would let it grow to {wanted}",
    Reason.ABOVE_MAX: "a maximum of {wanted} would let it grow to {wanted}",
    Reason.BELOW_MIN: "a minimum of {wanted} would let it fall to {wanted}",
    Reason.SCHEDULE_FLOOR: "the end of the schedule would let it fall to {wanted}",
    Reason.PAUSED: "without the pause it would go towards {wanted}",
    Reason.PINNED: "without the pin it would go towards {wanted}",
    Reason.LAST_WARM_COPY: "another warm copy elsewhere would let it fall to {wanted}",
}
_LATENCY = frozenset({Reason.FOLLOWING_TTFT, Reason.FOLLOWING_ITL})
