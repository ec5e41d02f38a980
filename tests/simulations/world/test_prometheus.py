"""How old is what a policy sees through Prometheus: scrapes, recording rules, other controllers, kept answers."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from autoscaler.policy.types import Observation
from metrics.sample import PodSignals
from simulations.compiled.records import requests_of
from simulations.policies import Bounds, Cadence, Wish
from simulations.policies.base import Queries
from simulations.replica import PROFILES, EngineConfig
from simulations.world import Setting, simulate
from simulations.world.sensing.prometheus import Monitoring

SPAN_S, WARM_S = 600.0, 120.0


@dataclass
class Watcher:
    """Keeps three replicas, and what it saw of each at each of its times."""

    cadence: Cadence
    seen: dict[float, list[PodSignals]] = field(default_factory=dict)

    def wish(self, seen: Observation, now_s: float) -> Wish:
        self.seen[now_s] = [pod.signals for pod in seen.pods if pod.signals is not None]
        return Wish(replicas=3)

    def ages_s(self) -> np.ndarray:
        """Of what each replica had said, once all of it has been on its way for a while."""
        late = [(now_s, found) for now_s, found in self.seen.items() if now_s > WARM_S]
        return np.array([[now_s - signals.observed_at_s for signals in found] for now_s, found in late])


def setting(**more: object) -> Setting:
    at_s = np.arange(0.0, SPAN_S, 0.125)
    ones = np.ones(len(at_s), np.int32)
    plain = Setting(
        requests=requests_of(at_s, 300 * ones, 100 * ones),
        config=EngineConfig(caches_prefixes=False, num_gpu_blocks=4000),
        times=PROFILES["llama-3.1-8b-l40s"],
        bounds=Bounds(low=1, high=4),
        replicas_at_start=3,
    )
    return replace(plain, **more)


def watched(queries: Queries, shared: Setting) -> Watcher:
    watcher = Watcher(Cadence(scrape_s=15.0, decide_s=1.0, queries=queries))
    simulate(shared, watcher)
    return watcher


@pytest.mark.parametrize(
    ("queries", "oldest_s"),
    [
        (Queries(), 15.0),
        (Queries(rule_s=30.0), 45.0),
        (Queries(is_relayed=True), 15.0 + 15.0),
        (Queries(polling_s=30.0), 45.0),
        (Queries(rule_s=15.0, is_relayed=True, polling_s=30.0), 15.0 + 15.0 + 15.0 + 30.0),
    ],
    ids=["scraped", "recording rules", "another controller", "kept answers", "all of them"],
)
def test_each_part_of_the_way_adds_up_to_its_period(queries: Queries, oldest_s: float) -> None:
    ages_s = [watched(queries, setting(seed=seed)).ages_s() for seed in range(5)]

    together_s = np.concatenate(ages_s)
    assert together_s.min() >= 0.0
    assert together_s.max() <= oldest_s
    assert len({round(float(age_s), 6) for age_s in together_s[0]}) == 3  # each target at its own times


def test_the_site_decides_how_often_prometheus_scrapes_and_evaluates() -> None:
    shared = setting(monitoring=Monitoring(scrape_s=60.0, rule_s=60.0))

    ages_s = watched(Queries(rule_s=15.0), shared).ages_s()

    assert 60.0 < ages_s.max() <= 120.0


def test_what_a_router_says_of_its_pods_is_of_one_moment() -> None:
    ages_s = watched(Queries(is_of_router=True), setting()).ages_s()

    assert np.ptp(ages_s, axis=1).max() < 1e-9


def test_rates_are_over_the_range_of_the_query() -> None:
    """8 requests/s of 100 tokens each, over any range; what is not covered is extrapolated."""
    for window_s in (45.0, 300.0):
        watcher = watched(Queries(window_s=window_s), setting())

        late = [found for now_s, found in watcher.seen.items() if now_s > 400.0]
        assert {signals.window_s for found in late for signals in found} == {window_s}
        rates = [sum(signals.generation_tokens_per_s or 0.0 for signals in found) for found in late]
        assert np.mean(rates) == pytest.approx(800.0, rel=0.01)
