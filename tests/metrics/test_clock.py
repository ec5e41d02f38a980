"""The two clocks keep one contract."""

import pytest

from metrics.clock import Clock, ManualClock, WallClock
from metrics.sample import Histogram


@pytest.mark.parametrize("clock", [WallClock(), ManualClock(1000.0)], ids=["wall", "manual"])
async def test_time_never_goes_back_and_sleep_moves_it(clock: Clock) -> None:
    began_s = clock.now_s()

    await clock.sleep(0.01)
    then_s = clock.now_s()
    await clock.sleep(-5.0)

    assert began_s + 0.0099 <= then_s <= clock.now_s()


async def test_a_manual_clock_moves_by_just_what_is_slept() -> None:
    clock = ManualClock(100.0)

    await clock.sleep(60.0)
    clock.advance(2.5)

    assert clock.now_s() == 162.5


def test_a_manual_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match=r"1\.0 s"):
        ManualClock().advance(-1.0)


def test_a_histogram_of_unequal_lengths_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="2 bounds but 1 counts"):
        Histogram(bounds=(1.0, 2.0), counts=(1.0,), sum=0.0)


def test_the_count_of_a_histogram_is_its_last_bucket() -> None:
    assert Histogram(bounds=(1.0, 2.0), counts=(1.0, 5.0), sum=0.0).count == 5.0
    assert Histogram(bounds=(), counts=(), sum=0.0).count == 0.0
