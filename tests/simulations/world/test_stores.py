"""Caches of simulated nodes: what is kept, what is evicted for whom, and what never happens to a disk."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policy.types import Tier
from simulations.world.starts.caches import Keeping, NodeCaches, OtherModel
from simulations.world.starts.downloads import Downloads
from simulations.world.starts.holdings import Holdings, model_of
from simulations.world.starts.page_cache import PageCache
from simulations.world.starts.phases import PhasedStarts, Phases
from simulations.world.starts.stores import Stores

# 10 s to fetch alone; 20 s from there to Ready, 10 s where it was compiled before; 3 s sooner from memory.
PHASES = Phases(
    weights_bytes=10e9,
    origin_bytes_per_s=1e9,
    node_bytes_per_s=1e9,
    disk_bytes_per_s=2.5e9,
    memory_bytes_per_s=10e9,
    init_s=6.0,
    compile_s=10.0,
    compile_cached_s=0.0,
    graphs_s=0.0,
    warm_up_s=0.0,
    log_deviation=0.0,
)
GB = 10**9
OWN = "own"


def starts(caches: NodeCaches, nodes: int = 2) -> PhasedStarts:
    return with_nodes(replace(PHASES, caches=caches), nodes)


def with_nodes(phases: Phases, nodes: int) -> PhasedStarts:
    world = PhasedStarts(phases, Random(1), range(nodes))
    for node in range(nodes):
        world.come(node, 0.0)
    return world


def took_s(world: PhasedStarts, slot: int, node: int, now_s: float) -> float:
    """From being asked for to Ready, when nothing else happens."""
    world.settle(now_s)
    ready_at_s = world.begin(slot, node, now_s)
    while ready_at_s == math.inf:
        found = {started.slot: started.ready_at_s for started in world.settle(world.next_at_s)}
        ready_at_s = found.get(slot, math.inf)
    return ready_at_s - now_s


@pytest.mark.parametrize(
    ("keep", "first_s", "second_s"),
    [
        (Keeping.NONE, 30.0, 30.0),
        (Keeping.ON_DEMAND, 30.0, 10.0),
        (Keeping.PREFETCH, 20.0, 10.0),
        (Keeping.ALL_NODES, 20.0, 10.0),
    ],
    ids=str,
)
def test_what_is_kept_and_what_comes_ahead_is_not_fetched_again(keep: Keeping, first_s: float, second_s: float) -> None:
    world = starts(NodeCaches(keep=keep), nodes=1)

    first = took_s(world, 0, 0, 100.0)
    world.end(0, 200.0)
    second = took_s(world, 0, 0, 300.0)

    assert (first, second) == pytest.approx((first_s, second_s))


def test_replicas_that_fetch_for_themselves_share_what_their_node_takes() -> None:
    world = starts(NodeCaches(keep=Keeping.NONE))

    for slot in range(2):
        world.begin(slot, 0, 0.0)

    ready = {started.slot: started.ready_at_s for started in world.settle(1000.0)}
    assert ready == pytest.approx({0: 40.0, 1: 40.0})
    assert world.figures(1000.0).fetched_bytes == pytest.approx(20e9)


def test_weights_come_ahead_to_as_many_nodes_as_are_asked_for() -> None:
    world = starts(NodeCaches(keep=Keeping.PREFETCH, prefetch_nodes=2), nodes=4)

    world.settle(1000.0)

    assert [world.tier(node) for node in range(4)] == [Tier.WARM, Tier.WARM, Tier.COLD, Tier.COLD]


NIGHT = OtherModel(name="night", size_bytes=15 * GB, uses_per_hour=120.0, use_s=60.0)


def test_a_model_without_a_replica_makes_room_for_one_that_is_needed_and_is_cold_the_next_time() -> None:
    world = starts(NodeCaches(disk_bytes=20 * GB, others=(NIGHT,)), nodes=1)
    world.hold(0, 0)
    world.settle(3000.0)
    stays = world.tier(0)
    world.end(0, 3000.0)

    world.settle(3600.0)

    assert (stays, world.tier(0)) == (Tier.WARM, Tier.COLD)  # in use it is never evicted
    assert world.figures(3600.0).evictions == 1


def test_what_finds_no_room_fetches_for_itself_and_leaves_nothing() -> None:
    world = starts(NodeCaches(disk_bytes=5 * GB), nodes=1)

    assert took_s(world, 0, 0, 0.0) == pytest.approx(30.0)
    world.end(0, 100.0)

    assert world.tier(0) is Tier.COLD
    assert world.figures(100.0).fetched_bytes == pytest.approx(10e9)


def test_weights_that_are_still_in_memory_load_as_fast_as_memory_and_the_policy_calls_them_warm() -> None:
    world = starts(NodeCaches(memory_bytes=12 * GB), nodes=1)

    from_origin, from_memory = (took_s(world, slot, 0, 100.0 * slot) for slot in range(2))

    assert (from_origin, from_memory) == pytest.approx((27.0, 7.0))
    figures = world.figures(1000.0).by_tier
    assert [(each.tier, each.from_memory, each.count) for each in figures] == [
        (Tier.WARM, True, 1),
        (Tier.COLD, False, 1),
    ]
    assert figures[0].median_s == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("keep", "disk_bytes_per_s", "expected_s"),
    [(Keeping.ON_DEMAND, 2.5e9, 10.0), (Keeping.PREFETCH, 2.5e9, 7.0), (Keeping.PREFETCH, 1e9, 10.0)],
    ids=["no agent", "while the engine starts", "and the disk takes longer than that"],
)
def test_the_agent_reads_weights_into_memory_while_the_engine_starts(
    keep: Keeping, disk_bytes_per_s: float, expected_s: float
) -> None:
    caches = NodeCaches(keep=keep, memory_bytes=16 * GB, others=(NIGHT,))
    phases = replace(PHASES, disk_bytes_per_s=disk_bytes_per_s, caches=caches)
    world = with_nodes(phases, 1)
    world.hold(0, 0)
    world.settle(600.0)  # others pushed it out of memory

    assert took_s(world, 1, 0, 600.0) == pytest.approx(expected_s)


def test_who_reads_other_models_pushes_ours_out_of_memory_but_not_off_the_disk() -> None:
    world = starts(NodeCaches(memory_bytes=16 * GB, others=(NIGHT,)), nodes=1)
    world.hold(0, 0)
    world.settle(600.0)

    assert took_s(world, 1, 0, 600.0) == pytest.approx(10.0)


def test_a_lost_node_comes_back_empty_and_is_filled_again_where_weights_come_ahead() -> None:
    world = starts(NodeCaches(keep=Keeping.PREFETCH, prefetch_nodes=1))
    world.settle(50.0)
    world.forget(0, 60.0)
    world.settle(100.0)
    gone = world.tier(0)
    world.come(0, 100.0)
    world.settle(109.0)
    still = world.tier(0)
    world.settle(111.0)

    assert (gone, still, world.tier(0)) == (Tier.COLD, Tier.COLD, Tier.WARM)
    assert world.figures(111.0).fetched_bytes == pytest.approx(20e9)


def test_a_replica_that_is_let_go_before_its_weights_came_counts_as_no_start() -> None:
    world = starts(NodeCaches(keep=Keeping.NONE))
    world.begin(0, 0, 0.0)
    world.end(0, 4.0)

    assert world.settle(1000.0) == []
    assert world.figures(1000.0).by_tier == ()
    assert world.figures(1000.0).fetched_bytes == pytest.approx(4e9)  # what came until then


OTHERS = (
    OtherModel(name="day", size_bytes=8 * GB, uses_per_hour=4.0, use_s=1500.0),
    OtherModel(name="large", size_bytes=21 * GB, uses_per_hour=2.0, use_s=2400.0),
)
NODES, SLOTS = 3, 5


class Counted(Downloads):
    """Downloads whose every beginning and end is remembered."""

    begun_bytes = ended_bytes = 0.0
    ended: tuple[tuple[int, str], ...] = ()
    sizes: Mapping[tuple[int, str], float] = {}

    def begin(self, node: int, name: str, size_bytes: float, now_s: float) -> None:
        self.begun_bytes += size_bytes
        self.sizes = {**self.sizes, (node, name): size_bytes}
        super().begin(node, name, size_bytes, now_s)

    def end(self, now_s: float) -> list[tuple[int, str]]:
        ended = super().end(now_s)
        self.ended += tuple(ended)
        self.ended_bytes += sum(self.sizes[place] for place in ended)
        return ended


def trees(stores: Stores) -> set[tuple[int, str]]:
    return {(node, key) for node in range(NODES) for key in stores.at(node).disk.trees}


def assert_lawful(stores: Stores, *, disk_bytes: int, memory_bytes: int) -> None:
    for node in range(NODES):
        place = stores.at(node)
        readers = [user.key for user in place.users if user.is_reading and not user.file]
        assert set(readers) <= set(place.disk.trees)  # what is in use is never evicted
        assert {key: tree.leases for key, tree in place.disk.trees.items() if tree.leases} == Counter(readers)
        assert place.disk.size_bytes <= disk_bytes
        assert place.memory.size_bytes <= memory_bytes
        in_memory = {key for key in ("day", "large", OWN) if key in place.memory}
        assert in_memory <= set(place.disk.trees)  # a file that is deleted leaves nothing


@given(
    orders=st.lists(
        st.tuples(
            st.sampled_from(["need", "need", "leave", "forget", "come"]),
            st.integers(0, SLOTS - 1),
            st.integers(0, NODES - 1),
            st.floats(0.0, 1800.0),
        ),
        min_size=5,
        max_size=20,
    ),
    keep=st.sampled_from(list(Keeping)),
    disk_gb=st.integers(0, 40),
    memory_gb=st.integers(0, 30),
    seed=st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_no_disk_holds_more_than_it_may_nothing_in_use_is_evicted_and_all_that_lies_there_was_fetched(
    orders: list[tuple[str, int, int, float]], keep: Keeping, disk_gb: int, memory_gb: int, seed: int
) -> None:
    caches = NodeCaches(keep=keep, disk_bytes=disk_gb * GB, memory_bytes=memory_gb * GB, others=OTHERS)
    downloads = Counted(origin_bytes_per_s=0.1e9, node_bytes_per_s=0.05e9)
    stores = Stores(caches, downloads)
    stores.await_others(range(NODES), Random(seed))
    service = Holdings(stores, OWN, model_of(10 * GB, caches, range(NODES)))
    slots: dict[int, int] = {}
    there = set(range(NODES))
    for node in range(NODES):
        service.come(node, 0.0)
    now_s = 0.0
    for what, slot, node, wait_s in orders:
        now_s += wait_s
        while (at_s := stores.next_at_s) <= now_s:
            held, ended = trees(stores), len(downloads.ended)
            service.settle(at_s)
            assert trees(stores) - held <= set(downloads.ended[ended:])
            assert_lawful(stores, disk_bytes=disk_gb * GB, memory_bytes=memory_gb * GB)
        if what == "need" and slot not in slots:
            slots[slot] = node
            service.need(node, slot, at_s=now_s, now_s=now_s)
        elif what == "leave":
            service.leave(slot, now_s)
            slots.pop(slot, None)
        elif what == "forget":
            service.forget(node, now_s)
            there.discard(node)
            slots = {each: place for each, place in slots.items() if place != node}
        elif what == "come" and node not in there:
            service.come(node, now_s)
            there.add(node)
        assert_lawful(stores, disk_bytes=disk_gb * GB, memory_bytes=memory_gb * GB)

    assert downloads.ended_bytes * (1 - 1e-9) <= downloads.moved_bytes <= downloads.begun_bytes * (1 + 1e-9)
    assert downloads.moved_bytes <= 0.1e9 * now_s * (1 + 1e-9)


@given(
    reads=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=40),
    sizes=st.fixed_dictionaries({name: st.integers(1, 12) for name in "abcd"}),
    capacity=st.integers(0, 20),
)
def test_a_page_cache_holds_the_last_that_were_read_as_far_as_they_fit(
    reads: list[tuple[str, bool]], sizes: dict[str, int], capacity: int
) -> None:
    cache = PageCache(capacity)
    recent: list[str] = []  # the newest first
    for name, is_dropped in reads:
        assert cache.read(name, sizes[name]) is (name in recent)
        recent = [name, *[each for each in recent if each != name]]
        while sum(sizes[each] for each in recent) > capacity:
            recent.pop()
        if is_dropped:
            cache.drop(name)
            recent = [each for each in recent if each != name]
        assert cache.size_bytes == sum(sizes[each] for each in recent)
