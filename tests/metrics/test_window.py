"""Rates, increases and stalls over a bounded window."""

import math
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.catalog import read_sample
from metrics.pages import vllm_page
from metrics.sample import EngineSample, Histogram, PodSignals
from metrics.window import Window


def sample(at_s: float, tokens: float | None = None, **fields: float | Histogram | None) -> EngineSample:
    return replace(EngineSample(observed_at_s=at_s, generation_tokens_total=tokens), **fields)


def hist(*counts: float, bounds: tuple[float, ...] = (1.0, math.inf), total: float = 0.0) -> Histogram:
    return Histogram(bounds=bounds, counts=counts, sum=total)


def signals(*samples: EngineSample, span_s: float = 60.0, window: Window | None = None) -> PodSignals:
    window = window or Window()
    for one in samples:
        window.add(one)
    result = window.signals(now_s=samples[-1].observed_at_s, span_s=span_s)
    assert result is not None
    return result


def test_an_empty_window_says_nothing() -> None:
    assert Window().signals(now_s=0.0, span_s=30.0) is None


def test_one_sample_has_gauges_but_no_rates() -> None:
    seen = signals(read_sample(vllm_page(), observed_at_s=5.0))

    assert (seen.observed_at_s, seen.window_s, seen.running_requests, seen.is_awake) == (5.0, 0.0, 8.0, True)
    assert (seen.generation_tokens_per_s, seen.ttft_s, seen.prefix_hit_ratio, seen.stalled_for_s) == (None,) * 4


def test_two_pages_give_every_rate() -> None:
    seen = signals(*(read_sample(vllm_page(steps=steps), observed_at_s=steps / 100) for steps in (1000, 2000)))

    assert seen.window_s == 10.0
    assert seen.iterations_per_s == 100.0
    assert seen.prompt_tokens_per_s == 16_000.0
    assert seen.computed_prompt_tokens_per_s == 12_000.0
    assert seen.generation_tokens_per_s == 800.0
    assert seen.prefix_hit_ratio == 0.25
    assert seen.preemptions_per_s == 1.0
    assert seen.finished_requests_per_s == 75.0
    assert seen.rejected_requests_per_s == 25.0
    assert seen.iteration_tokens_per_s == 25_600.0
    assert seen.ttft_s is not None
    assert seen.ttft_s.count == 1000.0
    assert seen.ttft_s.sum == 1000.0
    assert seen.stalled_for_s == 0.0


# --- counters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "per_s"),
    [
        pytest.param((0, 10, 30), 1.5, id="rising"),
        pytest.param((100, 110, 5), 0.75, id="restart: 10, then 5 from 0"),
        pytest.param((100, 0, 40), 2.0, id="restart to 0"),
        pytest.param((7, 7, 7), 0.0, id="still"),
        pytest.param((100, 50, 20), 3.5, id="two restarts"),
        pytest.param((0, None, 30), 1.5, id="missing in between"),
        pytest.param((None, 0, 30), None, id="missing at the start"),
        pytest.param((0, 30, None), None, id="missing at the end"),
    ],
)
def test_a_rate_is_the_sum_of_increases(values: tuple[float | None, ...], per_s: float | None) -> None:
    window = Window(keep_s=100.0, samples_max=100)

    seen = signals(*(sample(10.0 * place, value) for place, value in enumerate(values)), window=window)

    assert seen.generation_tokens_per_s == per_s


