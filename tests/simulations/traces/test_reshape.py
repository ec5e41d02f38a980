"""Cutting traffic to size keeps what it promises, whatever the chunks."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.traces.chunk import Blocks, Chunk, joined
from simulations.traces.reshape import Scale, by_period, cut, overlaid, resampled, scaled, spliced

TIMES = st.lists(st.integers(0, 4000).map(lambda tenth: tenth / 10), min_size=1, max_size=60).map(sorted)


def chunk_of(times_s: list[float]) -> Chunk:
    """Requests that are told apart by their lengths, with two blocks each: a common one and their own."""
    requests = len(times_s)
    return Chunk(
        at_s=np.array(times_s),
        prompt_tokens=np.arange(17, 17 + requests, dtype=np.int32),
        output_tokens=np.arange(1, 1 + requests, dtype=np.int32),
        blocks=Blocks(
            ids=np.stack([np.zeros(requests, np.int64), np.arange(1, requests + 1)], axis=1).ravel(),
            starts=np.arange(0, 2 * requests + 1, 2),
            block_tokens=16,
        ),
    )


def split(whole: Chunk, rows: int) -> Iterator[Chunk]:
    for begin in range(0, len(whole), rows):
        yield whole.between(begin, min(begin + rows, len(whole)))


def as_one(chunks: Iterable[Chunk]) -> Chunk:
    parts = list(chunks)
    for part in parts:
        assert len(part)
    found = joined(parts)
    assert (np.diff(found.at_s) >= 0).all()
    return found


@given(times_s=TIMES, rows=st.integers(1, 9), ratio=st.floats(0.05, 5), seed=st.integers(0, 9))
def test_scaling_the_rate_keeps_order_and_number(times_s: list[float], rows: int, ratio: float, seed: int) -> None:
    whole = chunk_of(times_s)

    found = as_one(scaled(split(whole, rows), Scale(rate_ratio=ratio), np.random.default_rng(seed)))

    assert abs(len(found) - ratio * len(whole)) <= 1
    assert set(found.prompt_tokens.tolist()) <= set(whole.prompt_tokens.tolist())
    if ratio >= 1:
        assert set(found.prompt_tokens.tolist()) == set(whole.prompt_tokens.tolist())


@given(times_s=TIMES, rows=st.integers(1, 9))
def test_copies_share_their_blocks_with_nobody_but_copies_of_the_same_rank(times_s: list[float], rows: int) -> None:
    found = as_one(scaled(split(chunk_of(times_s), rows), Scale(rate_ratio=3), np.random.default_rng(1)))

    assert found.blocks is not None
    common = found.blocks.ids[found.blocks.starts[:-1]]
    assert sorted(np.unique(common, return_counts=True)[1].tolist()) == [len(times_s)] * 3


@given(times_s=TIMES, rows=st.integers(1, 9), begin_s=st.integers(0, 300), span_s=st.integers(1, 200))
def test_a_window_has_what_came_in_it(times_s: list[float], rows: int, begin_s: int, span_s: int) -> None:
    found = as_one(cut(split(chunk_of(times_s), rows), begin_s, begin_s + span_s))

    expected = [at_s - begin_s for at_s in times_s if begin_s <= at_s < begin_s + span_s]
    assert found.at_s.tolist() == expected


@given(times_s=TIMES, rows=st.integers(1, 9), period_s=st.floats(1, 90))
def test_periods_hold_every_request_once_and_in_its_own(times_s: list[float], rows: int, period_s: float) -> None:
    periods = list(by_period(split(chunk_of(times_s), rows), period_s))

    assert joined(periods).at_s.tolist() == times_s
    for number, period in enumerate(periods):
        assert all(number * period_s <= at_s < (number + 1) * period_s for at_s in period.at_s)


def test_one_after_another_with_a_gap_and_one_over_another() -> None:
    first, second = chunk_of([0.0, 10.0]), chunk_of([0.0, 4.0])

    assert as_one(spliced([([first], None), ([second], None)], 5.0)).at_s.tolist() == [0, 10, 15, 19]
    assert as_one(spliced([([first], 60.0), ([second], None)], 0.0)).at_s.tolist() == [0, 10, 60, 64]
    assert as_one(overlaid([[first], [second]])).at_s.tolist() == [0, 0, 4, 10]


def test_a_resampled_trace_has_the_old_waves_and_other_requests() -> None:
    rng = np.random.default_rng(1)
    times_s = np.sort(np.concatenate([rng.uniform(0, 600, 4000), rng.uniform(600, 1200, 1000)]))
    whole = chunk_of(times_s.tolist())

    found = as_one(resampled(split(whole, 700), 60.0, np.random.default_rng(2)))

    first_half = (found.at_s < 600).sum()
    assert first_half == pytest.approx(4000, abs=250)
    assert len(found) - first_half == pytest.approx(1000, abs=120)
    assert found.at_s.tolist() != times_s.tolist()


def test_longer_shorter_and_faster() -> None:
    scale = Scale(speed_ratio=2, prompt_ratio=0.5, output_ratio=3)

    found = as_one(scaled([chunk_of([0.0, 10.0])], scale, np.random.default_rng(1)))

    assert found.at_s.tolist() == [0, 5]
    assert found.prompt_tokens.tolist() == [8, 9]
    assert found.output_tokens.tolist() == [3, 6]
    assert found.blocks is not None
    assert found.blocks.ids.tolist() == [0, 0]  # half the prompt fills one block, which is the common one
    assert found.blocks.starts.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("name", "value"), [("rate_ratio", 0.0), ("prompt_ratio", float("nan")), ("rate_ratio", 1e9)])
def test_a_scale_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Scale(**{name: value})
