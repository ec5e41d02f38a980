"""Start-ups by tier: how much they vary, and what a start finds where an engine sleeps."""

import math
from dataclasses import replace
from random import Random
from statistics import median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, PodPhase, Tier
from simulations.policies import Cadence, Wish
from simulations.world import Outcome, Setting, simulate, simulate_together
from simulations.world.examples import one_a_second, small_world
from simulations.world.host_memory import HostMemory
from simulations.world.nodes import NodeGroup
from simulations.world.starts.caches import NodeCaches
from simulations.world.starts.holdings import Holdings, model_of
from simulations.world.starts.phases import PhasedStarts, Phases
from simulations.world.starts.startup import Deviations, StartupTimes
from simulations.world.starts.stores import Stores

P99 = 2.326  # of a normal draw


@pytest.mark.parametrize(
    ("tier", "p50_s", "p99_to_p50"), [(Tier.COLD, 110.0, 2.3), (Tier.WARM, 52.0, 1.86), (Tier.HOT, 3.0, 1.33)], ids=str
)
def test_each_tier_varies_as_much_as_what_is_like_it_in_production(tier: Tier, p50_s: float, p99_to_p50: float) -> None:
    random = Random(1)
    drawn_s = [StartupTimes().draw_s(tier, random) for _ in range(20_000)]

    assert median(drawn_s) == pytest.approx(p50_s, rel=0.02)
    assert quantiles(drawn_s, n=100)[98] / median(drawn_s) == pytest.approx(p99_to_p50, rel=0.05)


def test_one_deviation_is_for_all_tiers() -> None:
    for tier in Tier:
        assert StartupTimes(log_deviation=0.5).draw_s(tier, Random(7)) == pytest.approx(
            StartupTimes(log_deviation=0.0).draw_s(tier, Random(7)) * math.exp(0.5 * Random(7).gauss(0.0, 1.0))
        )
    with pytest.raises(ValueError, match="log_deviation must be ≥ 0, got -1 of warm starts"):
        Deviations(warm=-1)


class Waves:
    """Down to one and up to `high` again, and the tiers of those that start."""

    def __init__(self, *ups: tuple[float, float], high: int = 2) -> None:
        self.ups, self.high = ups, high
        self.tiers: dict[str, Tier] = {}
        self.ready_s: dict[str, float] = {}
        self.cadence = Cadence(scrape_s=1.0, decide_s=1.0)

    def wish(self, seen: Observation, now_s: float) -> Wish:
        self.tiers |= {pod.name: pod.tier for pod in seen.pods if pod.phase is PodPhase.STARTING}
        self.ready_s |= {pod.name: pod.ready_at_s - pod.created_at_s for pod in seen.pods if pod.ready_at_s is not None}
        return Wish(replicas=self.high if any(begin_s <= now_s < end_s for begin_s, end_s in self.ups) else 1)


def setting_of(startup: StartupTimes | Phases, **fields: object) -> Setting:
    return small_world(one_a_second(899), startup, high=3, profile="llama-3.1-8b-h100", **fields)


def waves(
    startup: StartupTimes | Phases, *ups: tuple[float, float], high: int = 2, **fields: object
) -> tuple[Waves, Outcome]:
    policy = Waves(*ups, high=high)
    return policy, simulate(setting_of(startup, **fields), policy)


STEADY = StartupTimes(log_deviation=0.0, sleep_s=300.0)
PHASED = Phases(log_deviation=0.0, sleep_s=300.0)


@pytest.mark.parametrize("startup", [STEADY, PHASED], ids=["by tier", "by phases"])
def test_an_engine_that_sleeps_is_woken_and_one_that_slept_for_too_long_is_not(startup: StartupTimes | Phases) -> None:
    policy, outcome = waves(startup, (50.0, 250.0), (300.0, 400.0), (750.0, 899.0))

    assert list(policy.tiers.values()) == [Tier.COLD, Tier.HOT, Tier.WARM]
    assert list(policy.ready_s.values())[2] == pytest.approx(startup.hot_s)
    assert list(policy.ready_s.values())[3] == pytest.approx(startup.warm_s)
    assert [(each.tier, each.count) for each in outcome.startups.by_tier] == [
        (Tier.HOT, 1),
        (Tier.WARM, 1),
        (Tier.COLD, 1),
    ]


@pytest.mark.parametrize("startup", [STEADY, PHASED], ids=["by tier", "by phases"])
def test_nobody_sleeps_through_the_loss_of_his_node_nor_before_he_was_ready(startup: StartupTimes | Phases) -> None:
    group = NodeGroup(low=2, high=2, log_deviation=0.0, losses_at_s=((1, 260.0),))
    lost, _ = waves(startup, (50.0, 250.0), (400.0, 700.0), nodes=(group,))
    early, _ = waves(startup, (50.0, 60.0), (70.0, 300.0))

    assert list(lost.tiers.values()) == [Tier.COLD, Tier.COLD]
    assert Tier.HOT not in early.tiers.values()


