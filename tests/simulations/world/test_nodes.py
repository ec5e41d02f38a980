"""Nodes that come, are reclaimed and are lost under a service; what its users and its bill make of that."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from simulations.compiled.fleet import Router
from simulations.compiled.loss import LOST
from simulations.policies import Cadence, Wish, build
from simulations.policies.static import Static
from simulations.replica import PROFILES
from simulations.static_fleet import ATTAINMENT_RATIO, smallest_static
from simulations.world import Outcome, Setting, simulate
from simulations.world.examples import FEW_BLOCKS, small_world, varied
from simulations.world.nodes import UNNOTICED_S, NodeGroup, Nodes
from simulations.world.pools import FixedPool, Role
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import StartupTimes

TIMES = PROFILES["llama-3.1-8b-l40s"]
STEADY = StartupTimes(cold_s=100.0, warm_s=40.0, log_deviation=0.0)


def setting(
    *groups: NodeGroup, replicas: int = 2, high: int = 6, per_s: float = 4.0, span_s: float = 900.0, seed: int = 1
) -> Setting:
    return small_world(
        varied(per_s, span_s), STEADY, high=high, config=FEW_BLOCKS, replicas_at_start=replicas, seed=seed, nodes=groups
    )


def steady(**fields: object) -> NodeGroup:
    return replace(NodeGroup(log_deviation=0.0), **fields)  # type: ignore[arg-type]  # fields by name


@dataclass
class Watcher:
    """Wishes by time, and what it saw."""

    number_at: Callable[[float], int]
    seen: list[tuple[float, Observation]] = field(default_factory=list)
    cadence: Cadence = field(default_factory=lambda: Cadence(scrape_s=1.0, decide_s=1.0))

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        self.seen.append((now_s, seen))
        return Wish(replicas=self.number_at(now_s))

    def at(self, at_s: float) -> Observation:
        """What it saw first after that."""
        return next(seen for now_s, seen in self.seen if now_s >= at_s)

    def pod(self, name: str, at_s: float) -> PodSeen:
        return next(pod for pod in self.at(at_s).pods if pod.name == name)


def phases(seen: Observation) -> list[PodPhase]:
    return sorted(pod.phase for pod in seen.pods)


def never_served(outcome: Outcome) -> int:
    return int(np.isnan(outcome.requests["finished_at_s"]).sum())


def test_enough_nodes_for_all_are_as_if_nobody_had_said_any() -> None:
    without = setting(replicas=1, per_s=25.0)
    within = replace(without, nodes=(NodeGroup(low=12, high=12),))

    plain, placed = (
        simulate(one, build("warmtide", one.bounds, ttft_s=2.0, lead_time_s=100.0)) for one in (without, within)
    )

    assert [(one.at_s, one.after) for one in placed.decisions] == [(one.at_s, one.after) for one in plain.decisions]
    assert placed.requests.tobytes() == plain.requests.tobytes()
    assert placed.gpu_hours == plain.gpu_hours
    assert placed.nodes[0].gpu_hours == pytest.approx(12 * 900.0 / 3600.0)  # paid for, used or not


def test_a_replica_that_finds_no_gpu_waits_and_is_seen_to() -> None:
    script = Watcher(lambda now_s: 3)

    outcome = simulate(setting(steady(gpus=2), replicas=1), script)

    late = script.at(300.0)
    assert phases(late) == [PodPhase.READY, PodPhase.READY, PodPhase.UNSCHEDULABLE]
    assert next(pod for pod in late.pods if pod.phase is PodPhase.UNSCHEDULABLE).node is None
    assert late.schedulable_replicas == 0
    assert outcome.gpu_hours == pytest.approx(2 * 900.0 / 3600.0, rel=0.01)  # who waits holds nothing
    assert outcome.series["unplaced"][-1] == 1


def test_warmtide_asks_for_no_more_than_there_are_gpus_for() -> None:
    busy = setting(steady(gpus=2), replicas=1, per_s=40.0)

    outcome = simulate(busy, build("warmtide", busy.bounds, ttft_s=2.0, lead_time_s=100.0))
    blind = simulate(busy, build("hpa-queue", busy.bounds, ttft_s=2.0, lead_time_s=100.0))

    assert max(change.after for change in outcome.decisions) == 2
    assert outcome.series["unplaced"].max() == 0
    assert blind.series["unplaced"].max() > 0


def test_a_node_is_bought_for_who_waits_and_given_back_when_it_was_empty_for_long() -> None:
    group = steady(gpus=2, low=0, high=3, provision_s=90.0, idle_s=120.0, price_per_gpu_hour=2.0)
    script = Watcher(lambda now_s: 3 if now_s < 400 else 2)

    outcome = simulate(setting(steady(name="own"), group, replicas=1), script)

    bought = script.pod("replica-2", 300.0)
    assert bought.node == "node-0"
    assert bought.ready_at_s is not None
    assert bought.ready_at_s - bought.created_at_s == pytest.approx(90.0 + 100.0, abs=2.0)
    assert script.at(50.0).schedulable_replicas is None  # nobody knows, where nodes can be bought
    assert outcome.nodes[1].gpu_hours == pytest.approx(2 * 900.0 / 3600.0, abs=0.01)  # one node, from the first second
    assert outcome.nodes[1].cost == pytest.approx(2.0 * outcome.nodes[1].gpu_hours)


def test_a_node_that_is_empty_for_long_goes_and_comes_again_cold() -> None:
    group = steady(low=0, high=1, provision_s=10.0, idle_s=60.0)
    script = Watcher(lambda now_s: 2 if now_s < 200 or now_s > 400 else 1)

    outcome = simulate(setting(steady(name="own"), group, replicas=1), script)

    again = script.pod("replica-3", 700.0)
    assert again.node == "node-0-1"
    assert again.ready_at_s is not None
    assert again.ready_at_s - again.created_at_s == pytest.approx(10.0 + 100.0, abs=2.0)
    assert outcome.nodes[1].gpu_hours == pytest.approx((200.0 + 60.0 + 500.0) / 3600.0, abs=0.01)


def test_a_spot_reclaim_of_half_the_fleet_drains_what_it_can_and_is_replaced() -> None:
    spot = steady(name="spot", low=2, high=2, provision_s=60.0, reclaims_per_hour=4.0, notice_s=120.0)
    own = steady(name="own", low=2, high=2)
    script = Watcher(lambda now_s: 4)
    simulate(setting(own, spot, replicas=4, span_s=3600.0), script)
    notice_s, found = next(
        (now_s, seen) for now_s, seen in script.seen if any(pod.phase is PodPhase.TERMINATING for pod in seen.pods)
    )
    outcome = simulate(setting(own, spot, replicas=4, span_s=3600.0), Static(4))

    leaving = next(pod.name for pod in found.pods if pod.phase is PodPhase.TERMINATING)
    assert script.pod(leaving, notice_s - 5.0).node in ("spot-0", "spot-1")
    assert sum(pod.phase is PodPhase.UNSCHEDULABLE for pod in found.pods) == 1  # its heir waits for a node
    assert outcome.nodes[1].reclaims > 0
    assert outcome.lost_requests == 0  # two minutes are enough to answer
    assert outcome.attainment_ratio > 0.99


def test_a_notice_that_is_shorter_than_an_answer_loses_it() -> None:
    spot = steady(name="spot", low=4, high=4, provision_s=60.0, reclaims_per_hour=6.0)
    lengths = {}
    for notice_s in (0.0, 120.0):
        outcome = simulate(setting(replace(spot, notice_s=notice_s), replicas=4, per_s=16.0), Static(4))
        lengths[notice_s] = outcome.lost_requests

    assert lengths[0.0] > lengths[120.0] == 0


def test_a_node_lost_at_the_peak_takes_its_requests_and_those_that_came_before_anybody_knew() -> None:
    group = steady(low=3, high=3, provision_s=60.0, losses_at_s=((0, 400.0),))
    script = Watcher(lambda now_s: 3)

    outcome = simulate(setting(group, replicas=3, per_s=12.0), script)

    assert phases(script.at(400.0 + UNNOTICED_S - 2.0)) == [PodPhase.READY] * 3
    blind = [pod for pod in script.at(400.0 + UNNOTICED_S - 2.0).pods if pod.signals is None]
    assert len(blind) == 1  # a page that nobody serves
    assert phases(script.at(400.0 + UNNOTICED_S + 2.0)) == [PodPhase.READY] * 2 + [PodPhase.UNSCHEDULABLE]
    back = next(pod for pod in script.at(899.0).pods if pod.name == "replica-4")
    assert back.ready_at_s == pytest.approx(400.0 + UNNOTICED_S + 60.0 + 100.0, abs=2.0)
    lost = outcome.requests["replica"] == LOST
    arrived_s = outcome.requests["arrived_at_s"][lost]
    assert outcome.lost_requests == lost.sum() == never_served(outcome) > 12
    assert 400.0 - 30.0 < arrived_s.min() < 400.0 < arrived_s.max() <= 400.0 + UNNOTICED_S
    assert outcome.attainment_ratio <= 1.0 - outcome.lost_requests / len(outcome.requests)


@pytest.mark.parametrize(
    ("losses_at_s", "replicas"), [((), 3), (((0, 400.0),), 4)], ids=["nodes that stay", "one is lost"]
)
def test_the_fixed_fleet_of_hindsight_is_one_that_outlives_the_losses_of_its_world(
    losses_at_s: tuple[tuple[int, float], ...], replicas: int
) -> None:
    shared = setting(steady(low=6, high=6, losses_at_s=losses_at_s), per_s=30.0)

    fewer, found = (
        simulate(replace(shared, replicas_at_start=number), Static(number)) for number in (replicas - 1, replicas)
    )

    assert smallest_static(shared) == replicas
    assert fewer.attainment_ratio < ATTAINMENT_RATIO <= found.attainment_ratio


def test_where_no_fixed_fleet_outlives_the_losses_it_is_one_that_would_do_without_them() -> None:
    lost = steady(low=2, high=2, provision_s=400.0, losses_at_s=((0, 400.0), (1, 420.0)))

    assert smallest_static(setting(lost, per_s=10.0)) == smallest_static(setting(per_s=10.0)) == 1


def test_a_node_lost_while_it_fetches_fetches_nothing_more_and_its_heir_begins_anew() -> None:
    phases = Phases(log_deviation=0.0)
    fetch_s = phases.weights_bytes / phases.node_bytes_per_s
    group = steady(name="new", provision_s=30.0, losses_at_s=((0, fetch_s / 2),))
    shared = replace(setting(steady(name="own"), group, replicas=1), startup=phases)
    script = Watcher(lambda now_s: 2)

    outcome = simulate(shared, script)

    heir = script.pod("replica-3", 600.0)
    assert heir.node == "new-0-1"
    assert heir.ready_at_s == pytest.approx(fetch_s / 2 + UNNOTICED_S + 30.0 + phases.cold_s, abs=2.0)
    assert outcome.startups.fetched_bytes == pytest.approx(1.5 * phases.weights_bytes, rel=0.1)


def test_a_prompt_that_is_lost_is_one_lost_request_where_decoding_is_elsewhere() -> None:
    node = steady(low=3, high=3, provision_s=60.0, losses_at_s=((0, 400.0),))
    shared = setting(node, replicas=3, per_s=12.0)
    elsewhere = FixedPool(role=Role.DECODE, replicas=4, config=shared.config, times=TIMES, token_transfer_s=0.0)

    in_turns = replace(shared, fixed_pool=elsewhere, ends_at_s=shared.span_s, router=Router.ROUND_ROBIN)
    outcome = simulate(in_turns, Static(3))

    lost, arrived_s = outcome.requests["replica"] == LOST, outcome.requests["arrived_at_s"]
    came_blind = (arrived_s > 400.0) & (arrived_s <= 400.0 + UNNOTICED_S)
    assert lost[came_blind].sum() * 3 == came_blind.sum() > 0  # they take turns, whoever decodes
    assert outcome.lost_requests == never_served(outcome) == lost.sum()
    assert len(outcome.requests) == len(shared.requests)


def test_all_policies_lose_the_same_nodes_at_the_same_times() -> None:
    group = steady(low=6, high=6, provision_s=0.0, reclaims_per_hour=3.0, losses_per_hour=3.0)
    shared = setting(group, replicas=3)
    policies = (Static(3), build("warmtide", shared.bounds, ttft_s=2.0, lead_time_s=100.0), Watcher(lambda now_s: 6))

    found = [simulate(shared, policy).nodes[0] for policy in policies]

    assert {(use.reclaims, use.losses) for use in found} == {(found[0].reclaims, found[0].losses)}
    assert found[0].reclaims > 0
    assert found[0].losses > 0


def test_a_quota_refuses_what_it_does_not_admit_and_warmtide_knows() -> None:
    busy = replace(setting(steady(low=6, high=6), replicas=1, per_s=40.0), budget_gpus=3)
    script = Watcher(lambda now_s: 6)

    simulate(busy, script)
    outcome = simulate(busy, build("warmtide", busy.bounds, ttft_s=2.0, lead_time_s=100.0))

    assert phases(script.at(500.0)) == [PodPhase.READY] * 3
    assert script.at(500.0).budget_replicas == 6  # what is asked for already is never taken back
    assert max(change.after for change in outcome.decisions) == 3


def test_nodes_of_another_class_are_not_for_it_and_its_own_have_a_name() -> None:
    shared = replace(
        setting(steady(name="a", gpu_class="A10", low=4, high=4), steady(name="l", gpu_class="L40S"), replicas=1),
        gpu_class="L40S",
    )
    script = Watcher(lambda now_s: 2)

    simulate(shared, script)

    assert {pod.node for pod in script.at(500.0).pods} == {"l-0", None}
    assert script.pod("replica-1", 500.0).node_class == "L40S"


GROUPS = st.builds(
    NodeGroup,
    name=st.sampled_from(["a", "b"]),
    gpus=st.integers(1, 4),
    low=st.integers(0, 2),
    high=st.integers(2, 4),
    provision_s=st.sampled_from([0.0, 30.0]),
    idle_s=st.sampled_from([10.0, 60.0]),
    reclaims_per_hour=st.sampled_from([0.0, 20.0]),
    notice_s=st.sampled_from([0.0, 10.0]),
    losses_per_hour=st.sampled_from([0.0, 20.0]),
)


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(GROUPS, min_size=1, max_size=2, unique_by=lambda group: group.name),
    wishes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    gpus=st.integers(1, 2),
    budget=st.none() | st.integers(1, 8),
    seed=st.integers(0, 1000),
    startup=st.sampled_from([STEADY, Phases()]),
)
def test_whatever_happens_every_request_ends_is_lost_or_never_got_a_replica(
    groups: list[NodeGroup],
    wishes: list[int],
    gpus: int,
    budget: int | None,
    seed: int,
    startup: StartupTimes | Phases,
) -> None:
    roomy = [*groups, NodeGroup(name="roomy", gpus=2)]
    plain = setting(*roomy, span_s=300.0, seed=seed)
    shared = replace(plain, gpus_per_replica=gpus, budget_gpus=budget, startup=startup)
    script = Watcher(lambda now_s: wishes[int(now_s / 300.0 * len(wishes)) % len(wishes)])

    outcome = simulate(shared, script)

    ended, lost = np.isfinite(outcome.requests["finished_at_s"]), outcome.requests["replica"] == LOST
    never = outcome.requests["replica"] == -1
    assert (ended.astype(int) + lost + never == 1).all()
    assert lost.sum() == outcome.lost_requests
    assert np.isnan(outcome.requests["first_token_at_s"][lost]).all()
    held = sum(use.gpu_hours for use in outcome.nodes)
    assert 0.0 <= outcome.gpu_hours <= held + 1e-9
    for _, seen in script.seen:
        nodes = [pod.node for pod in seen.pods if pod.node is not None]
        assert all(nodes.count(node) * gpus <= gpus_of(node, roomy) for node in nodes)
        if budget is not None:
            assert len(seen.pods) * gpus <= budget


def gpus_of(node: str, groups: list[NodeGroup]) -> int:
    return next(group.gpus for group in groups if node.split("-")[0] == group.name)


def test_groups_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="a name of their own for each group, got node, node"):
        Nodes([NodeGroup(), NodeGroup()], seed=1)


def test_a_node_is_never_oversold() -> None:
    nodes = Nodes([NodeGroup(gpus=4)], seed=1)
    nodes.claim(0, 3)

    with pytest.raises(ValueError, match="node 0 has 1 free GPUs, a replica asks for 2"):
        nodes.claim(0, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpus": 0}, "nodes spot: gpus must be ≥ 1, got 0"),
        ({"low": 3, "high": 2}, "0 ≤ min ≤ max"),
        ({"low": 0, "high": 0}, "max ≥ 1 expected, got 0 and 0"),
        ({"reclaims_per_hour": -1.0}, "nodes spot: reclaims_per_hour must be ≥ 0 and finite, got -1.0"),
        ({"provision_s": math.inf}, "provision_s must be ≥ 0 and finite"),
        ({"idle_s": 9.0}, "nodes spot: idle_s must be ≥ 10, got 9.0"),
        ({"losses_at_s": ((1, 5.0),)}, "there is no node 1 to be lost at 5.0 s"),
    ],
    ids=["no GPU", "bounds", "none", "negative", "never", "at once", "not there"],
)
def test_nodes_that_cannot_be_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NodeGroup(name="spot", **fields)  # type: ignore[arg-type]  # fields by name


def test_a_replica_that_fits_no_node_is_refused() -> None:
    with pytest.raises(ValueError, match="a replica of 4 GPUs does not fit a node of 2"):
        replace(setting(steady(gpus=2)), gpus_per_replica=4)
