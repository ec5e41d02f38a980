"""Statements from many runs: intervals over seeds, and costs where attainment is the same."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from simulations.study import Figures, Key, compared, cost_at, paired


def figures(policy: str, seed: int, hours: float, attainment: float, eagerness: float = 1.0) -> Figures:
    key = Key(scenario="one", seed=seed, policy=policy, eagerness_ratio=eagerness)
    return Figures(key=key, attainment_ratio=attainment, ttft_p95_s=1.0, gpu_hours=hours, starts=0)


def test_the_interval_is_students() -> None:
    values = [1.1, 1.3, 0.9, 1.2]

    found = paired(values)

    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.text() == f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def test_one_seed_has_no_interval() -> None:
    assert paired([1.5]).text() == "1.50"
    assert paired([1.5]).high == math.inf


def test_what_differs_between_seeds_drops_out_of_the_cost() -> None:
    found = [figures("static", seed, 10.0 * seed, 0.99) for seed in (1, 2, 3)]
    found += [figures("ours", seed, 8.0 * seed, 0.99) for seed in (1, 2, 3)]

    [static, ours] = compared(found, "static")

    assert (static.cost_ratio.low, static.cost_ratio.high) == pytest.approx((1.0, 1.0))
    assert (ours.cost_ratio.low, ours.cost_ratio.high) == pytest.approx((0.8, 0.8))


CURVE = [(0.90, 0.5), (0.99, 0.8), (0.999, 1.2)]


@pytest.mark.parametrize(
    ("attainment", "cost"),
    [
        pytest.param(0.99, 0.8, id="a point"),
        pytest.param(0.90, 0.5, id="the cheapest point"),
        pytest.param(0.5, 0.5, id="below all: nothing is cheaper than the cheapest"),
        pytest.param(1 - 10**-2.5, 1.0, id="halfway in the logarithm of what is late"),
        pytest.param(0.9999, math.inf, id="never reached"),
    ],
)
def test_cost_at_an_attainment(attainment: float, cost: float) -> None:
    assert cost_at(CURVE, attainment) == pytest.approx(cost)


def test_a_dearer_and_worse_point_changes_nothing() -> None:
    assert cost_at([*CURVE, (0.95, 3.0)], 0.99) == cost_at(CURVE, 0.99)


@given(
    points=st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.1, 10.0)), min_size=1, max_size=8),
    low=st.floats(0.0, 1.0),
    high=st.floats(0.0, 1.0),
)
def test_more_attainment_never_costs_less(points: list[tuple[float, float]], low: float, high: float) -> None:
    low, high = sorted((low, high))

    assert cost_at(points, low) <= cost_at(points, high) * (1 + 1e-9)


def test_a_curve_holds_every_eagerness_and_the_plain_figures_only_its_own() -> None:
    found = [figures("static", 1, 10.0, 0.99)]
    found += [
        figures("ours", 1, hours, reached, eager)
        for hours, reached, eager in ((6, 0.9, 0.6), (8, 0.98, 1.0), (12, 0.999, 2.0))
    ]

    ours = compared(found, "static")[1]

    assert ours.cost_ratio.mean == pytest.approx(0.8)
    assert [cost for _, cost in ours.curve.points] == pytest.approx([0.6, 0.8, 1.2])
    assert [reached for reached, _ in ours.curve.points] == [0.9, 0.98, 0.999]
    assert 0.8 < ours.curve.at(0.99) < 1.2
