"""A service in virtual time: what starts, what drains, what it costs, and that the same seed is the same world."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from autoscaler.policy.types import Observation, PodPhase, Tier
from simulations.compiled.fleet import request_records
from simulations.fleet import replay_static
from simulations.policies import NAMES, Bounds, Cadence, Policy, Wish, build
from simulations.policies.static import Static
from simulations.replica import PROFILES, EngineConfig
from simulations.trace import Arrival
from simulations.world import Outcome, Setting, simulate
from simulations.world.starts.startup import StartupTimes

CONFIG = EngineConfig(caches_prefixes=False, num_gpu_blocks=4000)
TIMES = PROFILES["llama-3.1-8b-l40s"]
STEADY = StartupTimes(cold_s=100.0, warm_s=40.0, log_deviation=0.0)


def arrivals(span_s: float = 600.0, per_s: float = 2.0) -> list[Arrival]:
    return [
        Arrival(at_s=number / per_s, prompt_tokens=300 + 53 * (number % 17), output_tokens=60 + 7 * (number % 11))
        for number in range(int(span_s * per_s) + 1)
    ]


def setting(replicas: int = 1, *, high: int = 6, per_s: float = 2.0, seed: int = 1) -> Setting:
    return Setting(
        requests=request_records(arrivals(per_s=per_s)),
        config=CONFIG,
        times=TIMES,
        bounds=Bounds(low=1, high=high),
        replicas_at_start=replicas,
        startup=STEADY,
        seed=seed,
    )


@dataclass
class Scripted:
    """Wishes by time, and what it saw."""

    number_at: Callable[[float], int]
    victim: str | None = None
    seen: list[tuple[float, Observation]] = field(default_factory=list)
    cadence: Cadence = field(default_factory=lambda: Cadence(scrape_s=2.0, decide_s=2.0))

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        self.seen.append((now_s, seen))
        return Wish(replicas=self.number_at(now_s), victim=self.victim)


def phases(seen: Observation) -> dict[str, PodPhase]:
    return {pod.name: pod.phase for pod in seen.pods}


def test_a_static_fleet_has_the_latencies_of_the_reference_replay_and_costs_its_hours() -> None:
    reference = replay_static(arrivals(), 2, CONFIG, TIMES)

    outcome = simulate(setting(2), Static(2))

    assert outcome.attainment_ratio == pytest.approx(reference.attainment_ratio(ttft_s=2.0))
    assert outcome.ttft_p95_s == pytest.approx(reference.ttft_quantile_s(0.95), abs=1e-6)
    assert outcome.gpu_hours == pytest.approx(2 * 600.0 / 3600.0)


def test_a_cold_start_takes_the_cold_time_and_the_next_on_that_node_the_warm_time() -> None:
    script = Scripted(lambda now_s: 1 if 200 <= now_s < 300 else 2)

    simulate(setting(1), script)

    ready = {pod.name: pod for _, seen in script.seen for pod in seen.pods if pod.ready_at_s is not None}
    cold, warm = ready["replica-2"], ready["replica-3"]
    assert (cold.tier, warm.tier) == (Tier.COLD, Tier.WARM)
    assert cold.ready_at_s - cold.created_at_s == pytest.approx(100.0)
    assert warm.ready_at_s - warm.created_at_s == pytest.approx(40.0)
    assert cold.node == warm.node


def test_a_starting_replica_is_seen_without_signals_and_serves_nobody() -> None:
    script = Scripted(lambda now_s: 2)

    simulate(setting(1), script)

    during = [pod for now_s, seen in script.seen if 4 < now_s < 100 for pod in seen.pods if pod.name == "replica-2"]
    assert {pod.phase for pod in during} == {PodPhase.STARTING}
    assert {pod.signals for pod in during} == {None}


def test_the_named_victim_goes_first_and_drains_before_it_is_gone() -> None:
    cadence = Cadence(scrape_s=0.5, decide_s=0.5)
    script = Scripted(lambda now_s: 3 if now_s < 300 else 2, victim="replica-1", cadence=cadence)

    outcome = simulate(setting(3, per_s=6.0), script)

    after = [phases(seen) for now_s, seen in script.seen if now_s > 300]
    assert after[1]["replica-1"] is PodPhase.TERMINATING
    assert "replica-1" not in after[-1]
    assert outcome.attainment_ratio == 1.0  # nothing was lost
    assert outcome.gpu_hours > (3 * 300 + 2 * 300) / 3600.0  # it held its GPU while it drained


def test_without_a_named_victim_the_one_that_is_not_ready_goes_first() -> None:
    script = Scripted(lambda now_s: 3 if 100 < now_s < 150 else 2)

    simulate(setting(2), script)

    last = script.seen[-1][1]
    assert set(phases(last)) == {"replica-1", "replica-2"}


def test_signals_are_those_of_the_last_scrape_not_of_now() -> None:
    script = Scripted(lambda now_s: 1, cadence=Cadence(scrape_s=15.0, decide_s=4.0))

    simulate(setting(1), script)

    ages = [
        now_s - pod.signals.observed_at_s for now_s, seen in script.seen for pod in seen.pods if pod.signals is not None
    ]
    assert max(ages) > 10.0
    assert min(ages) >= 0.0


def test_token_rates_add_up_to_the_tokens_served() -> None:
    script = Scripted(lambda now_s: 2)

    simulate(setting(2), script)

    rates = [
        sum((pod.signals.generation_tokens_per_s or 0.0) for pod in seen.pods if pod.signals)
        for now_s, seen in script.seen
        if 100 < now_s < 500
    ]
    expected = 2.0 * np.mean([arrival.output_tokens for arrival in arrivals()])
    assert np.mean(rates) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_is_the_same_world_and_the_traffic_is_left_as_it_was(name: str) -> None:
    shared = setting(1, per_s=5.0)
    before = shared.requests.tobytes()

    first, second = (simulate(shared, policy_of(name, shared)) for _ in range(2))

    assert first == second
    assert shared.requests.tobytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_stays_within_its_bounds_and_costs_at_least_the_least(name: str) -> None:
    busy = setting(1, high=3, per_s=9.0)

    outcome = simulate(busy, policy_of(name, busy))

    assert all(1 <= replicas <= 3 for _, replicas in outcome.changes)
    assert outcome.gpu_hours >= 600.0 / 3600.0 * (1 - 1e-9)


def test_warmtide_grows_for_a_load_that_one_replica_cannot_bear() -> None:
    busy = setting(1, per_s=25.0)

    outcome = simulate(busy, policy_of("warmtide", busy))
    alone = simulate(busy, Static(1))

    assert max(replicas for _, replicas in outcome.changes) > 1
    assert outcome.attainment_ratio > alone.attainment_ratio + 0.2


def policy_of(name: str, shared: Setting) -> Policy:
    return build(name, shared.bounds, ttft_s=shared.ttft_s, lead_time_s=shared.startup.cold_s)


def test_progress_moves_from_start_to_end() -> None:
    told: list[float] = []

    simulate(setting(1), Scripted(lambda now_s: 1), told.append)

    assert told == sorted(told)
    assert 0.0 <= told[0] < 0.1
    assert 0.8 < told[-1] <= 1.0


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match="no policy named 'hap'; there are: static, warmtide"):
        build("hap", Bounds(), ttft_s=2.0, lead_time_s=60.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"cold_s": 0.0}, "cold_s must be > 0"), ({"log_deviation": -1.0}, "log_deviation must be ≥ 0")],
    ids=["no time", "negative"],
)
def test_start_up_times_that_cannot_be_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StartupTimes(**values)


def test_an_outcome_of_requests_that_never_got_a_token_is_a_miss() -> None:
    slow = StartupTimes(cold_s=1e9, warm_s=1e9, log_deviation=0.0)
    shared = Setting(
        requests=request_records(arrivals()),
        config=CONFIG,
        times=TIMES,
        bounds=Bounds(low=1, high=2),
        replicas_at_start=1,
        startup=slow,
    )
    script = Scripted(lambda now_s: 2 if now_s < 50 else 1, victim="replica-1")

    outcome = simulate(shared, script)

    assert isinstance(outcome, Outcome)
    assert outcome.ttft_p95_s > 1e6 or math.isinf(outcome.ttft_p95_s)
    assert outcome.attainment_ratio < 0.15
