"""The conditions of a ScaledService, in the order in which an operator should read them."""

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.policy.spec import Mode
from autoscaler.policy.types import Decision, Reason
from autoscaler.sentences import sentence
from autoscaler.status import ConditionStatus

# Reasons of a condition that is not True by someone's will: worth a look in status, not an Event.
_BY_WILL = frozenset({"Observing", "Advising", "Paused", "Pinned"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that keeps a service from being scaled, and what to do about it."""

    reason: str  # CamelCase
    message: str  # names object, field and value


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition."""

    type: str
    status: str  # True, False, Unknown
    reason: str
    message: str


def is_bad(condition: ConditionStatus) -> bool:
    """Whether a human should look: not when a human asked for it."""
    return condition["status"] == "False" and condition["reason"] not in _BY_WILL


def conditions_of(
    *,
    mode: Mode,
    decision: Decision | None,
    problems: Mapping[str, Problem | None],
    upstream_problem: str = "",
    pods_new: int = 0,
) -> tuple[Condition, ...]:
    """PolicyValid, Enrolled, NotContested, DataFresh, ScalingActive.

    `upstream_problem`: what waits is not known. `pods_new`: ready pods that nobody could have heard yet.
    """
    return (
        _unless("PolicyValid", problems["policy"], "PolicyRead", "the policy is in force"),
        _unless("Enrolled", problems["enrolment"], "TargetFound", "the workload was found"),
        _unless("NotContested", problems["refusal"], "NoOtherScaler", "nobody else scales this workload"),
        _data_fresh(decision, upstream_problem, pods_new),
        _scaling_active(mode, decision, problems),
    )


def _unless(kind: str, problem: Problem | None, reason: str, message: str) -> Condition:
    if problem is None:
        return Condition(type=kind, status="True", reason=reason, message=message)
    return Condition(type=kind, status="False", reason=problem.reason, message=problem.message)


def _data_fresh(decision: Decision | None, upstream_problem: str, pods_new: int) -> Condition:
    if decision is None:
        return Condition(type="DataFresh", status="Unknown", reason="NotObserved", message="nothing was observed yet")
    supply = decision.supply
    blind = max(0, supply.blind - pods_new)
    if upstream_problem and blind == 0:
        unknown = Reason.UPSTREAM_UNKNOWN.value
        return Condition(type="DataFresh", status="False", reason=unknown, message=upstream_problem)
    if supply.ready == 0:
        return Condition(type="DataFresh", status="Unknown", reason="NoReadyPods", message="no pod is ready")
    if blind == 0:
        said = f"{supply.ready - pods_new} of {supply.ready}" if pods_new else f"all {supply.ready}"
        message = f"{said} ready pods have fresh samples{', the others have just become ready' if pods_new else ''}"
        return Condition(type="DataFresh", status="True", reason="Fresh", message=message)
    reason = Reason.NO_FRESH_DATA if blind >= supply.ready else Reason.PARTLY_BLIND
    message = f"{blind} of {supply.ready} ready pods: {sentence(reason)}"
    return Condition(type="DataFresh", status="False", reason=reason.value, message=message)


def _scaling_active(mode: Mode, decision: Decision | None, problems: Mapping[str, Problem | None]) -> Condition:
    for name in ("enrolment", "refusal", "scale"):
        problem = problems[name]
        if problem is not None:
            return _unless("ScalingActive", problem, "", "")
    held = {Reason.PAUSED: "Paused", Reason.PINNED: "Pinned"}
    if mode is Mode.OBSERVE:
        reason, message = "Observing", "mode observe: metrics only"
    elif mode is Mode.ADVISE:
        reason, message = "Advising", "mode advise: decides and says so, touches nothing"
    elif decision is None:
        reason, message = "NotObserved", "nothing could be decided yet"
    elif decision.reason in held:
        reason, message = held[decision.reason], sentence(decision.reason)
    else:
        return Condition(type="ScalingActive", status="True", reason="Scaling", message="Warmtide sets the replicas")
    return Condition(type="ScalingActive", status="False", reason=reason, message=message)
