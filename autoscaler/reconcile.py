"""One pass over one service: observe, decide, scale, report. The same on a cluster and in memory."""

from dataclasses import dataclass
from typing import Protocol

from autoscaler.errors import Conflict
from autoscaler.observe import hold_when_stale
from autoscaler.policy.decide import decide
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import Mode, PolicySpec
from autoscaler.policy.types import Decision, Observation
from metrics.clock import Clock

# A Deployment that changes between each read and write of ours is left for the next pass.
ATTEMPTS_MAX = 3


class ScaleTarget(Protocol):
    """One service, as a pass needs it."""

    async def observe(self, now_s: float) -> Observation:
        """What is known now; after a Conflict, what was read again."""
        ...

    def stale_for_s(self, now_s: float) -> float:
        """For how long nobody confirmed the pods."""
        ...

    async def scale_to(self, decision: Decision, *, expected_version: str) -> None:
        """Write the number; Conflict when the workload is no longer at the version seen."""
        ...

    async def report(self, seen: Observation, decision: Decision, memory: Memory) -> None:
        """Say what was decided and why."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass ended with."""

    decision: Decision
    memory: Memory
    is_scaled: bool


async def reconcile(target: ScaleTarget, policy: PolicySpec, memory: Memory | None, clock: Clock) -> Pass:
    """Bring one service to its decided size. Safe to repeat; safe to cancel at any await.

    Without a memory it starts from the replicas there are, so that a new controller shrinks nothing.
    """
    for attempt in range(1, ATTEMPTS_MAX + 1):
        now_s = clock.now_s()
        seen = await target.observe(now_s)
        known = memory or Memory.start(seen.replicas, now_s)
        decision, remembered = decide(seen, policy, known, now_s=now_s)
        decision = hold_when_stale(decision, stale_for_s=target.stale_for_s(now_s))
        is_scaled = policy.mode is Mode.DIRECT and decision.replicas != seen.replicas
        try:
            if is_scaled:
                await target.scale_to(decision, expected_version=seen.version)
        except Conflict:
            if attempt == ATTEMPTS_MAX:
                raise
            continue
        await target.report(seen, decision, remembered)
        return Pass(decision=decision, memory=remembered, is_scaled=is_scaled)
    raise AssertionError("unreachable: the last attempt returns or raises")
