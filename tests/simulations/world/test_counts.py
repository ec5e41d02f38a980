"""Numbers of replicas that come through Prometheus are those of its last scrape of kube-state-metrics."""

from random import Random

import pytest

from autoscaler.policy.types import Observation
from simulations.policies import Cadence, Wish
from simulations.policies.base import Counts, Queries, SeenWithCounts, counts
from simulations.world import simulate
from simulations.world.examples import one_a_second, small_world
from simulations.world.sensing.counts import StateMetrics
from simulations.world.starts.startup import StartupTimes

SCRAPE_S = 15.0


def of(ready: int) -> Counts:
    return Counts(wanted=4, present=4, ready=ready)


def test_what_is_told_is_what_was_at_the_last_scrape() -> None:
    phase_s = Random(1).random() * SCRAPE_S
    series = StateMetrics(SCRAPE_S, Random(1))
    seen = Observation(service="any", replicas=9)
    for at_s, ready in ((0.0, 1), (phase_s + 1.0, 2), (phase_s + 2.0, 3), (phase_s + 20.0, 4)):
        series.note(of(ready), at_s)

    told = [series.told(seen, phase_s + late_s) for late_s in (0.5, 14.9, 15.0, 29.9, 30.0)]

    assert [each.counts.ready for each in told] == [1, 1, 3, 3, 4]
    assert {each.replicas for each in told} == {9}  # what the API server says is of the moment


class Watching:
    """Grows once, and compares what it is told with what there is."""

    def __init__(self, *, counts_replicas: bool) -> None:
        queries = Queries(counts_replicas=counts_replicas)
        self.cadence = Cadence(scrape_s=SCRAPE_S, decide_s=1.0, queries=queries)
        self.grown_at_s, self.told_at_s = 0.0, 0.0

    def wish(self, seen: Observation, now_s: float) -> Wish:
        wanted = 1 if now_s < 40.0 else 3
        if wanted == 3 and not self.grown_at_s:
            self.grown_at_s = now_s
        if counts(seen).wanted == 3 and not self.told_at_s:
            self.told_at_s = now_s
        assert isinstance(seen, SeenWithCounts) == self.cadence.queries.counts_replicas
        return Wish(replicas=wanted)


@pytest.mark.parametrize("seed", range(1, 6))
def test_who_asks_for_such_numbers_learns_of_its_own_change_a_scrape_later(seed: int) -> None:
    startup = StartupTimes(cold_s=60.0, warm_s=60.0, log_deviation=0.0)
    setting = small_world(one_a_second(199), startup, high=4, profile="llama-3.1-8b-h100", seed=seed)
    late, live = Watching(counts_replicas=True), Watching(counts_replicas=False)

    simulate(setting, late)
    simulate(setting, live)

    assert live.told_at_s - live.grown_at_s == pytest.approx(1.0)
    assert 0.0 < late.told_at_s - late.grown_at_s <= SCRAPE_S + 1.0
