"""Traffic whose gaps vary more than those of a Poisson process: as much as asked for, at the rates of the figures."""

from pathlib import Path

import numpy as np
import pytest

from simulations.errors import ScenarioError
from simulations.scenarios import load_scenario
from simulations.scenarios.config import parse_scenario
from simulations.scenarios.draw import Generated
from simulations.traces import Chunk, joined
from simulations.traffic import RateFigures, load_figures

HOUR_S = 3600.0


def traffic_of(burstiness: float, *per_hour: int) -> Generated:
    rates = RateFigures(source="a/b", licence="MIT", bin_s=HOUR_S, arrivals_per_bin=per_hour)
    mean_per_s = sum(per_hour) / len(per_hour) / HOUR_S
    lengths = load_figures("azure_2023_conversation")
    return Generated(rates=rates, lengths=lengths, requests_per_s=mean_per_s, burstiness=burstiness)


def drawn(traffic: Generated, seed: int = 1) -> Chunk:
    return joined(list(traffic.chunks(seed)))


@pytest.mark.parametrize("burstiness", [0.1, 0.25, 0.5, 1.0, 4.0])
def test_gaps_vary_as_those_of_a_gamma_distribution_of_that_shape(burstiness: float) -> None:
    found = drawn(traffic_of(burstiness, 40_000, 40_000))

    gaps_s = np.diff(found.at_s)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(burstiness**-0.5, rel=0.03)
    assert len(found) == pytest.approx(80_000, rel=0.03)
    assert (gaps_s >= 0).all()


@pytest.mark.parametrize("burstiness", [0.25, 0.5])
def test_hours_keep_their_share_of_the_requests_and_empty_ones_stay_empty(burstiness: float) -> None:
    found = drawn(traffic_of(burstiness, 8_000, 0, 32_000))

    per_hour = np.bincount((found.at_s // HOUR_S).astype(np.int64), minlength=3)
    assert per_hour[1] == 0
    assert per_hour[2] / per_hour[0] == pytest.approx(4.0, rel=0.1)


def test_bursts_are_a_course_of_their_seed() -> None:
    traffic = traffic_of(0.5, 4_000)

    assert drawn(traffic, 3).at_s.tobytes() == drawn(traffic, 3).at_s.tobytes()
    assert drawn(traffic, 3).at_s.tobytes() != drawn(traffic, 4).at_s.tobytes()


def test_the_office_day_sleeps_and_has_lunch() -> None:
    traffic = load_scenario("office-day").traffic
    assert isinstance(traffic, Generated)
    hours = np.bincount((drawn(traffic).at_s // HOUR_S).astype(np.int64), minlength=24)

    assert hours[10] > 20 * hours[5]
    assert hours[12] < 0.7 * min(hours[10], hours[15])
    assert traffic.burstiness == 0.5


@pytest.mark.parametrize(
    ("traffic", "message"),
    [
        ("rates: azure_2023_code, burstiness: 0", "traffic.burstiness: Input should be greater than or equal to 0.05"),
        ("trace: some.csv, burstiness: 0.5", "traffic.burstiness goes with rates, not with a trace"),
    ],
    ids=["none", "of a trace"],
)
def test_what_cannot_be_is_said_by_name(traffic: str, message: str) -> None:
    text = f"traffic: {{{traffic}}}\nmachine: {{profile: llama-3.1-8b-l40s}}\nreplicas: {{max: 8}}\n"

    with pytest.raises(ScenarioError, match=message):
        parse_scenario(text, "test", Path())
