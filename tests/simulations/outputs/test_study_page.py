"""The page of a comparison over seeds: intervals where there are any, curves where they were asked for."""

import math
import re

import pytest

from simulations.outputs.scatter import Point, scatter
from simulations.outputs.study import render_study
from simulations.study import Comparison, CostCurve, Paired


def line(
    policy: str, reached: float, cost: float, *, scenario: str = "hour", service: str = "", seeds: int = 3
) -> Comparison:
    """Half a hundredth up and down, where there is more than one seed."""

    def of(mean: float, highest: float = math.inf) -> Paired:
        if seeds == 1:
            return Paired(mean=mean, low=-math.inf, high=math.inf, seeds=1)
        return Paired(mean=mean, low=mean - 0.005, high=min(highest, mean + 0.005), seeds=seeds)

    return Comparison(
        scenario=scenario,
        service=service,
        policy=policy,
        attainment_ratio=of(reached, 1.0),
        cost_ratio=of(cost),
        ttft_p95_s=0.5,
        gpu_hours=of(10 * cost),
        starts=of(7.0),
        requests=None,
        prefix_hit_ratio=None,
        lost_requests=None,
        waited_hours=None,
        nodes_cost=None,
        prefill_gpu_hours=None,
        decode_gpu_hours=None,
        tpot_p95_s=None,
        curve=CostCurve(points=((reached - 0.02, cost - 0.2), (reached, cost))),
    )


LINES = [line("static", 0.999, 1.0), line("warmtide", 0.998, 0.8), line("kpa", 0.9, 0.7)]


def test_it_says_first_what_is_known_and_how_well() -> None:
    text = render_study(LINES, None)

    assert "hour: 3 seeds" in text
    assert (
        "<b>warmtide</b> brought 99.80% [99.30%, 100.00%] of the first tokens in time for 0.80 [0.80, 0.81] ×" in text
    )
    assert text.count('class="interval') == 2 * len(LINES)
    assert "curve" not in text.split("</style>")[1]
    assert text == render_study(LINES, None)


def test_where_curves_were_asked_for_costs_are_compared_at_one_attainment() -> None:
    text = render_study(LINES, 0.99)

    assert text.count('class="curve') == len(LINES)
    assert "× fixed at 99%" in text
    assert "not reached" in text  # by kpa
    assert f"<td>{LINES[1].curve.at(0.99):.2f}</td>" in text


def test_one_seed_has_no_interval() -> None:
    text = render_study([line("static", 0.99, 1.0, seeds=1), line("kpa", 0.9, 0.7, seeds=1)], None)

    assert "hour: 1 seed," in text
    assert "interval" not in text.split("</style>")[1]
    assert "inf" not in text.split("</style>")[1]


def test_each_scenario_and_service_has_its_part() -> None:
    lines = [
        line(policy, 0.99, 1.0, scenario=scenario, service=service)
        for scenario in ("hour", "day")
        for policy in ("static", "kpa")  # each with all services at once, as they come from a run
        for service in ("chat", "code", "")
    ]

    text = render_study(lines, None)

    said = re.findall(r"<section><h1>(.*?)</h1>", text)
    assert said == [
        f"{scenario}, {service}" for scenario in ("hour", "day") for service in ("chat", "code", "all services")
    ]


def test_nothing_leaves_the_page_whatever_a_name_holds() -> None:
    hostile = '<script>alert(1)</script>"><img src=//elsewhere>'

    text = render_study([line(hostile, 0.99, 1.0, scenario=hostile), line("kpa", 0.9, 0.7, scenario=hostile)], 0.99)

    assert "<script" not in text
    assert "<img" not in text


@pytest.mark.parametrize("costs", [(1.0, 1.0), (0.0, 5.0)], ids=["all cost the same", "far apart"])
def test_whatever_there_is_to_draw_stays_within_the_box(costs: tuple[float, float]) -> None:
    points = [
        Point(
            number=number,
            policy="p",
            cost=cost,
            attainment_ratio=reached,
            ends=(((-9.0, reached), (99.0, reached)), ((cost, -1.0), (cost, 1.0))),
        )
        for number, (cost, reached) in enumerate(zip(costs, (1.0, 0.0), strict=True), start=1)
    ]

    text = scatter(points, "cost", ".1f")

    places = [float(found) for pair in re.findall(r'points="(.*?)"', text) for found in re.split("[ ,]", pair)]
    places += [float(found) for found in re.findall(r"(?:left|bottom):(.*?)%", text)]
    assert places
    assert all(0.0 <= place <= 100.0 for place in places)
