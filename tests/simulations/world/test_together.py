"""Two services on the same nodes: who gets what, who waits, and that each is what it would be alone."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, PodPhase
from simulations.compiled.loss import LOST
from simulations.policies import Cadence, Wish, build
from simulations.policies.base import Policy
from simulations.policies.static import Static
from simulations.replica import PROFILES
from simulations.world import Setting, simulate, simulate_together
from simulations.world.examples import FEW_BLOCKS, small_world, varied
from simulations.world.nodes import NodeGroup
from simulations.world.starts.startup import StartupTimes

TIMES = PROFILES["llama-3.1-8b-l40s"]
STEADY = StartupTimes(cold_s=100.0, warm_s=40.0, log_deviation=0.0)


def setting(*groups: NodeGroup, replicas: int = 1, per_s: float = 3.0, span_s: float = 600.0) -> Setting:
    return small_world(
        varied(per_s, span_s), STEADY, high=6, config=FEW_BLOCKS, replicas_at_start=replicas, nodes=groups
    )


class Scripted:
    """So many replicas from a time on, and what was seen of them."""

    def __init__(self, *numbers: tuple[float, int]) -> None:
        self.numbers = numbers
        self.seen: list[tuple[float, Observation]] = []
        self.cadence = Cadence(scrape_s=1.0, decide_s=1.0)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        self.seen.append((now_s, seen))
        return Wish(replicas=next(number for from_s, number in reversed(self.numbers) if from_s <= now_s))

    def phases(self, at_s: float) -> list[PodPhase]:
        seen = next(seen for now_s, seen in self.seen if now_s >= at_s)
        return sorted(pod.phase for pod in seen.pods)


def test_services_that_do_not_meet_are_as_they_are_alone() -> None:
    shared = setting(NodeGroup(low=12, high=12), per_s=20.0)
    names = ("warmtide", "kpa")

    together = simulate_together([(shared, policy_of(name, shared)) for name in names])

    for name, found in zip(names, together.outcomes, strict=True):
        alone = simulate(shared, policy_of(name, shared))
        assert [(one.at_s, one.after) for one in found.decisions] == [(one.at_s, one.after) for one in alone.decisions]
        for column in ("first_token_at_s", "finished_at_s"):  # on other nodes
            np.testing.assert_array_equal(found.requests[column], alone.requests[column])
        assert found.gpu_hours == pytest.approx(alone.gpu_hours, rel=1e-12)


def policy_of(name: str, shared: Setting) -> Policy:
    return build(name, shared.bounds, ttft_s=2.0, lead_time_s=100.0)


def test_the_first_gets_what_is_free_before_the_second_and_takes_nothing_away() -> None:
    shared = setting(NodeGroup(low=4, high=4))
    first, second = Scripted((0.0, 1), (100.0, 4), (300.0, 1)), Scripted((0.0, 1), (50.0, 3))

    together = simulate_together([(shared, first), (shared, second)])

    assert second.phases(90.0) == [PodPhase.READY, PodPhase.STARTING, PodPhase.STARTING]
    assert first.phases(200.0) == [PodPhase.READY] + [PodPhase.UNSCHEDULABLE] * 3  # none of the second's is evicted
    assert second.phases(500.0) == [PodPhase.READY] * 3
    assert together.gpu_hours <= 4 * 600.0 / 3600.0


def test_a_gpu_that_is_let_go_goes_to_the_first_who_waits_though_the_second_waited_longer() -> None:
    shared = setting(NodeGroup(low=4, high=4))
    first, second = Scripted((0.0, 1), (200.0, 2)), Scripted((0.0, 2), (100.0, 3))
    holds_on = Scripted((0.0, 2), (300.0, 1))

    simulate_together(
        [
            (shared, first),
            (replace(shared, replicas_at_start=1), second),
            (replace(shared, replicas_at_start=2), holds_on),
        ]
    )

    assert first.phases(290.0) == [PodPhase.READY, PodPhase.UNSCHEDULABLE]
    assert PodPhase.UNSCHEDULABLE in second.phases(290.0)
    assert first.phases(310.0) == [PodPhase.READY, PodPhase.STARTING]
    assert PodPhase.UNSCHEDULABLE in second.phases(310.0)


def test_a_gpu_that_is_let_go_is_anothers_in_that_very_moment() -> None:
    # Nobody asks for long, so no replica drains.
    shared = replace(setting(NodeGroup(low=4, high=4), span_s=10.0), ends_at_s=600.0)
    first, second = Scripted((0.0, 2), (100.0, 4)), Scripted((0.0, 2), (200.0, 1), (300.0, 2), (400.0, 1))
    first.cadence = second.cadence = Cadence(scrape_s=7.0, decide_s=7.0)
    starts_with_two = replace(shared, replicas_at_start=2)

    together = simulate_together([(starts_with_two, first), (starts_with_two, second)])

    assert together.gpu_hours == pytest.approx(4 * 600.0 / 3600.0, rel=1e-12)
    assert together.outcomes[0].gpu_hours > together.outcomes[1].gpu_hours


def test_a_quota_is_of_all_of_them() -> None:
    shared = replace(setting(NodeGroup(low=8, high=8)), budget_gpus=4)
    first, second = Scripted((0.0, 1), (100.0, 3)), Scripted((0.0, 1), (200.0, 3))

    simulate_together([(shared, first), (shared, second)])

    assert first.phases(500.0) == [PodPhase.READY] * 3
    assert second.phases(500.0) == [PodPhase.READY]
    assert second.seen[-1][1].budget_replicas == 3  # what is asked for; there is no room for more


def test_a_lost_node_hurts_those_who_are_on_it() -> None:
    node = NodeGroup(gpus=4, low=1, high=1, losses_at_s=((0, 200.0),))
    other = NodeGroup(name="other", gpu_class="A10", low=2, high=2)
    shared = setting(node, other, replicas=2)
    on_other = replace(shared, gpu_class="A10")

    together = simulate_together([(shared, Static(2)), (on_other, Static(2))])

    assert together.outcomes[0].lost_requests > 0
    assert together.outcomes[1].lost_requests == 0
    assert together.outcomes[1].attainment_ratio > together.attainment_ratio > together.outcomes[0].attainment_ratio


def test_services_that_share_nothing_are_refused() -> None:
    shared = setting(NodeGroup())

    with pytest.raises(ValueError, match="need the same nodes, the same budget_gpus and the same seed"):
        simulate_together([(shared, Static(1)), (replace(shared, budget_gpus=1), Static(1))])
    with pytest.raises(ValueError, match="need nodes that they share"):
        simulate_together([(setting(), Static(1))])


@dataclass(frozen=True)
class Course:
    """What one service asks for, and the GPUs of each of its replicas."""

    gpus: int
    wishes: tuple[int, ...]


COURSES = st.builds(
    Course, gpus=st.integers(1, 2), wishes=st.lists(st.integers(1, 6), min_size=1, max_size=6).map(tuple)
)


@settings(max_examples=30, deadline=None)
@given(
    courses=st.lists(COURSES, min_size=2, max_size=3),
    own=st.integers(1, 3),
    spot=st.integers(0, 2),
    budget=st.none() | st.integers(2, 8),
    seed=st.integers(0, 99),
)
def test_gpus_are_never_oversold_and_no_request_is_served_twice(
    courses: list[Course], own: int, spot: int, budget: int | None, seed: int
) -> None:
    groups = [NodeGroup(name="own", gpus=2, low=own, high=own, losses_per_hour=10.0)]
    if spot:
        group = NodeGroup(name="spot", gpus=2, low=0, high=spot, provision_s=20.0, idle_s=30.0)
        groups.append(replace(group, reclaims_per_hour=20.0, notice_s=5.0))
    span_s = 240.0
    shared = replace(setting(*groups, span_s=span_s), budget_gpus=budget, seed=seed)
    services = [
        (
            replace(shared, gpus_per_replica=course.gpus),
            Scripted(*((span_s / len(course.wishes) * n, wish) for n, wish in enumerate(course.wishes))),
        )
        for course in courses
    ]

    together = simulate_together(services)

    assert together.gpu_hours <= sum(use.gpu_hours for use in together.nodes) + 1e-9
    for outcome in together.outcomes:
        ended, lost = np.isfinite(outcome.requests["finished_at_s"]), outcome.requests["replica"] == LOST
        assert (ended.astype(int) + lost + (outcome.requests["replica"] == -1) == 1).all()
        assert lost.sum() == outcome.lost_requests
    held = sum(
        course.gpus * (series["starting_warm"] + series["starting_cold"] + series["ready"] + series["draining"])
        for series, course in zip((outcome.series for outcome in together.outcomes), courses, strict=True)
    )
    assert (held <= 2 * (own + spot)).all()
    if budget is not None:
        waiting = sum(
            course.gpus * outcome.series["unplaced"] for outcome, course in zip(together.outcomes, courses, strict=True)
        )
        assert (held + waiting <= budget).all()


def test_of_a_replica_that_drains_a_gpu_is_free_within_a_second_of_its_last_answer() -> None:
    shared = setting(NodeGroup(low=4, high=4), per_s=12.0)
    first, second = Scripted((0.0, 2), (100.0, 4)), Scripted((0.0, 2), (300.0, 1))
    first.cadence = second.cadence = Cadence(scrape_s=97.0, decide_s=97.0)
    starts_with_two = replace(shared, replicas_at_start=2)

    together = simulate_together([(starts_with_two, first), (starts_with_two, second)])

    idle_s = 4 * 600.0 - 3600.0 * together.gpu_hours
    assert 0.0 < idle_s <= 1.0
    assert together.outcomes[1].series["draining"].max() == 1