@given(st.lists(st.tuples(st.floats(0.01, 50), st.one_of(st.none(), st.floats(0, 1e9))), min_size=1, max_size=30))
def test_no_rate_is_ever_negative(steps: list[tuple[float, float | None]]) -> None:
    window, now_s = Window(), 0.0
    for step_s, value in steps:
        now_s += step_s
        window.add(sample(now_s, value, ttft_s=None if value is None else hist(value // 2, value, total=value)))

        seen = window.signals(now_s=now_s, span_s=60.0)

        assert seen is not None
        assert seen.generation_tokens_per_s is None or seen.generation_tokens_per_s >= 0
        assert seen.ttft_s is None or min(*seen.ttft_s.counts, seen.ttft_s.sum) >= 0


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20), st.data())
def test_restarts_do_not_change_what_was_counted(increments: list[int], data: st.DataObject) -> None:
    """A process that dies right after a scrape loses no count: its successor starts from 0 and adds to it."""
    window, raw = Window(keep_s=1000.0, samples_max=1000), 0.0
    window.add(sample(0.0, 0.0, ttft_s=hist(0.0, 0.0)))
    for at_s, increment in enumerate(increments, start=1):
        if raw > increment and data.draw(st.booleans()):
            raw = 0.0
        raw += increment
        window.add(sample(float(at_s), raw, ttft_s=hist(raw, raw, total=raw)))

    seen = window.signals(now_s=float(len(increments)), span_s=1000.0)

    assert seen is not None
    assert seen.generation_tokens_per_s == pytest.approx(sum(increments) / len(increments))
    assert seen.ttft_s is not None
    assert seen.ttft_s.count == sum(increments)


def test_the_hit_ratio_of_no_queries_is_unknown() -> None:
    idle = {"prefix_cache_queried_tokens_total": 5.0, "prefix_cache_hit_tokens_total": 2.0}

    assert signals(sample(0.0, **idle), sample(10.0, **idle)).prefix_hit_ratio is None


# --- histograms ------------------------------------------------------------------------------------------------------


def test_a_histogram_increase_spans_restarts() -> None:
    window = Window(keep_s=100.0, samples_max=100)
    scrapes = [hist(1, 10, total=5.0), hist(2, 20, total=9.0), hist(1, 3, total=1.0), hist(4, 6, total=3.0)]

    seen = signals(*(sample(10.0 * place, ttft_s=one) for place, one in enumerate(scrapes)), window=window)

    assert seen.ttft_s == hist(1.0 + 4.0, 10.0 + 6.0, total=4.0 + 3.0)


def test_other_bounds_are_another_process_that_started_from_nothing() -> None:
    window = Window(keep_s=100.0, samples_max=100)
    finer = (0.5, 1.0, math.inf)
    scrapes = [hist(5, 50), hist(6, 60), hist(1, 2, 3, bounds=finer), hist(2, 3, 5, bounds=finer)]

    seen = signals(*(sample(10.0 * place, ttft_s=one) for place, one in enumerate(scrapes)), window=window)

    assert seen.ttft_s == hist(2.0, 3.0, 5.0, bounds=finer)


def test_a_histogram_that_appears_late_has_no_increase_before_its_second_sample() -> None:
    window = Window(keep_s=100.0, samples_max=100)
    first, second = sample(0.0), sample(10.0, itl_s=hist(5, 50))

    assert signals(first, second, window=window).itl_s is None
    assert signals(sample(20.0, itl_s=hist(6, 60)), span_s=10.0, window=window).itl_s == hist(1.0, 10.0)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_old_and_repeated_samples_are_ignored() -> None:
    window = Window()

    taken = [window.add(sample(at_s, at_s)) for at_s in (10.0, 10.0, 5.0, 20.0, 19.9)]

    assert taken == [True, False, False, True, False]
    assert signals(sample(21.0, 21.0), window=window).generation_tokens_per_s == 1.0


def test_the_number_of_samples_is_bounded_and_rates_stay_exact() -> None:
    window = Window(keep_s=60.0, samples_max=16)
    for step in range(1000):
        window.add(sample(step * 0.5, step * 100.0))

    assert window.kept_samples <= 17
    seen = window.signals(now_s=499.5, span_s=60.0)
    assert seen is not None
    assert seen.generation_tokens_per_s == 200.0
    assert 50.0 <= seen.window_s <= 60.0


def test_the_span_bounds_how_far_rates_look_back() -> None:
    window = Window(keep_s=100.0, samples_max=100)
    scrapes = [sample(at_s, tokens) for at_s, tokens in ((0.0, 0.0), (10.0, 1000.0), (20.0, 1010.0))]

    assert signals(*scrapes, span_s=10.0, window=window).generation_tokens_per_s == 1.0


def test_slow_scrapes_have_rates_too() -> None:
    assert signals(sample(0.0, 0.0), sample(45.0, 90.0), span_s=10.0).generation_tokens_per_s == 2.0


def test_an_old_sample_shows_its_age_until_it_is_too_old_to_keep() -> None:
    window = Window(keep_s=60.0)
    window.add(sample(100.0, 1.0))

    still = window.signals(now_s=160.0, span_s=30.0)
    assert still is not None
    assert still.observed_at_s == 100.0
    assert window.signals(now_s=160.1, span_s=30.0) is None


@pytest.mark.parametrize(("keep_s", "samples_max"), [(0.0, 10), (-1.0, 10), (60.0, 1)])
def test_a_window_that_can_hold_no_rate_is_refused(keep_s: float, samples_max: int) -> None:
    with pytest.raises(ValueError, match="window needs"):
        Window(keep_s=keep_s, samples_max=samples_max)


# --- stalls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scrapes", "stalled_for_s"),
    [
        pytest.param([(0, 1, 10), (10, 1, 10), (20, 1, 10)], 20.0, id="work, and nothing moves"),
        pytest.param([(0, 1, 10), (10, 1, 10), (20, 1, 11)], 0.0, id="it moves again"),
        pytest.param([(0, 1, 10), (10, 1, 11), (20, 1, 11)], 10.0, id="since the last move"),
        pytest.param([(0, 0, 10), (10, 0, 10), (20, 0, 10)], 0.0, id="idle is not stuck"),
        pytest.param([(0, 0, 10), (10, 0, 10), (20, 1, 10)], 0.0, id="what has just arrived is not stuck"),
        pytest.param([(0, 1, 10), (10, 1, 10), (20, 1, 3)], 0.0, id="a restart is a move"),
        pytest.param([(0, 1, None), (10, 1, None), (20, 1, None)], None, id="nothing tells"),
    ],
)
def test_a_stall_is_work_without_progress(
    scrapes: list[tuple[float, float, float | None]], stalled_for_s: float | None
) -> None:
    seen = signals(*(sample(float(at_s), tokens, running_requests=running) for at_s, running, tokens in scrapes))

    assert seen.stalled_for_s == stalled_for_s


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_full_window_stays_small_enough_for_thousands_of_pods() -> None:
    pages = [read_sample(vllm_page(steps=1000 + step), observed_at_s=2.0 * step) for step in range(100)]
    tracemalloc.start()
    window = Window()
    for page in pages:
        window.add(page)

    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size_bytes < 20_000
