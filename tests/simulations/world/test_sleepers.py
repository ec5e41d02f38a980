"""Start-ups by tier: how much they vary, and what a start finds where an engine sleeps."""

import math
from random import Random
from statistics import median, quantiles

import pytest

from autoscaler.policy.types import Observation, PodPhase, Tier
from simulations.compiled.fleet import request_records
from simulations.policies import Bounds, Cadence, Wish
from simulations.replica import PROFILES, EngineConfig
from simulations.trace import Arrival
from simulations.world import Outcome, Setting, simulate
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
    """Down to one and up to two again, and the tiers of those that start."""

    def __init__(self, *ups: tuple[float, float]) -> None:
        self.ups = ups
        self.tiers: dict[str, Tier] = {}
        self.ready_s: dict[str, float] = {}
        self.cadence = Cadence(scrape_s=1.0, decide_s=1.0)

    def wish(self, seen: Observation, now_s: float) -> Wish:
        self.tiers |= {pod.name: pod.tier for pod in seen.pods if pod.phase is PodPhase.STARTING}
        self.ready_s |= {pod.name: pod.ready_at_s - pod.created_at_s for pod in seen.pods if pod.ready_at_s is not None}
        return Wish(replicas=2 if any(begin_s <= now_s < end_s for begin_s, end_s in self.ups) else 1)


def waves(startup: StartupTimes | Phases, *ups: tuple[float, float], **fields: object) -> tuple[Waves, Outcome]:
    arrivals = [Arrival(at_s=float(number), prompt_tokens=100, output_tokens=20) for number in range(900)]
    setting = Setting(
        requests=request_records(arrivals),
        config=EngineConfig(caches_prefixes=False),
        times=PROFILES["llama-3.1-8b-h100"],
        bounds=Bounds(low=1, high=3),
        replicas_at_start=1,
        startup=startup,
        **fields,  # type: ignore[arg-type]  # fields by name
    )
    policy = Waves(*ups)
    return policy, simulate(setting, policy)


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
