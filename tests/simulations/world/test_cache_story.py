"""The same bursts on the same nodes, and only what these keep of weights differs: what the caches are worth."""

from dataclasses import dataclass, replace

import pytest

from autoscaler.policy.types import Tier
from simulations.imports.choose import chosen
from simulations.policies import Bounds
from simulations.scenarios import load_scenario
from simulations.static_fleet import smallest_static
from simulations.world import Outcome, simulate
from simulations.world.nodes import NodeGroup
from simulations.world.starts.caches import Keeping
from simulations.world.starts.phases import Phases

SEEDS = (1, 2, 3)
SCENARIO = load_scenario("cold-origin")
assert isinstance(SCENARIO.startup, Phases)
PHASES = SCENARIO.startup


@dataclass(frozen=True)
class Course:
    """All seeds of one kind of cache."""

    outcomes: tuple[Outcome, ...]

    @property
    def missed_requests(self) -> float:
        return sum((1 - outcome.attainment_ratio) * len(outcome.requests) for outcome in self.outcomes)

    @property
    def gpu_hours(self) -> float:
        return sum(outcome.gpu_hours for outcome in self.outcomes)

    @property
    def fetched_bytes(self) -> float:
        return sum(outcome.startups.fetched_bytes for outcome in self.outcomes)

    def median_s(self, tier: Tier) -> list[float]:
        return [each.median_s for outcome in self.outcomes for each in outcome.startups.by_tier if each.tier is tier]


@pytest.fixture(scope="module")
def courses() -> dict[Keeping, Course]:
    settings = [SCENARIO.setting(seed)[0] for seed in SEEDS]
    settings = [replace(setting, replicas_at_start=smallest_static(setting)) for setting in settings]
    found = {}
    for keep in Keeping:
        kept = [replace(setting, startup=PHASES.keeping(keep)) for setting in settings]
        found[keep] = Course(tuple(simulate(setting, chosen("warmtide", setting)) for setting in kept))
    return found


def test_weights_that_stay_save_misses_gpu_hours_and_bytes_and_those_that_come_ahead_save_more_misses(
    courses: dict[Keeping, Course],
) -> None:
    none, on_demand, ahead = (courses[keep] for keep in (Keeping.NONE, Keeping.ON_DEMAND, Keeping.PREFETCH))

    # What is only kept saves fewer: it is where a replica has been, not where the next one goes.
    assert ahead.missed_requests < min(on_demand.missed_requests, none.missed_requests / 4)
    assert on_demand.missed_requests < none.missed_requests
    assert max(ahead.gpu_hours, on_demand.gpu_hours) < none.gpu_hours
    assert max(ahead.fetched_bytes, on_demand.fetched_bytes) < none.fetched_bytes


def test_a_start_is_cold_where_nothing_is_kept_and_never_where_weights_came_ahead(
    courses: dict[Keeping, Course],
) -> None:
    fetch_alone_s = PHASES.weights_bytes / PHASES.origin_bytes_per_s
    fastest_s = min(courses[Keeping.NONE].median_s(Tier.COLD))

    assert courses[Keeping.NONE].median_s(Tier.WARM) == []
    assert fastest_s > 2 * fetch_alone_s  # they wait for one another's bytes
    for keep in (Keeping.PREFETCH, Keeping.ALL_NODES):
        assert courses[keep].median_s(Tier.COLD) == []
        assert max(courses[keep].median_s(Tier.WARM)) < fastest_s / 2


def test_nodes_that_are_bought_and_lost_begin_empty_and_those_that_stay_have_what_came_ahead() -> None:
    setting, _ = SCENARIO.setting(1)
    own, bought = NodeGroup(name="own", gpus=4, low=4, high=4), NodeGroup(name="bought", gpus=4, low=0, high=6)
    lost = replace(own, losses_at_s=tuple((number, 900.0) for number in range(4)))
    tiers = {}
    for name, nodes in {"stay": (own,), "bought": (own, bought), "lost": (lost,)}.items():
        there = replace(setting, nodes=nodes, replicas_at_start=8, bounds=Bounds(low=1, high=16))
        starts = simulate(there, chosen("warmtide", there)).startups
        tiers[name] = {each.tier for each in starts.by_tier}

    assert tiers == {"stay": {Tier.WARM}, "bought": {Tier.WARM, Tier.COLD}, "lost": {Tier.WARM, Tier.COLD}}


def test_a_model_that_is_only_kept_gives_way_to_others_and_one_that_is_wanted_does_not(
    courses: dict[Keeping, Course],
) -> None:
    evictions = {keep: sum(each.startups.evictions for each in course.outcomes) for keep, course in courses.items()}

    assert evictions[Keeping.ON_DEMAND] > 0
    assert evictions[Keeping.PREFETCH] == evictions[Keeping.ALL_NODES] == evictions[Keeping.NONE] == 0
