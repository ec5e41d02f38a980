"""Laws and known values of histogram arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.quantile import has_restarted, merge, quantile, subtract
from metrics.sample import Histogram

INF = math.inf


def histogram(*counts: float, bounds: tuple[float, ...] = (1.0, 2.0, 4.0, INF), total: float = 0.0) -> Histogram:
    return Histogram(bounds=bounds, counts=counts, sum=total)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    increments = draw(st.lists(st.integers(0, 1000), min_size=4, max_size=4))
    counts = tuple(float(sum(increments[: place + 1])) for place in range(4))
    return histogram(*counts, total=float(draw(st.integers(0, 10**6))))


@pytest.mark.parametrize(
    ("counts", "q", "value"),
    [
        pytest.param((10, 10, 10, 10), 0.5, 0.5, id="middle of the first bucket"),
        pytest.param((0, 10, 10, 10), 0.5, 1.5, id="middle of the second"),
        pytest.param((0, 0, 10, 10), 1.0, 4.0, id="upper end"),
        pytest.param((5, 10, 10, 10), 0.5, 1.0, id="just at a bound"),
        pytest.param((0, 0, 0, 10), 0.5, 4.0, id="beyond the last finite bound"),
        pytest.param((10, 10, 10, 10), 0.0, 0.0, id="q 0"),
        pytest.param((5, 4, 10, 10), 0.5, 1.0, id="a dip is mended"),
        pytest.param((0, 0, 0, 0), 0.5, None, id="no observations"),
    ],
)
def test_quantiles_are_those_of_prometheus(counts: tuple[float, ...], q: float, value: float | None) -> None:
    assert quantile(histogram(*counts), q) == value


def test_a_first_bound_at_or_below_zero_is_its_own_quantile() -> None:
    assert quantile(histogram(10, 10, bounds=(0.0, INF)), 0.5) == 0.0
    assert quantile(histogram(10, 10, bounds=(-1.0, INF)), 0.5) == -1.0


def test_only_an_infinite_bucket_tells_no_quantile() -> None:
    assert quantile(histogram(3, bounds=(INF,)), 0.5) is None


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_zero_to_one_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        quantile(histogram(1, 1, 1, 1), q)


@given(histograms(), st.floats(0, 1), st.floats(0, 1))
def test_a_quantile_rises_with_q_and_stays_within_the_bounds(some: Histogram, a: float, b: float) -> None:
    low, high = quantile(some, min(a, b)), quantile(some, max(a, b))

    if low is None or high is None:
        assert some.count == 0
    else:
        assert 0.0 <= low <= high <= 4.0


@given(histograms(), histograms())
def test_subtracting_what_was_merged_gives_it_back(older: Histogram, extra: Histogram) -> None:
    newer = merge([older, extra])

    assert newer is not None
    assert subtract(newer, older) == extra


@given(st.lists(histograms(), min_size=1, max_size=4))
def test_merging_loses_no_observation_and_knows_no_order(parts: list[Histogram]) -> None:
    merged = merge(parts)

    assert merged is not None
    assert merged.count == sum(part.count for part in parts)
    assert merged == merge(parts[::-1])


def test_merging_nothing_is_nothing() -> None:
    assert merge([]) is None


def test_merging_different_bounds_keeps_the_shared_ones() -> None:
    merged = merge([histogram(1, 2, 3, 4, total=1.0), histogram(10, 30, 40, bounds=(1.0, 4.0, INF), total=2.0)])

    assert merged == Histogram(bounds=(1.0, 4.0, INF), counts=(11.0, 33.0, 44.0), sum=3.0)


def test_after_a_restart_all_that_was_counted_is_new() -> None:
    assert subtract(histogram(1, 1, 2, 2), histogram(1, 2, 2, 2)) == histogram(1, 1, 2, 2)
    assert has_restarted(histogram(1, 1, 1, 1), histogram(1, 1, 1, 1, bounds=(1.0, 2.0, 3.0, INF)))


def test_different_bounds_cannot_be_subtracted() -> None:
    with pytest.raises(ValueError, match="different bounds"):
        subtract(histogram(1, 1, 1, 1), histogram(1, 1, bounds=(1.0, INF)))
