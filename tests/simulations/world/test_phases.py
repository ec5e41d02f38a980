"""Start-ups by phases: what is shared, what is there already, and that nothing is fetched twice for one node."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy.types import Observation
from simulations.compiled.fleet import request_records
from simulations.policies import Bounds, Cadence, Wish
from simulations.replica import PROFILES, EngineConfig
from simulations.trace import Arrival
from simulations.world import Setting, simulate
from simulations.world.starts.downloads import Downloads
from simulations.world.starts.phases import PhasedStarts, Phases
from simulations.world.starts.startup import WARM_MEDIAN_S

# 10 s to fetch alone, 30 s from there to Ready; 20 s where it was compiled before.
PHASES = Phases(
    weights_bytes=10e9,
    origin_bytes_per_s=2e9,
    node_bytes_per_s=1e9,
    disk_bytes_per_s=2e9,
    init_s=5.0,
    compile_s=15.0,
    compile_cached_s=5.0,
    graphs_s=5.0,
    warm_up_s=0.0,
    log_deviation=0.0,
)


def ready_times(phases: Phases, orders: list[tuple[float, int]]) -> dict[int, float]:
    """When the n-th order, at a time on a node, is Ready."""
    starts = PhasedStarts(phases, Random(1))
    ready_at_s: dict[int, float] = {}
    for slot, (at_s, node) in enumerate(orders):
        ready_at_s |= {started.slot: started.ready_at_s for started in starts.settle(at_s)}
        ready_at_s[slot] = starts.begin(slot, node, at_s)
    return ready_at_s | {started.slot: started.ready_at_s for started in starts.settle(1e9)}


@pytest.mark.parametrize(
    ("orders", "ready_s"),
    [
        ([(0.0, 0)], [40.0]),
        ([(0.0, 0), (0.0, 1)], [40.0, 40.0]),
        ([(0.0, 0), (0.0, 1), (0.0, 2), (0.0, 3)], [50.0] * 4),
        ([(0.0, 0), (5.0, 0)], [40.0, 40.0]),
        ([(0.0, 0), (100.0, 0)], [40.0, 120.0]),
    ],
    ids=["alone", "two fill the origin", "four share it", "one node fetches once", "warm"],
)
def test_weights_share_the_origin_and_are_fetched_once_a_node(
    orders: list[tuple[float, int]], ready_s: list[float]
) -> None:
    assert list(ready_times(PHASES, orders).values()) == pytest.approx(ready_s)


def test_a_new_node_is_provisioned_and_pulls_the_image_once() -> None:
    slow = replace(PHASES, provision_s=100.0, image_s=50.0)

    assert list(ready_times(slow, [(0.0, 0), (1000.0, 0)]).values()) == pytest.approx([190.0, 1020.0])


@given(
    begins_s=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=8).map(sorted),
    origin=st.floats(0.5, 20.0),
    node=st.floats(0.5, 5.0),
)
def test_downloads_are_never_faster_than_origin_or_node_and_all_bytes_arrive(
    begins_s: list[float], origin: float, node: float
) -> None:
    downloads = Downloads(origin_bytes_per_s=origin, node_bytes_per_s=node)
    ended_s: dict[int, float] = {}
    for number, begin_s in enumerate(begins_s):
        while downloads.next_end_s <= begin_s:
            at_s = downloads.next_end_s
            ended_s |= {node: at_s for node, _ in downloads.end(at_s)}
        downloads.begin(number, "weights", 10.0, begin_s)
    while (at_s := downloads.next_end_s) < math.inf:
        ended_s |= {node: at_s for node, _ in downloads.end(at_s)}

    assert downloads.moved_bytes == pytest.approx(10.0 * len(begins_s))
    assert len(ended_s) == len(begins_s)
    for number, begin_s in enumerate(begins_s):
        assert ended_s[number] - begin_s >= 10.0 / min(origin, node) - 1e-6
    assert max(ended_s.values()) - begins_s[0] >= 10.0 * len(begins_s) / origin - 1e-6


Flow = tuple[float, int, float]  # begins at, on a node, bytes


def filled(flows: list[tuple[int, int]], *, origin: float, node: float) -> dict[int, float]:
    """Rates by progressive filling: all grow alike, and whoever meets a full link stays as he is."""
    rates = dict.fromkeys((number for number, _ in flows), 0.0)
    growing = dict(flows)
    while growing:
        spare = {"origin": (origin - sum(rates.values())) / len(growing)}
        for place in set(growing.values()):
            used = sum(rates[number] for number, where in flows if where == place)
            spare[str(place)] = (node - used) / sum(where == place for where in growing.values())
        step = min(spare.values())
        rates |= {number: rates[number] + step for number in growing}
        full = {name for name, left in spare.items() if left <= step * (1 + 1e-9)}
        growing = {} if "origin" in full else {n: where for n, where in growing.items() if str(where) not in full}
    return rates


def ends_by_filling(flows: list[Flow], *, origin: float, node: float) -> dict[int, float]:
    """When each ends, moved on from event to event."""
    left = {number: size for number, (_, _, size) in enumerate(flows)}
    ended: dict[int, float] = {}
    now_s = 0.0
    while len(ended) < len(flows):
        present = [(n, where) for n, (at_s, where, _) in enumerate(flows) if at_s <= now_s and n not in ended]
        rates = filled(present, origin=origin, node=node)
        begins = [at_s for at_s, _, _ in flows if at_s > now_s]
        until_s = min([*begins, *[now_s + left[number] / rates[number] for number, _ in present]])
        for number, _ in present:
            left[number] -= rates[number] * (until_s - now_s)
            if left[number] <= 1e-9 * flows[number][2]:
                ended[number] = until_s
        now_s = until_s
    return ended


@given(
    flows=st.lists(
        st.tuples(st.integers(0, 30).map(float), st.integers(0, 2), st.integers(1, 40).map(float)),
        min_size=1,
        max_size=9,
    ).map(sorted),
    origin=st.floats(0.5, 10.0),
    node=st.floats(0.5, 5.0),
)
def test_transfers_of_the_same_and_of_other_nodes_have_the_rates_of_progressive_filling(
    flows: list[Flow], origin: float, node: float
) -> None:
    downloads = Downloads(origin_bytes_per_s=origin, node_bytes_per_s=node)
    ended_s: dict[int, float] = {}
    for begin_s, place, number in [*[(at_s, place, n) for n, (at_s, place, _) in enumerate(flows)], (math.inf, 0, -1)]:
        while (at_s := downloads.next_end_s) < begin_s:
            ended_s |= {int(name): at_s for _, name in downloads.end(at_s)}
        if number >= 0:
            downloads.begin(place, str(number), flows[number][2], begin_s)

    assert ended_s == pytest.approx(ends_by_filling(flows, origin=origin, node=node), rel=1e-6)


@dataclass
class Grows:
    """Asks for three more at once, and remembers when they were ready."""

    ready_s: dict[str, float] = field(default_factory=dict)
    cadence: Cadence = field(default_factory=lambda: Cadence(scrape_s=1.0, decide_s=1.0))

    def wish(self, seen: Observation, now_s: float) -> Wish:
        self.ready_s |= {pod.name: pod.ready_at_s for pod in seen.pods if pod.ready_at_s is not None}
        return Wish(replicas=1 if now_s < 100.0 else 4)


def test_replicas_of_a_simulated_service_start_by_phases() -> None:
    arrivals = [Arrival(at_s=number / 4, prompt_tokens=200, output_tokens=50) for number in range(1200)]
    setting = Setting(
        requests=request_records(arrivals),
        config=EngineConfig(caches_prefixes=False, num_gpu_blocks=4000),
        times=PROFILES["llama-3.1-8b-l40s"],
        bounds=Bounds(low=1, high=4),
        replicas_at_start=1,
        startup=PHASES,
    )
    policy = Grows()

    outcome = simulate(setting, policy)

    begun_s = outcome.decisions[0].at_s
    took_s = [at_s - begun_s for name, at_s in policy.ready_s.items() if name != "replica-1"]
    assert took_s == pytest.approx([45.0, 45.0, 45.0])  # three share an origin that is as fast as two nodes
    assert outcome.attainment_ratio == 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: replace(PHASES, weights_bytes=0.0), "weights_bytes must be > 0"),
        (lambda: replace(PHASES, graphs_s=-1.0), "graphs_s must be ≥ 0"),
    ],
    ids=["no weights", "negative"],
)
def test_phases_that_cannot_be_are_refused(build: Callable[[], Phases], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_warm_start_by_default_takes_as_long_as_was_measured_as_a_whole() -> None:
    assert Phases().warm_s == pytest.approx(WARM_MEDIAN_S, rel=0.05)
