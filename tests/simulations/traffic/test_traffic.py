"""Generated traffic has the figures of the trace it was derived from; shaping it keeps what it promises."""

from collections import Counter
from dataclasses import replace
from random import Random
from statistics import correlation, fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.trace import Arrival
from simulations.traffic import TrafficFigures, generate, load_figures, quantile
from simulations.traffic_shape import (
    compress,
    mean_tokens_per_s,
    peak_tokens_per_s,
    shorten_outputs,
    stretch_swing,
    thin,
)

ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at_s=st.floats(0, 1000, allow_nan=False),
        prompt_tokens=st.integers(0, 9000),
        output_tokens=st.integers(0, 900),
    ),
    min_size=1,
    max_size=30,
).map(lambda arrivals: sorted(arrivals, key=lambda arrival: arrival.at_s))


@pytest.fixture(scope="module")
def figures() -> TrafficFigures:
    return load_figures()


@pytest.fixture(scope="module")
def hour(figures: TrafficFigures) -> list[Arrival]:
    return generate(figures, Random(7))


def test_the_figures_name_their_source_and_licence(figures: TrafficFigures) -> None:
    assert "AzureLLMInferenceDataset2023" in figures.source
    assert figures.licence == "CC-BY-4.0"
    assert sum(figures.arrivals_per_bin) == figures.known.requests
    assert sum(map(sum, figures.prompt_mix)) == figures.known.requests


def test_generated_rates_and_lengths_are_those_of_the_trace(figures: TrafficFigures, hour: list[Arrival]) -> None:
    known = figures.known
    prompts = sorted(arrival.prompt_tokens for arrival in hour)
    outputs = sorted(arrival.output_tokens for arrival in hour)

    assert len(hour) / hour[-1].at_s == pytest.approx(known.requests_per_s, rel=0.02)
    assert fmean(prompts) == pytest.approx(known.prompt_tokens_mean, rel=0.03)
    assert fmean(outputs) == pytest.approx(known.output_tokens_mean, rel=0.03)
    assert quantile(prompts, 0.5) == pytest.approx(known.prompt_tokens_p50, rel=0.03)
    assert quantile(prompts, 0.95) == pytest.approx(known.prompt_tokens_p95, rel=0.03)
    assert quantile(outputs, 0.5) == pytest.approx(known.output_tokens_p50, rel=0.05)
    assert quantile(outputs, 0.95) == pytest.approx(known.output_tokens_p95, rel=0.05)


def test_long_prompts_have_short_answers_as_in_the_trace(figures: TrafficFigures, hour: list[Arrival]) -> None:
    prompts, outputs = zip(*((arrival.prompt_tokens, arrival.output_tokens) for arrival in hour), strict=True)

    assert correlation(prompts, outputs) == pytest.approx(figures.known.length_correlation, abs=0.03)


def test_the_generated_hour_rises_and_falls_with_the_trace(figures: TrafficFigures, hour: list[Arrival]) -> None:
    per_bin = Counter(int(arrival.at_s / figures.bin_s) for arrival in hour)
    minutes = range(0, len(figures.arrivals_per_bin) - 6, 6)
    real = [sum(figures.arrivals_per_bin[start : start + 6]) for start in minutes]
    ours = [sum(per_bin[start + step] for step in range(6)) for start in minutes]

    assert correlation(real, ours) > 0.9
    assert max(per_bin.values()) / fmean(per_bin.values()) == pytest.approx(
        figures.known.requests_peak_to_mean, rel=0.15
    )


def test_the_same_seed_gives_the_same_traffic_and_another_does_not(figures: TrafficFigures) -> None:
    first, again, other = (generate(figures, Random(seed), requests=50) for seed in (1, 1, 2))

    assert first == again != other
    assert len(other) == 50


@given(arrivals=ARRIVALS, ratio=st.floats(0.1, 100))
def test_compressing_keeps_every_request_and_their_order(arrivals: list[Arrival], ratio: float) -> None:
    faster = compress(arrivals, ratio)

    assert [replace(arrival, at_s=0.0) for arrival in faster] == [replace(arrival, at_s=0.0) for arrival in arrivals]
    assert faster == sorted(faster, key=lambda arrival: arrival.at_s)
    assert faster[-1].at_s == pytest.approx(arrivals[-1].at_s / ratio)


@given(arrivals=ARRIVALS, requests=st.integers(0, 40), seed=st.integers(0, 9))
def test_thinning_keeps_so_many_of_the_requests_in_order(arrivals: list[Arrival], requests: int, seed: int) -> None:
    kept = thin(arrivals, requests, Random(seed))

    assert len(kept) == min(requests, len(arrivals))
    assert kept == sorted(kept, key=lambda arrival: arrival.at_s)
    assert all(arrival in arrivals for arrival in kept)


def test_a_stretched_hour_keeps_its_peak_and_loses_in_its_valleys(hour: list[Arrival]) -> None:
    stretched = stretch_swing(hour, 4.0, Random(3))
    per_period = Counter(int(arrival.at_s / 240) for arrival in stretched)
    before = Counter(int(arrival.at_s / 240) for arrival in hour)
    kept = {period: per_period[period] / before[period] for period in range(14)}
    peak = max(range(14), key=lambda period: before[period])

    assert kept[peak] > 0.9
    assert min(kept.values()) < 0.65
    assert 0.6 < len(stretched) / len(hour) < 0.9


@given(arrivals=ARRIVALS, swing=st.floats(1.0, 10.0), seed=st.integers(0, 9))
def test_stretching_only_removes(arrivals: list[Arrival], swing: float, seed: int) -> None:
    stretched = stretch_swing(arrivals, swing, Random(seed))

    assert stretched == sorted(stretched, key=lambda arrival: arrival.at_s)
    assert not Counter(stretched) - Counter(arrivals)


def test_traffic_that_swings_enough_is_left_alone() -> None:
    arrivals = [
        Arrival(at_s=600.0 * step, prompt_tokens=4000 if step % 2 else 10, output_tokens=1) for step in range(9)
    ]

    assert stretch_swing(arrivals, 4.0, Random(1)) == arrivals


@given(arrivals=ARRIVALS, window_s=st.floats(0.5, 50))
def test_the_peak_window_is_found_as_by_trying_all(arrivals: list[Arrival], window_s: float) -> None:
    tried = max(
        sum(
            arrival.prompt_tokens + arrival.output_tokens
            for arrival in arrivals
            if last.at_s - window_s < arrival.at_s <= last.at_s
        )
        for last in arrivals
    )

    assert peak_tokens_per_s(arrivals, window_s) == pytest.approx(tried / window_s)


def test_shortened_outputs_keep_at_least_one_token() -> None:
    arrivals = [Arrival(at_s=0.0, prompt_tokens=5, output_tokens=output) for output in (0, 1, 400)]

    assert [arrival.output_tokens for arrival in shorten_outputs(arrivals, 0.25)] == [1, 1, 100]
    assert mean_tokens_per_s(arrivals, 2.0) == (15 + 401) / 2.0


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan")])
def test_a_compression_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="compression ratio must be > 0"):
        compress([], ratio)
