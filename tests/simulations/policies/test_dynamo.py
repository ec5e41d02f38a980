"""Dynamo's two loops, its ARIMA's stand-in and the profile behind them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy.types import Observation
from simulations.policies import Bounds, Site
from simulations.policies.arima import next_value
from simulations.policies.capacity import profile
from simulations.policies.dynamo import DynamoLoad, DynamoThroughput, load_replicas
from simulations.replica import EngineConfig, StepTimes

Saw = Callable[..., Observation]
BOUNDS = Bounds(low=1, high=50)


@pytest.mark.parametrize(
    ("ratios", "replicas"),
    [([0.5, 1.01], 3), ([0.59, 0.3], 1), ([0.59, 0.6], 2), ([1.0, 0.2], 2), ([], 2)],
    ids=["any over", "all under", "one not under", "at the border", "none known"],
)
def test_load_moves_by_one(ratios: list[float], replicas: int) -> None:
    assert load_replicas(ratios, 2) == replicas


def test_one_worker_is_never_taken_away_by_load() -> None:
    assert load_replicas([0.0], 1) == 1


def test_load_counts_prompts_that_wait_and_holds_while_a_worker_starts(saw: Saw, site: Site) -> None:
    policy = DynamoLoad(bounds=BOUNDS, site=site)
    rates = {"prompt_tokens_per_s": 1000.0, "generation_tokens_per_s": 10.0, "finished_requests_per_s": 1.0}
    full = {"kv_cache_usage_ratio": 0.9, "waiting_requests": 46.0, **rates}  # 46,000 of 451,712 tokens: 1.002

    wish = policy.wish(saw(full), 0.0)

    assert wish is not None
    assert wish.replicas == 2
    assert policy.wish(saw(full, starting=1), 5.0) is None


def test_throughput_predicts_at_the_end_of_each_interval_of_180_s(saw: Saw, site: Site) -> None:
    policy = DynamoThroughput(bounds=BOUNDS, site=site, ttft_s=2.0)
    lengths = {"prompt_tokens_per_s": 20_000.0, "generation_tokens_per_s": 4000.0, "finished_requests_per_s": 20.0}
    seen = saw({**lengths, "running_requests": 30.0, "waiting_requests": 0.0})

    wishes = [policy.wish(seen, 60.0 * look) for look in range(6)]

    assert [wish is not None for wish in wishes] == [False, False, True, False, False, True]
    each = profile(site, (1000.0, 200.0), ttft_s=2.0, itl_s=0.05).requests_per_s
    assert wishes[5] is not None
    assert wishes[5].replicas == -int(-20.0 // each)


def test_a_profile_by_hand() -> None:
    # Steps of 10 ms plus 1 ms per decoding request: 40 of them keep 50 ms.
    times = StepTimes(base_s=0.010, prefill_token_s=0.0, decode_sequence_s=0.001, kv_token_s=0.0)
    plain = Site(config=EngineConfig(), times=times)

    found = profile(plain, (100.0, 50.0), ttft_s=2.0, itl_s=0.050)

    assert found.concurrency == 40
    assert found.requests_per_s == pytest.approx(40 / (50 * 0.050))
    seats = replace(plain, config=EngineConfig(max_num_seqs=8))
    assert profile(seats, (100.0, 50.0), ttft_s=2.0, itl_s=0.050).concurrency == 8
    assert profile(plain, (100.0, 50.0), ttft_s=2.0, itl_s=0.001).concurrency == 1  # nothing keeps it: one at a time


@pytest.mark.parametrize(
    ("past", "value"),
    [([], 0.0), ([7.0], 7.0), ([1.0, 2.0, 3.0, 4.0], 4.0), ([5.0] * 20, 5.0)],
    ids=["nothing", "one", "too few", "constant"],
)
def test_little_history_gives_the_last_value(past: list[float], value: float) -> None:
    assert next_value(past) == value


def test_a_line_is_continued_and_an_oscillation_too() -> None:
    assert next_value([10.0 + 2 * n for n in range(20)]) == pytest.approx(50.0, rel=0.01)
    assert next_value([10.0 + 5 * (-1) ** n for n in range(21)]) == pytest.approx(5.0, abs=0.5)


def test_on_an_autoregressive_series_it_beats_the_last_value() -> None:
    rng = np.random.default_rng(1)
    series = [100.0]
    for _ in range(300):
        series.append(100.0 + 0.5 * (series[-1] - 100.0) + rng.normal(0, 5))

    ours = sum(abs(next_value(series[:n]) - series[n]) for n in range(100, 300))
    naive = sum(abs(series[n - 1] - series[n]) for n in range(100, 300))

    assert ours < 0.92 * naive


@given(st.lists(st.floats(0, 1e6), max_size=40))
def test_a_forecast_is_finite_and_never_negative(past: list[float]) -> None:
    assert 0.0 <= next_value(past) < float("inf")
