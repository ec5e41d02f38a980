"""What a replica can do: when it is full, which windows teach it, and what is made of them."""

from dataclasses import replace
from typing import Any

import pytest

from autoscaler.policy.capacity import BATCH, COMPUTE, KV, UNKNOWN, CapacityRecord, estimate, learn_capacity, saturation
from autoscaler.policy.examples import fleet, latencies, ready, signals
from autoscaler.policy.signals import waiting_requests
from autoscaler.policy.spec import ForecastSpec, LensTargets, Objectives, PolicySpec
from autoscaler.policy.supply import take_stock
from autoscaler.policy.types import Observation
from metrics.sample import Histogram

NOW_S = 1_000_000.0
SPEC = PolicySpec(
    replicas_max=20, targets=LensTargets(use_learned_capacity=False), forecast=ForecastSpec(enabled=False)
)


@pytest.mark.parametrize(
    ("changes", "regime"),
    [
        ({"kv_cache_usage_ratio": 0.89}, None),
        ({"kv_cache_usage_ratio": 0.90}, KV),
        ({"waiting_requests": 1.9}, None),
        ({"waiting_requests": 2.0}, BATCH),
        ({"itl_s": latencies(requests=100, mean_s=0.04)}, None),
        ({"itl_s": latencies(requests=100, mean_s=0.06)}, COMPUTE),
    ],
)
def test_what_saturates_a_replica_is_named(changes: dict[str, float | Histogram | None], regime: str | None) -> None:
    spec = replace(SPEC, objectives=Objectives(itl_s=0.05))
    sample = signals(NOW_S, **changes)

    assert saturation(sample, waiting_requests(sample), spec) == regime


WAITED = latencies(requests=100.0, mean_s=0.6)  # over 30 s: two requests at a time wait for their first token


def saturated(at_s: float, tokens: float, **changes: float) -> Observation:
    work = {"prompt_tokens_per_s": tokens, "generation_tokens_per_s": 0.0, **changes}
    return fleet([signals(at_s, waiting_requests=5.0, ttft_s=WAITED, **work)])


def learned(observations: list[Observation]) -> CapacityRecord:
    record = CapacityRecord()
    for seen in observations:
        newest_s = max(pod.signals.observed_at_s for pod in seen.pods if pod.signals)
        record = learn_capacity(record, take_stock(seen, SPEC, (), newest_s, now_s=newest_s), SPEC)
    return record


def test_capacity_is_learned_from_whole_windows_that_do_not_overlap() -> None:
    record = learned([saturated(NOW_S + at_s, 900.0 + at_s) for at_s in range(0, 91, 10)])

    assert record.windows == 3
    assert record.samples_tokens_per_s == (930.0, 960.0, 990.0)
    assert record.learned.tokens_per_s == 930.0


def test_looking_again_at_the_same_sample_teaches_nothing() -> None:
    observations = [saturated(NOW_S + at_s, 900.0) for at_s in range(0, 91, 10)]

    assert learned(observations + [observations[-1]] * 5) == learned(observations)


def test_a_replica_that_was_calm_in_between_starts_its_window_anew() -> None:
    calm = fleet([signals(NOW_S + 20)])

    record = learned([saturated(NOW_S, 900.0), calm, saturated(NOW_S + 31, 900.0), saturated(NOW_S + 60, 900.0)])

    assert record.windows == 0


@pytest.mark.parametrize(
    ("since_s", "changes", "windows"),
    [
        (-1000.0, {}, 1),
        (-1000.0, {"ttft_s": latencies(requests=100.0, mean_s=0.59)}, 0),
        (-1000.0, {"ttft_s": None}, 1),
        (-1000.0, {"ttft_s": None, "finished_requests_per_s": 0.0}, 0),
        (5.0, {"finished_requests_per_s": 0.8, "running_requests": 20.0}, 1),
        (5.1, {"finished_requests_per_s": 0.8, "running_requests": 20.0}, 0),
        (5.1, {"finished_requests_per_s": 0.8, "running_requests": None}, 1),
        (-1000.0, {"ttft_s": latencies(requests=9.0, mean_s=0.1), "kv_cache_usage_ratio": 0.9}, 1),
    ],
    ids=[
        "requests waited all along",
        "moments only",
        "no latencies to tell by",
        "nothing was finished",
        "served for as long as a request stays",
        "just joined",
        "nobody knows how long one stays",
        "a full cache is no moment",
    ],
)
def test_a_window_teaches_where_it_shows_lasting_work(since_s: float, changes: dict[str, Any], windows: int) -> None:
    def seen(at_s: float) -> Observation:
        sample = signals(NOW_S + at_s, **{"waiting_requests": 2.0, "ttft_s": WAITED, **changes})
        return replace(fleet([]), replicas=1, pods=(ready("pod", sample, since_s=NOW_S + since_s),))

    assert learned([seen(0.0), seen(30.0)]).windows == windows


def test_the_most_that_was_served_fades_with_the_hours() -> None:
    first = learned([fleet([signals(NOW_S, prompt_tokens_per_s=9000.0)])])
    soon = take_stock(fleet([signals(NOW_S + 60)]), SPEC, (), NOW_S, now_s=NOW_S + 60)
    late = take_stock(fleet([signals(NOW_S + 7200)]), SPEC, (), NOW_S, now_s=NOW_S + 7200)

    assert first.learned.demonstrated_tokens_per_s == 10_000.0
    assert learn_capacity(first, soon, SPEC).learned.demonstrated_tokens_per_s == 10_000.0
    assert learn_capacity(first, late, SPEC).learned.demonstrated_tokens_per_s == 4000.0


def test_a_burst_of_prompts_on_a_replica_that_has_just_joined_shows_no_capacity() -> None:
    joined = learned([fleet([signals(NOW_S, prompt_tokens_per_s=9000.0, window_s=5.0)])])
    settled = learned([fleet([signals(NOW_S, prompt_tokens_per_s=9000.0, window_s=20.0)])])

    assert joined.learned.demonstrated_tokens_per_s is None
    assert settled.learned.demonstrated_tokens_per_s == 10_000.0


def test_replicas_that_serve_nothing_demonstrate_nothing() -> None:
    record = learned([fleet([signals(NOW_S, prompt_tokens_per_s=0.0, generation_tokens_per_s=0.0)])])

    assert record.learned.demonstrated_tokens_per_s is None


@pytest.mark.parametrize(("windows", "tokens"), [(2, None), (3, 1.0), (8, 3.0)])
def test_capacity_is_a_cautious_quantile_of_enough_windows(windows: int, tokens: float | None) -> None:
    samples = tuple(float(index + 1) for index in range(windows))

    assert estimate(samples, windows, UNKNOWN, None).tokens_per_s == tokens
