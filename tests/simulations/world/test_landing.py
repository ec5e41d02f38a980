"""What a policy is told of the place where its next replica would start is what the controller would know."""

import pytest

from autoscaler.caching.landing import LANDING_SETTLES_S
from autoscaler.policy.types import Landing, Observation, Tier
from simulations.policies import Cadence, Wish
from simulations.world import simulate
from simulations.world.examples import one_a_second, small_world
from simulations.world.nodes import NodeGroup
from simulations.world.starts.caches import Keeping, NodeCaches
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import StartupTimes

COLD, WARM = Landing(tier=Tier.COLD, node_class="L40S"), Landing(tier=Tier.WARM, node_class="L40S")
NOWHERE = Landing(tier=Tier.COLD)
FETCH_S = 16.0
SPAN_S = 900.0


class Told:
    """One replica, and two from a time on; what it was told when."""

    def __init__(self, second_at_s: float) -> None:
        self.second_at_s = second_at_s
        self.landings: list[tuple[float, Landing | None]] = []
        self.cadence = Cadence(scrape_s=1.0, decide_s=1.0)

    def wish(self, seen: Observation, now_s: float) -> Wish:
        if not self.landings or self.landings[-1][1] != seen.landing:
            self.landings.append((now_s, seen.landing))
        return Wish(replicas=1 if now_s < self.second_at_s else 2)


def told(startup: Phases | StartupTimes, *, second_at_s: float = SPAN_S, nodes: int = 2) -> Told:
    policy = Told(second_at_s)
    group = NodeGroup(gpu_class="L40S", low=nodes, high=nodes)
    simulate(small_world(one_a_second(SPAN_S), startup, high=3, nodes=(group,)), policy)
    return policy


def keeping(keep: Keeping) -> Phases:
    return Phases(log_deviation=0.0, node_bytes_per_s=1e9, caches=NodeCaches(keep=keep))


def test_where_weights_come_ahead_it_is_warm_once_they_have_been_there_for_a_while() -> None:
    landings = told(keeping(Keeping.PREFETCH)).landings

    assert [landing for _, landing in landings] == [COLD, WARM]
    assert FETCH_S + LANDING_SETTLES_S <= landings[1][0] <= FETCH_S + LANDING_SETTLES_S + 3.0


def test_where_no_node_is_free_it_is_cold_and_that_at_once() -> None:
    landings = told(keeping(Keeping.PREFETCH), second_at_s=600.0).landings

    assert [landing for _, landing in landings] == [COLD, WARM, NOWHERE]
    assert landings[2][0] == pytest.approx(600.0, abs=3.0)


def test_a_node_that_never_ran_it_is_cold_where_nothing_comes_ahead() -> None:
    assert [landing for _, landing in told(keeping(Keeping.ON_DEMAND)).landings] == [COLD]


@pytest.mark.parametrize("startup", [keeping(Keeping.NONE), StartupTimes()], ids=["each for itself", "by tier"])
def test_where_no_agent_tells_it_nobody_knows(startup: Phases | StartupTimes) -> None:
    assert [landing for _, landing in told(startup).landings] == [None]
