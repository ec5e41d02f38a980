"""Decisions and reports made of plain numbers: for tests, benchmarks and trying things out."""

from typing import Any

from autoscaler.policy.spec import Mode
from autoscaler.policy.types import Decision, Reason, Step, Supply
from autoscaler.report import ServiceReport

NOW_S = 1_800_000_000.0


def decision(
    replicas: int = 3, *, current: int = 3, reason: Reason = Reason.STEADY, supply: Supply | None = None, **more: Any
) -> Decision:
    """A service that stays at three, with whatever differs."""
    return Decision(
        service="team-a/llama",
        decided_at_s=NOW_S,
        current_replicas=current,
        replicas=replicas,
        reason=reason,
        steps=more.pop("steps", (Step(replicas=replicas, reason=reason),)),
        supply=supply or Supply(ready=current),
        **more,
    )


def report(decided: Decision | None = None, **more: Any) -> ServiceReport:
    """What a pass over it found, with whatever differs."""
    usual = {"service": "team-a/llama", "mode": Mode.DIRECT, "policy": "team-a/gold", "decision": decided}
    return ServiceReport(**(usual | more))
