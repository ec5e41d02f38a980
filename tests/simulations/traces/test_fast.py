"""The fast reader is the slow one, faster: the same rows, or it leaves them to the slow one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simulations.errors import TraceError
from simulations.traces import fast
from simulations.traces.values import Clock, Row

ROW = Row(Path("trace"), 1, ())
DIGITS = st.text("0123456789", max_size=11)
NUMBERS = st.one_of(
    st.builds("{}.{}".format, DIGITS, DIGITS),
    DIGITS,
    st.floats(0, 1e12).map(repr),
    st.text("0123456789.-+eE ", max_size=8),
)
MOMENTS = st.one_of(
    st.builds(
        "{:04d}-{:02d}-{:02d}{}{:02d}:{:02d}:{:02d}{}{}".format,
        st.integers(1965, 2110),
        st.integers(0, 13),
        st.integers(0, 32),
        st.sampled_from(" T_"),
        st.integers(0, 25),
        st.integers(0, 61),
        st.integers(0, 61),
        st.one_of(st.just(""), DIGITS.map(".{}".format)),
        st.sampled_from(("", "Z", "+00:00", "-00:00", "+02:00")),
    ),
    st.text("0123456789-: T.", min_size=15, max_size=24),
)


def fields_of(values: list[str]) -> fast.Field | None:
    columns = fast.columns("".join(value + "\n" for value in values).encode(), 1)
    return columns[0] if columns else None


@pytest.mark.parametrize("clock", list(Clock))
@given(data=st.data())
def test_times_are_those_of_the_slow_way(clock: Clock, data: st.DataObject) -> None:
    kind = MOMENTS if clock is Clock.MOMENT else NUMBERS
    values = data.draw(st.lists(kind.filter(bool), min_size=1, max_size=4))
    field = fields_of(values)
    found = None if field is None else fast.times_ns(field, clock)

    if found is not None:
        assert found.tolist() == [ROW.time_ns("t", value, clock) for value in values]


@given(values=st.lists(st.text("0123456789-+. ", min_size=1, max_size=9), min_size=1, max_size=4))
@example(values=["10000000", "0"])
@example(values=["10000001", "0"])
def test_tokens_are_those_of_the_slow_way(values: list[str]) -> None:
    field = fields_of(values)
    found = None if field is None else fast.tokens(field)

    if found is not None:
        assert found.tolist() == [ROW.tokens("n", value) for value in values]


@pytest.mark.parametrize(
    ("clock", "values"),
    [
        (Clock.MOMENT, ["2023-11-16 18:15:46.6805900", "2023-11-16 18:15:50.9951690"]),
        (Clock.MOMENT, ["2024-05-10 00:00:00+00:00", "2024-05-10T00:00:00.009930+00:00"]),
        (Clock.SECONDS, ["5", "45.25", "10453.000000001"]),
        (Clock.MILLISECONDS, ["1700000001500.125", "1700000001500"]),
    ],
    ids=["azure 2023", "azure 2024", "burstgpt", "kserve-mini"],
)
def test_what_real_files_hold_takes_the_fast_way(clock: Clock, values: list[str]) -> None:
    field = fields_of(values)

    assert field is not None
    found = fast.times_ns(field, clock)
    assert found is not None
    assert np.diff(found).all()


def test_doubt_is_left_to_the_slow_way_which_says_what_is_wrong() -> None:
    field = fields_of(["12", "x"])

    assert field is not None
    assert fast.tokens(field) is None
    with pytest.raises(TraceError, match="expected a whole number"):
        ROW.tokens("n", "x")
