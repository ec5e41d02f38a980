"""The forecast: bins, scores against no change, the daily profile, and when it stays silent."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy.decide import decide
from autoscaler.policy.examples import Load, Service, fleet, signals
from autoscaler.policy.forecast import (
    MATURED_MIN,
    SEASON,
    TREND,
    ForecastRecord,
    OpenBin,
    backfill,
    bin_length_s,
    feed,
    is_fit_for,
    open_bin,
)
from autoscaler.policy.lead_time import prior
from autoscaler.policy.memory import Memory
from autoscaler.policy.residuals import quantile_ratio, residual, with_residual
from autoscaler.policy.season import DAY_S, EMPTY_PROFILE, SLOT_S, seasonal_difference, with_demand
from autoscaler.policy.spec import ForecastSpec, LensTargets, PolicySpec
from autoscaler.policy.types import Observation, Reason

DAYS = 2


def daily(at_s: float) -> float:
    """A working day: quiet at night, a steep morning."""
    return 5000.0 + 4500.0 * math.sin(2 * math.pi * at_s / DAY_S) ** 3


def fed(demand: list[float | None], *, period_s: float, horizon_s: float) -> ForecastRecord:
    record = ForecastRecord(bin_s=bin_length_s(horizon_s))
    bin_ = open_bin(record.bin_s, 0.0)
    for index, value in enumerate(demand):
        record, bin_ = feed(record, bin_, value, horizon_s, index * period_s)
    return record


@pytest.mark.parametrize(("horizon_s", "bin_s"), [(0.5, 1.0), (6.0, 1.0), (60.0, 10.0), (360.0, 60.0), (7200.0, 60.0)])
def test_bins_are_a_sixth_of_the_horizon_within_limits(horizon_s: float, bin_s: float) -> None:
    assert bin_length_s(horizon_s) == bin_s


def test_a_steady_ramp_is_foreseen_and_beats_no_change() -> None:
    record = fed([100.0 + 10 * index for index in range(100)], period_s=10.0, horizon_s=60.0)

    assert record.outlook is not None
    assert record.outlook.method == TREND
    assert record.outlook.skill_ratio < 0.7
    assert record.outlook.p50_tokens_per_s > record.outlook.now_tokens_per_s
    assert record.outlook.p90_tokens_per_s >= record.outlook.p50_tokens_per_s


def test_noise_around_a_level_is_not_foreseen_and_says_why() -> None:
    jumps = [1000.0 + 400.0 * ((index * 7919) % 13 - 6) / 6 for index in range(300)]

    record = fed(list(jumps), period_s=10.0, horizon_s=60.0)

    assert record.outlook is None
    assert record.trend.skill_ratio is not None
    assert record.trend.skill_ratio > 1.0
    assert "times the error of guessing no change" in record.note


def test_a_demand_that_never_changes_leaves_nothing_to_foresee() -> None:
    record = fed([100.0] * 100, period_s=10.0, horizon_s=60.0)

    assert (record.outlook, record.note) == (None, "demand has not changed yet")


def test_until_enough_forecasts_came_due_there_is_none() -> None:
    record = fed([100.0 + 10 * index for index in range(MATURED_MIN)], period_s=10.0, horizon_s=60.0)

    assert record.outlook is None
    assert record.note == "18 of 30 forecasts have come due"


def test_yesterday_teaches_the_morning_ramp() -> None:
    horizon_s = 600.0
    history = tuple((60.0 * minute, daily(60.0 * minute)) for minute in range(int(1.6 * DAY_S / 60)))

    record, _ = backfill(history, horizon_s, history[-1][0])

    assert record.season.skill_ratio is not None
    assert record.season.skill_ratio < 0.5
    assert record.outlook is not None
    assert record.outlook.method == SEASON
    expected = daily(history[-1][0] + horizon_s)
    assert record.outlook.p50_tokens_per_s == pytest.approx(expected, rel=0.15)


def test_coarse_history_teaches_the_profile_only() -> None:
    history = tuple((300.0 * index, daily(300.0 * index)) for index in range(576))

    record, _ = backfill(history, 12.0, history[-1][0])

    assert (record.bins, record.season.matured) == (0, 0)
    assert seasonal_difference(record.profile, 0.0, 3600.0) == pytest.approx(daily(3600.0) - daily(0.0), abs=300)


@pytest.mark.parametrize("points", [0, 1])
def test_hardly_any_history_is_no_history(points: int) -> None:
    record, bin_ = backfill(((5.0, 1.0),) * points, 60.0, 10.0)

    assert (record.is_backfilled, record.bins, bin_.fed_at_s) == (True, 0, 10.0)


def test_history_is_taken_in_once() -> None:
    policy = PolicySpec(forecast=ForecastSpec(horizon_s=360.0))
    history = tuple((60.0 * minute, 1000.0) for minute in range(100))
    seen = Observation(service="prod/llama", replicas=1, history=history)

    _, memory = decide(seen, policy, Memory.start(1, 6000.0), now_s=6000.0)
    _, later = decide(seen, policy, memory, now_s=6001.0)

    assert memory.forecast is not None
    assert memory.forecast.bins == 100
    assert later.forecast is memory.forecast


def test_a_gap_makes_the_past_bins_unknown_but_keeps_what_was_learned() -> None:
    record = fed([100.0 + 10 * index for index in range(100)], period_s=10.0, horizon_s=60.0)

    later, bin_ = feed(record, OpenBin(index=99, fed_at_s=990.0, demand_tokens_per_s=5.0), 5.0, 60.0, 5000.0)

    assert (later.closed, later.promises, later.outlook) == ((), (), None)
    assert later.trend.matured == record.trend.matured
    assert bin_.index == 500


def test_a_clock_that_went_back_starts_the_bin_anew() -> None:
    record = fed([100.0] * 20, period_s=10.0, horizon_s=60.0)

    _, bin_ = feed(record, OpenBin(index=20, fed_at_s=200.0, demand_tokens_per_s=5.0), 5.0, 60.0, 50.0)

    assert (bin_.index, bin_.covered_s) == (5, 0.0)


def test_bins_without_demand_are_unknown_not_small() -> None:
    record = fed([100.0] * 50 + [None] * 20, period_s=10.0, horizon_s=60.0)

    assert record.closed[-1] is None
    assert record.outlook is None
    assert record.note == "demand cannot be seen"
    assert record.mean_tokens_per_s == pytest.approx(100.0)


def test_waking_twice_as_often_fills_the_same_bins() -> None:
    def level(at_s: float) -> float:
        return 100.0 + (at_s // 4) * 4

    once = fed([level(4.0 * index) for index in range(100)], period_s=4.0, horizon_s=60.0)
    twice = fed([level(2.0 * index) for index in range(200)], period_s=2.0, horizon_s=60.0)

    assert twice.closed == pytest.approx(once.closed)
    assert twice.trend.error == pytest.approx(once.trend.error)


def test_bins_are_kept_while_the_horizon_moves_a_little() -> None:
    record = ForecastRecord(bin_s=30.0)

    assert is_fit_for(record, 180.0)
    assert is_fit_for(record, 240.0)
    assert not is_fit_for(record, 60.0)


@pytest.mark.parametrize("capacity", [None, 2500.0], ids=["capacity unknown", "capacity known"])
def test_a_foreseen_ramp_raises_the_fleet_before_the_load_is_there(capacity: float | None) -> None:
    targets = LensTargets(tokens_per_s=capacity, use_learned_capacity=False)
    spec = PolicySpec(replicas_max=20, targets=targets, forecast=ForecastSpec(horizon_s=60.0))
    service = Service(policy=spec, replicas=2)
    reactive = Service(policy=replace(spec, forecast=ForecastSpec(enabled=False)), replicas=2)
    for step in range(180):
        load = Load(kv_cache_usage=0.8 + 0.04 * step, tokens_per_s=2500 * (1 + 0.05 * step))
        service.load = reactive.load = load
        service.run(10)
        reactive.run(10)

    raised = [d for d in service.decisions if d.reason is Reason.FORECAST_RAISED]
    assert raised
    assert all(s.replicas >= r.replicas for s, r in zip(service.decisions, reactive.decisions, strict=True))
    assert raised[0].forecast is not None
    assert raised[0].forecast.active


def test_a_forecast_that_is_off_is_visible() -> None:
    service = Service(policy=PolicySpec(), replicas=1)

    [decision] = service.run(2)

    assert Reason.FORECAST_OFF in {step.reason for step in decision.steps}
    assert decision.forecast is not None
    assert (decision.forecast.active, decision.forecast.note) == (False, "no history yet")


def test_a_ramp_of_yesterday_vetoes_the_scale_in_before_it() -> None:
    spec = PolicySpec(
        replicas_max=20,
        targets=LensTargets(tokens_per_s=1000.0),
        forecast=ForecastSpec(horizon_s=3600.0),
    )
    start_s = 100 * DAY_S + 0.03 * DAY_S
    history = tuple((at, daily(at)) for at in (start_s - 1.5 * DAY_S + 60.0 * minute for minute in range(2160)))
    service = Service(policy=spec, replicas=12, now_s=start_s)
    service.seen_changes = {"history": history}
    service.load = Load(tokens_per_s=daily(start_s), kv_cache_usage=0.1)
    service.period_s = 10.0
    for _ in range(100):
        service.load = Load(tokens_per_s=daily(service.now_s), kv_cache_usage=0.1)
        service.run(60)

    assert Reason.FORECAST_HELD in service.reasons


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_quantiles_of_the_error_are_ordered_and_never_negative(forecast: float, mean: float) -> None:
    residuals = with_residual(with_residual((), residual(10.0, 5.0, mean)), residual(1.0, 5.0, mean))

    low, high = (quantile_ratio(residuals, q, forecast, mean) for q in (0.5, 0.9))

    assert 0 <= low <= high


def test_the_error_of_a_service_widens_or_narrows_its_forecast() -> None:
    good: tuple[float, ...] = ()
    bad: tuple[float, ...] = ()
    for index in range(200):
        good = with_residual(good, 0.02 if index % 2 else -0.02)
        bad = with_residual(bad, 0.8 if index % 2 else -0.8)

    assert quantile_ratio(good, 0.9, 100.0, 100.0) < quantile_ratio((), 0.9, 100.0, 100.0)
    assert quantile_ratio(bad, 0.9, 100.0, 100.0) > 180.0


def test_the_profile_forgets_older_days_slowly_and_knows_what_it_never_saw() -> None:
    profile = EMPTY_PROFILE
    for day in range(DAYS):
        for slot in range(12):
            profile = with_demand(profile, 100.0 * (day + 1), day * DAY_S + slot * SLOT_S, SLOT_S)

    assert profile.means_tokens_per_s[3] == pytest.approx(140.0)
    assert seasonal_difference(replace(profile, watched_s=2 * DAY_S), 0.0, 6 * 3600.0) is None


@pytest.mark.parametrize(
    ("low", "least", "most"), [(500.0, 900.0, 1300.0), (1000.0, 950.0, 1100.0)], ids=["it halves and doubles", "steady"]
)
def test_what_demand_likely_stays_below_follows_how_it_has_changed(low: float, least: float, most: float) -> None:
    horizon_s = 60.0
    record, bin_ = ForecastRecord(bin_s=bin_length_s(horizon_s)), open_bin(bin_length_s(horizon_s), 0.0)
    for second in range(0, 5940, 2):
        demand = 1000.0 if second // 60 % 2 else low
        record, bin_ = feed(record, bin_, demand, horizon_s, float(second))

    assert record.likely_tokens_per_s is not None
    assert least <= record.likely_tokens_per_s <= most


@pytest.mark.parametrize(
    ("likely_tokens_per_s", "replicas"),
    [(15_000.0, 4), (11_000.0, 3), (90_000.0, 4)],
    ids=["all are needed", "one may go", "never more than there are"],
)
def test_what_may_come_vetoes_a_scale_in_and_orders_nothing(likely_tokens_per_s: float, replicas: int) -> None:
    now_s = 1_000_000.0
    spec = PolicySpec(replicas_max=20, targets=LensTargets(tokens_per_s=4000.0, kv_cache_usage_ratio=None))
    bin_s = bin_length_s(prior(spec.lead_time_prior_s).p80_s)
    record = ForecastRecord(bin_s=bin_s, likely_tokens_per_s=likely_tokens_per_s)
    memory = replace(Memory.start(4, now_s - 1), forecast=record, open_bin=open_bin(bin_s, now_s))
    quiet = signals(now_s, prompt_tokens_per_s=1200.0, generation_tokens_per_s=300.0)

    decision, _ = decide(fleet([quiet] * 4), spec, memory, now_s=now_s)

    step = next(step for step in decision.steps if step.reason is Reason.FORECAST_HELD)
    assert step.replicas == replicas
    assert decision.forecast is not None
    assert not decision.forecast.active
