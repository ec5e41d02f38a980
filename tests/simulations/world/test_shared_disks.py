"""Services on the same nodes share disks, memory and the line: who makes room for whom, and who waits for whom."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, Tier
from simulations.policies import Cadence, Wish
from simulations.world import Outcome, Setting, simulate, simulate_together
from simulations.world.examples import FEW_BLOCKS, one_a_second, small_world
from simulations.world.nodes import NodeGroup
from simulations.world.starts.caches import Keeping, NodeCaches, OtherModel
from simulations.world.starts.downloads import Downloads
from simulations.world.starts.holdings import Holdings, model_of
from simulations.world.starts.phases import Phases
from simulations.world.starts.stores import Stores

GB = 10**9
PHASES = Phases(weights_bytes=16e9, origin_bytes_per_s=2e9, node_bytes_per_s=1e9, log_deviation=0.0)
FETCH_S = 16.0


def keeping(disk_gb: int | None, keep: Keeping = Keeping.ON_DEMAND) -> Phases:
    disk_bytes = None if disk_gb is None else disk_gb * GB
    return replace(PHASES, caches=NodeCaches(keep=keep, disk_bytes=disk_bytes))


def setting(startup: Phases, *groups: NodeGroup, span_s: float = 600.0) -> Setting:
    requests = one_a_second(span_s, prompt_tokens=200, output_tokens=40)
    return small_world(requests, startup, high=4, config=FEW_BLOCKS, nodes=groups or (NodeGroup(gpus=6),))


class Scripted:
    """So many replicas from a time on."""

    def __init__(self, *numbers: tuple[float, int]) -> None:
        self.numbers = numbers
        self.cadence = Cadence(scrape_s=1.0, decide_s=1.0)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        return Wish(replicas=next(number for from_s, number in reversed(self.numbers) if from_s <= now_s))


STAYS = ((0.0, 1),)
GROWS = ((0.0, 1), (100.0, 2))


def both(startup: Phases, *courses: tuple[tuple[float, int], ...], span_s: float = 600.0) -> tuple[Outcome, ...]:
    shared = setting(startup, span_s=span_s)
    return simulate_together([(shared, Scripted(*course)) for course in courses]).outcomes


def tiers(outcome: Outcome) -> dict[Tier, int]:
    return {each.tier: each.count for each in outcome.startups.by_tier}


@pytest.mark.parametrize(("disk_gb", "tier"), [(20, Tier.COLD), (40, Tier.WARM)], ids=["one model", "two models"])
def test_a_disk_that_has_room_for_one_model_is_the_first_services(disk_gb: int, tier: Tier) -> None:
    first, second = both(keeping(disk_gb), GROWS, GROWS)

    assert tiers(first) == {Tier.WARM: 1}
    assert tiers(second) == {tier: 1}


def test_a_model_that_nobody_uses_makes_room_for_another_services_and_is_cold_when_it_is_used_again() -> None:
    first = ((0.0, 1), (700.0, 0), (1200.0, 1))  # old enough to be evicted: 600 s
    second = ((0.0, 0), (800.0, 1), (1000.0, 0))

    found = both(keeping(20), first, second, span_s=1500.0)

    assert tiers(found[0]) == tiers(found[1]) == {Tier.COLD: 1}
    assert [outcome.startups.evictions for outcome in found] == [1, 0]


@pytest.mark.parametrize("keep", [Keeping.NONE, Keeping.ON_DEMAND], ids=str)
def test_services_that_fetch_at_once_to_one_node_are_half_as_fast(keep: Keeping) -> None:
    full_and_empty = NodeGroup(gpus=2, low=2, high=2)
    shared = setting(keeping(None, keep), full_and_empty)

    both_grow, one_grows = (
        simulate_together([(shared, Scripted(*GROWS)), (shared, Scripted(*other))]).outcomes for other in (GROWS, STAYS)
    )

    alone_s = one_grows[0].startups.by_tier[0].median_s
    slower_s = max(outcome.startups.by_tier[0].median_s for outcome in both_grow)
    assert alone_s == pytest.approx(PHASES.cold_s, abs=1.0)
    assert slower_s == pytest.approx(alone_s + FETCH_S, abs=2.0)
    assert [one.startups.fetched_bytes for one in both_grow] == pytest.approx([16e9, 16e9])


def test_on_nodes_of_their_own_services_are_as_they_are_alone() -> None:
    startup = replace(keeping(20), origin_bytes_per_s=100e9)
    groups = (NodeGroup(name="a", gpu_class="a", gpus=3), NodeGroup(name="b", gpu_class="b", gpus=3))
    course = ((0.0, 1), (50.0, 3), (200.0, 1), (400.0, 2))
    shared = [replace(setting(startup, *groups), gpu_class=name) for name in ("a", "b")]

    together = simulate_together([(each, Scripted(*course)) for each in shared])

    for each, found in zip(shared, together.outcomes, strict=True):
        alone = simulate(each, Scripted(*course))
        np.testing.assert_allclose(found.requests["finished_at_s"], alone.requests["finished_at_s"], rtol=1e-9)
        assert found.gpu_hours == pytest.approx(alone.gpu_hours, rel=1e-9)
        assert tiers(found) == tiers(alone)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (keeping(30), "the same caches.diskBytes, got 20000000000 and 30000000000"),
        (replace(keeping(20), node_bytes_per_s=2e9), "the same nodeBytesPerSecond, got 1000000000.0 and 2000000000.0"),
    ],
    ids=["disk", "line"],
)
def test_services_that_say_different_things_of_their_nodes_are_refused(other: Phases, said: str) -> None:
    shared = setting(keeping(20))

    with pytest.raises(ValueError, match=said):
        simulate_together([(shared, Scripted(*STAYS)), (replace(shared, startup=other), Scripted(*STAYS))])


NODES, SLOTS = 2, 4
NIGHT = OtherModel(name="night", size_bytes=8 * GB, uses_per_hour=4.0, use_s=900.0)
SIZES_GB = {"large": 14, "small": 9, "twin": 14}
SAME = {"twin": "large"}  # two services of one model, as the two pools of one service


class Place:
    """Services on the same nodes, and which replicas of theirs are to have their weights."""

    def __init__(self, keeps: tuple[Keeping, Keeping], disk_bytes: int, seed: int) -> None:
        room = NodeCaches(disk_bytes=disk_bytes, memory_bytes=10 * GB, others=(NIGHT,))
        self.stores = Stores(room, Downloads(origin_bytes_per_s=0.1e9, node_bytes_per_s=0.05e9))
        self.stores.await_others(range(NODES), Random(seed))
        self.services = {
            name: Holdings(
                self.stores, name, model_of(gb * GB, replace(room, keep=keep), range(NODES)), key=SAME.get(name)
            )
            for (name, gb), keep in zip(SIZES_GB.items(), (*keeps, keeps[0]), strict=True)
        }
        self.slots: dict[tuple[str, int], int] = {}
        self.arrived: Counter[tuple[str, int]] = Counter()
        self.unheard: dict[str, list[int]] = {name: [] for name in SIZES_GB}  # nodes that ended
        for service in self.services.values():
            for node in range(NODES):
                service.come(node, 0.0)

    def settle(self, now_s: float) -> None:
        for name, service in self.services.items():
            self.arrived.update((name, arrival.slot) for arrival in service.settle(now_s))

    def hear(self, name: str, now_s: float) -> None:
        """Before it acts, a service hears what befell nodes."""
        for node in self.unheard[name]:
            self.services[name].forget(node, now_s)
            self.services[name].come(node, now_s)
        self.unheard[name].clear()

    def need(self, name: str, slot: int, node: int, now_s: float) -> None:
        self.hear(name, now_s)
        if (name, slot) not in self.slots:
            self.slots[name, slot] = node
            if self.services[name].need(node, slot, at_s=now_s, now_s=now_s) is not None:
                self.arrived[name, slot] += 1

    def leave(self, name: str, slot: int, node: int, now_s: float) -> None:
        del node
        self.hear(name, now_s)
        if self.slots.pop((name, slot), None) is not None:
            self.services[name].leave(slot, now_s)
            del self.arrived[name, slot]

    def end(self, name: str, slot: int, node: int, now_s: float) -> None:
        """A node ends and another is there at once; who hears of it first may use it before the other knows."""
        del slot
        for unheard in self.unheard.values():
            unheard.append(node)
        self.hear(name, now_s)
        self.slots = {place: where for place, where in self.slots.items() if where != node}
        self.arrived = Counter({place: count for place, count in self.arrived.items() if place in self.slots})

    def assert_lawful(self, disk_bytes: int) -> None:
        for node in range(NODES):
            place = self.stores.at(node)
            readers = [user.key for user in place.users if user.is_reading and not user.file]
            assert {key: tree.leases for key, tree in place.disk.trees.items() if tree.leases} == Counter(readers)
            assert place.disk.size_bytes <= disk_bytes


def test_who_hears_later_of_a_node_that_ended_takes_nothing_from_who_uses_the_one_in_its_place() -> None:
    place = Place((Keeping.ON_DEMAND, Keeping.PREFETCH), 30 * GB, seed=1)

    place.end("large", 0, 0, 10.0)
    place.need("large", 0, 0, 20.0)
    place.need("small", 0, 1, 30.0)  # it hears of it now
    place.settle(2000.0)

    assert place.arrived == {("large", 0): 1, ("small", 0): 1}
    assert place.services["small"].holds(0)  # it comes ahead to the new one, too


@settings(max_examples=60, deadline=None)
@given(
    orders=st.lists(
        st.tuples(
            st.sampled_from([Place.need, Place.need, Place.leave, Place.end]),
            st.sampled_from(sorted(SIZES_GB)),
            st.integers(0, SLOTS - 1),
            st.integers(0, NODES - 1),
            st.floats(0.0, 900.0),
        ),
        min_size=5,
        max_size=20,
    ),
    keeps=st.tuples(st.sampled_from(list(Keeping)), st.sampled_from(list(Keeping))),
    disk_gb=st.integers(0, 30),
    seed=st.integers(0, 9),
)
def test_whoever_hears_first_of_a_node_no_disk_holds_too_much_and_every_replica_gets_its_weights_once(
    orders: list[tuple[Callable[[Place, str, int, int, float], None], str, int, int, float]],
    keeps: tuple[Keeping, Keeping],
    disk_gb: int,
    seed: int,
) -> None:
    place = Place(keeps, disk_gb * GB, seed)
    now_s = 0.0
    for happens, name, slot, node, wait_s in orders:
        now_s += wait_s
        place.settle(now_s)
        happens(place, name, slot, node, now_s)
        place.assert_lawful(disk_gb * GB)
    place.settle(now_s + 36_000.0)

    assert place.arrived == Counter(dict.fromkeys(place.slots, 1))
