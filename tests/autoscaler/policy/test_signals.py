"""What single signals say: lenses, latencies, start-ups, and the odd cases of each."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from autoscaler.policy.decide import decide
from autoscaler.policy.examples import fleet, latencies, ready, signals, starting
from autoscaler.policy.latency import OBSERVATIONS_MIN, fleet_quantile, sure_quantile
from autoscaler.policy.lead_time import learn_starts, watch_starts
from autoscaler.policy.memory import Memory
from autoscaler.policy.signals import STALLED_S, tokens_per_s, waiting_requests
from autoscaler.policy.spec import ForecastSpec, LensTargets, Objectives, PolicySpec
from autoscaler.policy.supply import take_stock
from autoscaler.policy.types import Decision, LensReading, Observation, PodPhase, Reason, Supply
from metrics.quantile import merge, quantile
from metrics.sample import Histogram

NOW_S = 1_000_000.0
SPEC = PolicySpec(
    replicas_max=20, targets=LensTargets(use_learned_capacity=False), forecast=ForecastSpec(enabled=False)
)


def decided(seen: Observation, spec: PolicySpec = SPEC) -> Decision:
    return decide(seen, spec, Memory.start(seen.replicas, NOW_S - 1), now_s=NOW_S)[0]


def lens(decision: Decision, name: str) -> LensReading:
    return next(reading for reading in decision.lenses if reading.name == name)


def stock(seen: Observation) -> Supply:
    return take_stock(seen, SPEC, (), NOW_S, now_s=NOW_S).supply


@given(st.lists(st.tuples(st.floats(1, 1000), st.floats(0.05, 20)), min_size=1, max_size=6), st.floats(0.01, 0.99))
def test_the_quantile_of_a_fleet_is_that_of_its_merged_histograms(parts: list[tuple[float, float]], q: float) -> None:
    histograms = [latencies(requests=requests, mean_s=mean_s) for requests, mean_s in parts]
    merged = merge(histograms)

    assert merged is not None
    assert fleet_quantile(histograms, q) == pytest.approx(quantile(merged, q))


def test_histograms_of_different_buckets_still_have_a_quantile() -> None:
    coarse = Histogram(bounds=(0.5, 2.5, math.inf), counts=(10.0, 40.0, 40.0), sum=40.0)

    value = fleet_quantile([coarse, latencies(requests=50, mean_s=0.2)], 0.9)

    assert value == pytest.approx(2.0, abs=0.5)


@pytest.mark.parametrize(
    ("requests", "replicas"),
    [
        pytest.param(OBSERVATIONS_MIN / 2 - 0.5, 0, id="just under"),
        pytest.param(OBSERVATIONS_MIN / 2, 4, id="at"),
        pytest.param(OBSERVATIONS_MIN / 2 + 0.5, 4, id="just over"),
    ],
)
def test_few_latencies_are_anecdotes(requests: float, replicas: int) -> None:
    slow = latencies(requests=requests, mean_s=8.0)

    decision = decided(fleet([signals(NOW_S, ttft_s=slow)] * 2))

    assert lens(decision, "ttft").replicas == replicas


@pytest.mark.parametrize(
    ("requests", "late_ratio", "replicas"),
    [
        pytest.param(20, 0.04, 0, id="1 of 20: within the objective"),
        pytest.param(20, 0.15, 2, id="3 of 20: chance"),
        pytest.param(20, 0.25, 4, id="5 of 20"),
        pytest.param(100, 0.11, 2, id="11 of 100: chance"),
        pytest.param(100, 0.13, 3, id="13 of 100"),
        pytest.param(2000, 0.06, 2, id="120 of 2000: chance"),
        pytest.param(2000, 0.07, 3, id="140 of 2000"),
        pytest.param(20, 1.0, 4, id="all"),
    ],
)
def test_a_window_that_chance_could_have_made_lets_none_go_and_asks_for_none(
    requests: int, late_ratio: float, replicas: int
) -> None:
    each = requests / 2
    mixed = Histogram(bounds=(2.0, 10.0, math.inf), counts=(each * (1 - late_ratio), each, each), sum=each)

    reading = lens(decided(fleet([signals(NOW_S, ttft_s=mixed)] * 2)), "ttft")

    assert reading.replicas == replicas
    assert ("chance" in reading.note) == (replicas == 2)


@pytest.mark.parametrize(
    ("late_ratio", "alarms_ratio"),
    [pytest.param(0.05, 0.02, id="at the objective"), pytest.param(0.02, 0.001, id="well within it")],
)
def test_false_alarms_of_latency_are_rare_however_many_requests_a_window_has(
    late_ratio: float, alarms_ratio: float
) -> None:
    windows = np.arange(OBSERVATIONS_MIN, 3000)
    limits = np.array([(1.0 - sure_quantile(0.95, requests)) * requests for requests in windows.tolist()])

    assert np.all(binom.sf(limits, windows, late_ratio) <= alarms_ratio)
    assert np.all(binom.sf(limits[80:], windows[80:], 0.20) >= 0.95)  # four times too many are hardly ever missed


def test_latency_near_its_objective_lets_none_go() -> None:
    slow = Histogram(bounds=(2.0, 2.15, math.inf), counts=(0.0, 100.0, 100.0), sum=210.0)

    decision = decided(fleet([signals(NOW_S, ttft_s=slow, kv_cache_usage_ratio=0.1)] * 3))

    assert lens(decision, "ttft").replicas == 3
    assert decision.steps[0].replicas == 3


def test_long_prompts_that_run_alone_are_no_reason_to_grow() -> None:
    slow = latencies(requests=50, mean_s=9.0)

    decision = decided(fleet([signals(NOW_S, ttft_s=slow, running_requests=1.0)] * 2))

    assert lens(decision, "ttft").replicas == 2
    assert "alone" in lens(decision, "ttft").note


@pytest.mark.parametrize(
    ("waiting_requests", "since_s", "replicas"),
    [(1.0, -10.0, 3), (2.0, -10.0, 4), (1.0, -1000.0, 6)],
    ids=["helped and calm", "helped, still waiting", "calm, nobody came"],
)
def test_latencies_of_before_the_help_came_ask_for_no_more(
    waiting_requests: float, since_s: float, replicas: int
) -> None:
    late = latencies(requests=100.0, mean_s=3.0)
    samples = [signals(NOW_S, ttft_s=late, waiting_requests=waiting_requests) for _ in range(3)]
    pods = tuple(
        ready(f"pod-{index}", sample, since_s=NOW_S + (since_s if index == 2 else -1000.0))
        for index, sample in enumerate(samples)
    )
    spec = replace(SPEC, targets=replace(SPEC.targets, queue_requests=3.0))

    reading = lens(decided(Observation(service="prod/llama", replicas=3, pods=pods), spec), "ttft")

    assert reading.replicas == replicas


def test_latency_asks_for_no_more_than_clears_the_queue() -> None:
    late = latencies(requests=100.0, mean_s=3.0)
    samples = [signals(NOW_S, ttft_s=late, waiting_requests=6.0)] * 4
    known = replace(SPEC, targets=replace(SPEC.targets, tokens_per_s=4000.0))

    assert lens(decided(fleet([*samples])), "ttft").replicas == 8
    assert lens(decided(fleet([*samples]), known), "ttft").replicas == 5


def test_the_time_between_tokens_has_a_lens_of_its_own() -> None:
    spec = replace(SPEC, objectives=Objectives(ttft_s=None, itl_s=0.2))
    slow = latencies(requests=500, mean_s=0.5)

    decision = decided(fleet([signals(NOW_S, itl_s=slow)] * 2), spec)

    assert (decision.binding_lens, decision.replicas) == ("itl", 4)


def test_a_first_sample_has_no_window_and_is_not_a_missing_series() -> None:
    first = signals(NOW_S, window_s=0.0, ttft_s=None, prompt_tokens_per_s=None, generation_tokens_per_s=None)

    decision = decided(fleet([first] * 2))

    assert lens(decision, "ttft").note == "no window yet"
    assert decision.replicas == 2


def test_latencies_without_a_single_bucket_say_nothing() -> None:
    odd = Histogram(bounds=(math.inf,), counts=(100.0,), sum=10.0)

    assert lens(decided(fleet([signals(NOW_S, ttft_s=odd)])), "ttft").note == "no observations in the window"


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        pytest.param({"computed_prompt_tokens_per_s": 500.0}, 1500.0, id="cached prompt tokens are no work"),
        pytest.param({}, 4000.0, id="without that, all prompt tokens"),
        pytest.param({"generation_tokens_per_s": None}, None, id="half a rate is none"),
        pytest.param({"prompt_tokens_per_s": -5.0}, 1000.0, id="a counter that ran back"),
    ],
)
def test_work_is_tokens_computed(changes: dict[str, float | None], tokens: float | None) -> None:
    assert tokens_per_s(signals(NOW_S, **changes)) == tokens


def test_requests_that_more_replicas_do_not_help_are_not_counted_as_waiting() -> None:
    assert waiting_requests(signals(NOW_S, waiting_requests=7.0, deferred_requests=5.0)) == 2.0


@pytest.mark.parametrize(
    ("stalled_s", "blind"),
    [
        pytest.param(STALLED_S - 0.1, 0, id="just under"),
        pytest.param(STALLED_S, 1, id="at"),
        pytest.param(STALLED_S + 0.1, 1, id="just over"),
    ],
)
def test_a_server_that_moves_no_counter_is_blind(stalled_s: float, blind: int) -> None:
    assert stock(fleet([signals(NOW_S, stalled_for_s=stalled_s)])).blind == blind


@pytest.mark.parametrize(
    ("age_s", "blind"),
    [
        pytest.param(29.9, 0, id="just fresh"),
        pytest.param(30.0, 0, id="at"),
        pytest.param(30.1, 1, id="stale"),
        pytest.param(-30.1, 1, id="from the future"),
    ],
)
def test_a_sample_counts_for_max_age(age_s: float, blind: int) -> None:
    assert stock(fleet([signals(NOW_S - age_s)])).blind == blind


def test_supply_sorts_every_phase() -> None:
    pods = (
        ready("serving", signals(NOW_S)),
        ready("blind", None),
        ready("asleep", signals(NOW_S, is_awake=False)),
        starting("on time", created_at_s=NOW_S - 10),
        starting("late", created_at_s=NOW_S - 1000),
        starting("no room", created_at_s=NOW_S - 10, phase=PodPhase.UNSCHEDULABLE),
        starting("gated", created_at_s=NOW_S - 10, phase=PodPhase.GATED),
        starting("leaving", created_at_s=NOW_S - 900, phase=PodPhase.TERMINATING),
    )

    supply = stock(Observation(service="prod/llama", replicas=8, pods=pods))

    assert supply == Supply(ready=2, starting=2, overdue=3, terminating=1, blind=1, asleep=1)


def test_pods_that_were_asked_for_long_ago_and_never_made_are_not_coming() -> None:
    seen = Observation(service="prod/llama", replicas=3)

    assert take_stock(seen, SPEC, (), NOW_S - 339.0, now_s=NOW_S).supply.overdue == 3
    assert take_stock(seen, SPEC, (), NOW_S - 338.0, now_s=NOW_S).supply.starting == 3


def test_only_start_ups_seen_from_their_beginning_are_measured() -> None:
    fresh, old = starting("fresh", created_at_s=NOW_S - 60), starting("old", created_at_s=NOW_S - 61)

    assert watch_starts((), (fresh, old), NOW_S) == ("fresh",)
    assert watch_starts(("old",), (fresh, old), NOW_S) == ("fresh", "old")
    assert watch_starts(("gone",), (), NOW_S) == ()


def test_a_ready_time_before_the_creation_teaches_nothing() -> None:
    odd = replace(ready("odd", None), ready_at_s=-5000.0)

    assert learn_starts((), ("odd",), (odd,)) == ()


def test_the_concurrency_lens_counts_running_and_waiting_and_upstream() -> None:
    spec = replace(SPEC, targets=LensTargets(running_requests=4.0, use_learned_capacity=False))
    seen = fleet([signals(NOW_S, running_requests=5.0, waiting_requests=1.0)] * 2, upstream_waiting_requests=4.0)

    decision = decided(seen, spec)

    assert lens(decision, "concurrency").replicas == 4


def test_a_known_capacity_keeps_a_queue_of_small_requests_from_asking_for_many() -> None:
    spec = replace(SPEC, targets=LensTargets(tokens_per_s=5000.0))
    seen = fleet([signals(NOW_S, waiting_requests=20.0)] * 2)

    decision = decided(seen, spec)

    assert lens(decision, "queue").replicas == 2
    assert lens(decision, "queue").note == "20 by requests; 2 clear the queue within 30 s"


def test_a_burst_shows_its_rate_before_its_backlog() -> None:
    spec = replace(SPEC, targets=LensTargets(tokens_per_s=5000.0))
    _, memory = decide(fleet([signals(NOW_S - 4)] * 2), spec, Memory.start(2, NOW_S - 5), now_s=NOW_S - 4)

    burst, _ = decide(fleet([signals(NOW_S, waiting_requests=20.0)] * 2), spec, memory, now_s=NOW_S)

    assert lens(burst, "queue").replicas == 4  # (8,000 served + 1,333 to drain + 10,000 growing) ÷ 5,000


def test_a_broken_series_asks_for_no_more_than_a_cluster_has() -> None:
    decision = decided(fleet([signals(NOW_S, waiting_requests=1e300, kv_cache_usage_ratio=1e300)]))

    assert decision.steps[0].replicas == 100_000
    assert decision.replicas <= 20


def test_no_lens_at_all_holds() -> None:
    nothing = LensTargets(queue_requests=None, kv_cache_usage_ratio=None, use_learned_capacity=False)
    spec = replace(SPEC, targets=nothing, objectives=Objectives(ttft_s=None))

    decision = decided(fleet([signals(NOW_S)] * 3), spec)

    assert (decision.replicas, decision.reason) == (3, Reason.NO_FRESH_DATA)


def test_an_empty_queue_alone_never_shrinks() -> None:
    targets = LensTargets(kv_cache_usage_ratio=None, use_learned_capacity=False)
    spec = replace(SPEC, targets=targets, scale_down=replace(SPEC.scale_down, stabilization_window_s=0.0))

    decision = decided(fleet([signals(NOW_S)] * 3), spec)

    assert decision.replicas == 3
    assert decision.steps[1].detail == "no lens that is read says how few would do"


def test_an_upstream_that_fell_silent_vetoes_and_is_named() -> None:
    spec = replace(SPEC, scale_down=replace(SPEC.scale_down, stabilization_window_s=0.0))
    seen = fleet(
        [signals(NOW_S, kv_cache_usage_ratio=0.1)] * 3,
        upstream_waiting_requests=0.0,
        upstream_observed_at_s=NOW_S - 31,
    )

    decision = decided(seen, spec)

    assert (decision.replicas, decision.reason) == (3, Reason.UPSTREAM_UNKNOWN)
    assert decision.steps[-1].detail == "its last answer is too old"
