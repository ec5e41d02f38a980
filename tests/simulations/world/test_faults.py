"""Sensors that fail for a while, and what that does to who looks at them."""

from dataclasses import dataclass, field, replace

import pytest

from autoscaler.policy.types import Observation
from metrics.sample import PodSignals
from simulations.compiled.fleet import request_records
from simulations.policies import Bounds, Cadence, Policy, Wish, build
from simulations.policies.base import Queries
from simulations.replica import PROFILES, EngineConfig
from simulations.trace import Arrival
from simulations.world import Setting, simulate
from simulations.world.sensing.faults import FaultKind, SensorFault
from simulations.world.starts.startup import StartupTimes

BEGIN_S, END_S = 200.0, 500.0


def setting(*faults: SensorFault, busy_until_s: float = 600.0) -> Setting:
    arrivals = [
        Arrival(at_s=number / 16, prompt_tokens=300 + 53 * (number % 17), output_tokens=60 + 7 * (number % 11))
        for number in range(int(busy_until_s * 16))
    ]
    last = Arrival(at_s=600.0, prompt_tokens=10, output_tokens=10)
    return Setting(
        requests=request_records([*arrivals, last]),
        config=EngineConfig(caches_prefixes=False, num_gpu_blocks=4000),
        times=PROFILES["llama-3.1-8b-l40s"],
        bounds=Bounds(low=1, high=4),
        replicas_at_start=3,
        startup=StartupTimes(cold_s=60.0, warm_s=30.0, log_deviation=0.0),
        faults=faults,
    )


@dataclass
class Watcher:
    """Keeps its replicas, and what it saw of the first."""

    seen: dict[float, PodSignals | None] = field(default_factory=dict)
    cadence: Cadence = field(default_factory=lambda: Cadence(scrape_s=2.0, decide_s=2.0))

    def wish(self, seen: Observation, now_s: float) -> Wish:
        self.seen[now_s] = next(pod.signals for pod in seen.pods if pod.name == "replica-1")
        return Wish(replicas=3)

    def during(self) -> list[tuple[float, PodSignals | None]]:
        return [(now_s, signals) for now_s, signals in self.seen.items() if BEGIN_S <= now_s < END_S]


def fault(kind: FaultKind, amount: float = 1.0) -> SensorFault:
    return SensorFault(kind=kind, begin_s=BEGIN_S, end_s=END_S, amount=amount)


def watched(*faults: SensorFault) -> Watcher:
    watcher = Watcher()
    simulate(setting(*faults), watcher)
    return watcher


def test_missing_pages_leave_what_was_read_before_to_grow_old() -> None:
    watcher = watched(fault(FaultKind.MISSING))

    ages = [now_s - signals.observed_at_s for now_s, signals in watcher.during() if signals is not None]
    assert max(ages) > END_S - BEGIN_S - 5.0
    after = [now_s - signals.observed_at_s for now_s, signals in watcher.seen.items() if signals and now_s > END_S]
    assert max(after) == 0.0


def test_a_stuck_page_is_fresh_and_never_changes() -> None:
    during = [signals for _, signals in watched(fault(FaultKind.STUCK)).during() if signals is not None]

    assert len({signals.running_requests for signals in during}) == 1
    assert {signals.generation_tokens_per_s for signals in during} == {0.0}
    stalled_s = [signals.stalled_for_s or 0.0 for signals in during]
    assert stalled_s == sorted(stalled_s)
    assert stalled_s[-1] > 290.0


def test_late_pages_are_as_old_as_they_are_late() -> None:
    during = watched(fault(FaultKind.LATE, 40.0)).during()

    ages = [now_s - signals.observed_at_s for now_s, signals in during if signals is not None]
    assert len(ages) > 100
    assert 40.0 <= min(ages) <= max(ages) <= 44.0


def test_wrong_gauges_are_wrong_by_their_factor() -> None:
    truth, wrong = watched(), watched(fault(FaultKind.SCALED, 3.0))

    for (_, true), (_, scaled) in zip(truth.during(), wrong.during(), strict=True):
        assert true is not None
        assert scaled is not None
        assert scaled.running_requests == 3.0 * (true.running_requests or 0.0)


