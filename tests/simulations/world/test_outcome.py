"""What an outcome tells besides its figures: requests, the course over time, every change with its reason."""

from dataclasses import replace

import numpy as np
import pytest

from autoscaler.policy.types import Reason
from simulations.policies import build
from simulations.policies.static import Static
from simulations.world import Outcome, Setting, simulate
from simulations.world.examples import FEW_BLOCKS, small_world, varied
from simulations.world.starts.startup import StartupTimes


def setting(per_s: float = 25.0, span_s: float = 400.0) -> Setting:
    startup = StartupTimes(cold_s=60.0, warm_s=30.0, log_deviation=0.0)
    return small_world(varied(per_s, span_s), startup, high=4, config=FEW_BLOCKS)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    shared = setting()
    return simulate(shared, build("warmtide", shared.bounds, ttft_s=2.0, lead_time_s=60.0))


def test_every_request_is_there_with_its_times(outcome: Outcome) -> None:
    ttft_s = outcome.requests["first_token_at_s"] - outcome.requests["arrived_at_s"]

    assert len(outcome.requests) == len(setting().requests)
    assert (ttft_s <= 2.0).mean() == outcome.attainment_ratio


def test_the_series_runs_from_start_to_end_and_counts_every_request_once(outcome: Outcome) -> None:
    series = outcome.series

    assert series["at_s"][0] == 0.0
    assert series["at_s"][-1] == pytest.approx(400.0, abs=1e-9)
    assert np.diff(series["at_s"]) == pytest.approx(series["at_s"][1], abs=1e-9)
    assert series["arrived_requests"].sum() == len(outcome.requests)
    tokens = outcome.requests["prompt_tokens"].sum() + outcome.requests["output_tokens"].sum()
    assert series["arrived_tokens"].sum() == tokens
    assert series["missed_requests"].sum() == round((1 - outcome.attainment_ratio) * len(outcome.requests))


def test_the_series_shows_a_replica_start_and_become_ready(outcome: Outcome) -> None:
    at_s, starting = outcome.series["at_s"], outcome.series["starting_cold"]
    first = outcome.decisions[0]

    assert starting[at_s < first.at_s].max() == 0
    assert starting[(at_s > first.at_s + 1) & (at_s < first.at_s + 59)].min() >= first.after - first.before
    assert outcome.series["ready"].max() > 1
    assert outcome.series["waiting_requests"].max() > 0


def test_each_change_of_warmtides_number_says_which_lens_and_every_step(outcome: Outcome) -> None:
    first = outcome.decisions[0]

    assert first.before == 1
    assert first.after == first.steps[-1].replicas
    assert first.reason in Reason
    assert first.lens
    assert outcome.changes[0] == (0.0, 1)
    assert outcome.changes[1] == (first.at_s, first.after)


def test_a_static_fleet_has_a_course_without_changes() -> None:
    outcome = simulate(replace(setting(span_s=100.0), replicas_at_start=2), Static(2))

    assert outcome.decisions == ()
    assert set(outcome.series["wanted"]) == set(outcome.series["ready"]) == {2}
