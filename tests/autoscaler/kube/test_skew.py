"""How far the API server's clock is from ours."""

from email.utils import formatdate

import pytest

from autoscaler.kube.skew import ANSWERS_KEPT, NOISE_S, ROUND_TRIP_MAX_S, ServerClock

NOW_S = 1_750_000_000.0


def hear(clock: ServerClock, ahead_s: float, *, took_s: float = 0.02, times: int = 1) -> None:
    for _ in range(times):
        clock.heard(formatdate(NOW_S + ahead_s, usegmt=True), sent_at_s=NOW_S, answered_at_s=NOW_S + took_s)


@pytest.mark.parametrize("ahead_s", [-600.0, 600.0, 3.0], ids=["ours is ahead", "ours is behind", "a little"])
def test_a_clock_that_is_off_is_known_to_a_second(ahead_s: float) -> None:
    clock = ServerClock()
    hear(clock, ahead_s)

    assert clock.ahead_s == pytest.approx(ahead_s, abs=1.0)


@pytest.mark.parametrize("ahead_s", [-1.0, 0.0, 0.9, NOISE_S - 1.0])
def test_what_rounding_may_be_is_nothing(ahead_s: float) -> None:
    clock = ServerClock()
    hear(clock, ahead_s)

    assert clock.ahead_s == 0.0


def test_one_odd_answer_among_many_moves_nothing() -> None:
    clock = ServerClock()
    hear(clock, 0.0, times=ANSWERS_KEPT - 1)
    hear(clock, 3600.0)

    assert clock.ahead_s == 0.0


def test_a_clock_that_was_put_right_is_noticed() -> None:
    clock = ServerClock()
    hear(clock, -600.0, times=100)
    hear(clock, 0.0, times=ANSWERS_KEPT)

    assert clock.ahead_s == 0.0


def test_a_slow_answer_says_nothing() -> None:
    clock = ServerClock()
    hear(clock, 600.0, took_s=ROUND_TRIP_MAX_S + 0.1)

    assert clock.ahead_s == 0.0


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT", "Sat, 21 Nov 99999 09:00:00 GMT"]
)
def test_what_is_no_date_is_ignored(date: str | None) -> None:
    clock = ServerClock()
    clock.heard(date, sent_at_s=NOW_S, answered_at_s=NOW_S)

    assert clock.ahead_s == 0.0