@pytest.mark.parametrize("kind", [FaultKind.MISSING, FaultKind.STUCK])
def test_warmtide_never_shrinks_while_it_is_blind(kind: FaultKind) -> None:
    shared = setting(replace(fault(kind), end_s=599.0), busy_until_s=250.0)
    policy = build("warmtide", shared.bounds, ttft_s=2.0, lead_time_s=60.0)

    outcome = simulate(shared, policy)

    blind = [change for change in outcome.decisions if change.at_s > BEGIN_S + 30.0]
    assert [change for change in blind if change.after < change.before] == []


def test_who_asks_prometheus_finds_no_series_of_pages_that_are_missing() -> None:
    watcher = Watcher(cadence=Cadence(scrape_s=15.0, decide_s=2.0, queries=Queries()))

    simulate(setting(fault(FaultKind.MISSING)), watcher)

    lost = [now_s for now_s, signals in watcher.during() if signals is None]
    assert BEGIN_S < min(lost) <= BEGIN_S + 15.0  # the first scrape that fails ends the series
    assert len(lost) > (END_S - BEGIN_S - 15.0 - 2.0) / 2.0
    assert not [now_s for now_s, signals in watcher.seen.items() if signals is None and now_s > END_S + 15.0]


@pytest.mark.parametrize("name", ["hpa-queue", "warmtide"])
def test_metrics_that_are_missing_shrink_nobody_who_asks_for_each_pod(name: str) -> None:
    outcome = simulate(*blind(name))

    assert [change for change in outcome.decisions if change.after < change.before] == []


def test_keda_takes_series_that_are_missing_for_zero_and_shrinks_a_busy_fleet_to_its_minimum() -> None:
    shared, policy = blind("keda-epp-queue")
    sound = simulate(replace(shared, faults=()), build("keda-epp-queue", shared.bounds, ttft_s=2.0, lead_time_s=60.0))

    outcome = simulate(shared, policy)

    assert sound.decisions == ()
    assert outcome.decisions[-1].after == 1
    assert outcome.decisions[-1].at_s > 100.0 + 300.0 - 15.5  # its window, from the last sync that saw the load


def blind(name: str) -> tuple[Setting, Policy]:
    """A busy fleet of four, and a policy that sees nothing of it from second 100 on."""
    shared = setting(replace(fault(FaultKind.MISSING), begin_s=100.0, end_s=599.0))
    return replace(shared, replicas_at_start=4), build(name, shared.bounds, ttft_s=2.0, lead_time_s=60.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"end_s": 100.0}, "begin_s < end_s"), ({"amount": -1.0}, "amount must be ≥ 0")],
    ids=["ends before it begins", "negative"],
)
def test_a_fault_that_cannot_be_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(fault(FaultKind.LATE), **values)


def test_a_replica_of_several_gpus_costs_them_all_and_shares_its_node() -> None:
    alone = simulate(setting(), Watcher())
    four = simulate(replace(setting(), gpus_per_replica=4, gpus_per_node=8), Watcher())

    assert four.gpu_hours == pytest.approx(4 * alone.gpu_hours)
    with pytest.raises(ValueError, match="a replica of 4 GPUs does not fit a node of 2"):
        replace(setting(), gpus_per_replica=4, gpus_per_node=2)


def test_a_second_replica_on_a_node_finds_the_weights_there() -> None:
    @dataclass
    class Grows:
        tiers: dict[str, str] = field(default_factory=dict)
        cadence: Cadence = field(default_factory=lambda: Cadence(scrape_s=2.0, decide_s=2.0))

        def wish(self, seen: Observation, now_s: float) -> Wish:
            self.tiers |= {pod.name: f"{pod.node} {pod.tier}" for pod in seen.pods}
            return Wish(replicas=1 if now_s < 20.0 else 3)

    policy = Grows()

    simulate(replace(setting(), replicas_at_start=1, gpus_per_replica=1, gpus_per_node=2), policy)

    assert policy.tiers == {"replica-1": "node-0 cold", "replica-2": "node-0 warm", "replica-3": "node-1 cold"}
