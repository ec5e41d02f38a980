"""A fleet of which no replica serves says nothing about demand: nothing shrinks, however long it lasts."""

import pytest

from autoscaler.policy.decide import decide
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.types import Observation, PodPhase, PodSeen, Reason


@pytest.mark.parametrize("phase", [PodPhase.STARTING, PodPhase.UNSCHEDULABLE, PodPhase.GATED])
@pytest.mark.parametrize("age_s", [30.0, 3600.0])
def test_a_fleet_that_restarts_as_a_whole_keeps_its_size(phase: PodPhase, age_s: float) -> None:
    policy = PolicySpec(replicas_min=1, replicas_max=5)
    memory = Memory.start(3, now_s=0.0)

    for now_s in range(10_000, 12_000, 10):
        pods = tuple(PodSeen(name=f"p{i}", phase=phase, created_at_s=now_s - age_s) for i in range(3))
        seen = Observation(service="team-a/llama", replicas=3, pods=pods)
        decision, memory = decide(seen, policy, memory, now_s=float(now_s))

    assert (decision.replicas, decision.reason) == (3, Reason.NO_FRESH_DATA)