def test_what_sleeps_has_its_weights_mounted_until_it_ends() -> None:
    phases = Phases(log_deviation=0.0, sleep_s=100.0)
    stores = Stores(NodeCaches(), phases.line())
    holdings = Holdings(stores, "own", model_of(10, phases.caches, [0]))
    starts = PhasedStarts(phases, Random(1), [0], holdings=holdings)
    starts.come(0, 0.0)
    starts.hold(0, 0)
    starts.end(0, 10.0)

    trees = stores.at(0).disk.trees

    assert [each.leases for each in trees.values()] == [1]
    assert starts.next_at_s == pytest.approx(110.0)
    starts.settle(110.0)
    assert [each.leases for each in trees.values()] == [0]
    assert not starts.is_hot(0, 110.0)


@pytest.mark.parametrize(
    ("memory_gb", "hot"),
    [(16.0, 0), (16.1, 1), (32.1, 1), (32.2, 2), (None, 2)],
    ids=["for none", "for one", "not quite for two", "for two", "what nodes have"],
)
@pytest.mark.parametrize("startup", [STEADY, PHASED], ids=["by tier", "by phases"])
def test_as_many_sleep_as_the_memory_of_their_node_holds(
    startup: StartupTimes | Phases, memory_gb: float | None, hot: int
) -> None:
    memory_bytes = None if memory_gb is None else round(memory_gb * 1e9)
    node = NodeGroup(gpus=3, memory_bytes=memory_bytes, log_deviation=0.0)

    _, outcome = waves(startup, (50.0, 250.0), (300.0, 400.0), high=3, nodes=(node,))

    assert {each.tier: each.count for each in outcome.startups.by_tier} == {
        tier: count for tier, count in ((Tier.HOT, hot), (Tier.WARM, 4 - hot)) if count
    }


def test_who_sleeps_for_longest_makes_room_for_another_service() -> None:
    node = NodeGroup(gpus=4, memory_bytes=round(17e9), log_deviation=0.0)
    settings = [setting_of(STEADY, nodes=(node,)) for _ in range(2)]
    first, second = Waves((50.0, 250.0), (500.0, 600.0)), Waves((50.0, 350.0), (500.0, 600.0))

    together = simulate_together(list(zip(settings, (first, second), strict=True)))

    tiers = [{each.tier: each.count for each in outcome.startups.by_tier} for outcome in together.outcomes]
    assert tiers == [{Tier.WARM: 2}, {Tier.WARM: 1, Tier.HOT: 1}]


@pytest.mark.parametrize(("memory_gb", "from_memory"), [(40.0, True), (20.0, False)], ids=["room for both", "for one"])
def test_files_leave_memory_to_who_sleeps(memory_gb: float, from_memory: bool) -> None:
    memory = HostMemory([memory_gb * 1e9])
    stores = Stores(NodeCaches(memory_bytes=10**12), PHASED.line(), memory)
    holdings = Holdings(stores, "own", model_of(round(16.1e9), NodeCaches(), [0]))
    starts = PhasedStarts(replace(PHASED, sleep_s=100.0), Random(1), [0], holdings=holdings, memory=memory)
    starts.come(0, 0.0)
    for slot in (0, 1):
        starts.hold(0, slot)

    starts.end(0, 10.0)

    after_s = PHASED.after_fetch_s(is_compiled=True, is_in_memory=from_memory)
    assert starts.begin(2, 0, 20.0) == pytest.approx(20.0 + after_s)


SLEEPER = st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 9))


@given(sizes=st.lists(st.integers(0, 20), min_size=1, max_size=3), orders=st.lists(st.tuples(st.booleans(), SLEEPER)))
def test_who_sleeps_fits_and_nobody_ends_who_need_not(
    sizes: list[int], orders: list[tuple[bool, tuple[int, int, int]]]
) -> None:
    memory, expected = HostMemory(sizes), list[tuple[int, int, int]]()  # who, node, size; the longest asleep first
    for lies_down, (who, node, size) in orders:
        known = [each for each in expected if each[0] == who]
        if not lies_down:
            memory.get_up(who)
            expected = [each for each in expected if each not in known]
        elif not known:
            most = sizes[node] if node < len(sizes) else math.inf
            assert memory.lie_down(who, node, size) == (size <= most)
            if size <= most:
                while size + sum(each[2] for each in expected if each[1] == node) > most:
                    expected.remove(next(each for each in expected if each[1] == node))
                expected.append((who, node, size))
        assert [who in memory for who in range(6)] == [who in {each[0] for each in expected} for who in range(6)]
        for index, most in enumerate(sizes):
            assert memory.free_bytes(index) == most - sum(each[2] for each in expected if each[1] == index) >= 0
