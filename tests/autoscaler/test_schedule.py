"""Windows open and close when their cron expressions say, on the days the clocks change too."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.schedule import Schedule, check_cron, floor_at, zone

BERLIN = "Europe/Berlin"
YEAR_2026_S = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def window(start: str, end: str, *, replicas: int = 3, time_zone: str = BERLIN, name: str = "w") -> Schedule:
    return Schedule(name=name, start=start, end=end, time_zone=time_zone, replicas_min=replicas)


def at(text: str) -> float:
    """Seconds of a UTC time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def local(at_s: float | None) -> str:
    assert at_s is not None
    return datetime.fromtimestamp(at_s, ZoneInfo(BERLIN)).strftime("%d.%m. %H:%M %z")


@pytest.mark.parametrize(
    ("moment", "floor", "change"),
    [
        pytest.param("2026-01-14T06:29:59", None, "14.01. 07:30 +0100", id="just before the start"),
        pytest.param("2026-01-14T06:30:00", 3, "14.01. 19:00 +0100", id="at the start"),
        pytest.param("2026-01-14T06:30:01", 3, "14.01. 19:00 +0100", id="just after the start"),
        pytest.param("2026-01-14T17:59:59", 3, "14.01. 19:00 +0100", id="just before the end"),
        pytest.param("2026-01-14T18:00:00", None, "15.01. 07:30 +0100", id="at the end"),
        pytest.param("2026-01-16T18:00:00", None, "19.01. 07:30 +0100", id="Friday evening: until Monday"),
    ],
)
def test_a_window_holds_from_its_start_to_just_before_its_end(moment: str, floor: int | None, change: str) -> None:
    found, change_s = floor_at([window("30 7 * * 1-5", "0 19 * * 1-5")], at(moment))

    assert (found, local(change_s)) == (floor, change)


@pytest.mark.parametrize(
    ("moment", "floor", "change"),
    [
        # Spring: 02:00 to 03:00 does not exist on 29 March; what should start at 02:30 starts at 03:00.
        pytest.param("2026-03-29T00:59", None, "29.03. 03:00 +0200", id="spring, before"),
        pytest.param("2026-03-29T01:00", 3, "29.03. 05:00 +0200", id="spring, at the gap"),
        pytest.param("2026-03-29T03:00", None, "30.03. 02:30 +0200", id="spring, after"),
        # Autumn: 02:00 to 03:00 happens twice on 25 October; the window starts once and stays open.
        pytest.param("2026-10-25T00:29", None, "25.10. 02:30 +0200", id="autumn, before"),
        pytest.param("2026-10-25T00:30", 3, "25.10. 05:00 +0100", id="autumn, first 02:30"),
        pytest.param("2026-10-25T01:10", 3, "25.10. 05:00 +0100", id="autumn, second 02:10"),
        pytest.param("2026-10-25T01:30", 3, "25.10. 05:00 +0100", id="autumn, second 02:30"),
        pytest.param("2026-10-25T04:00", None, "26.10. 02:30 +0100", id="autumn, after"),
    ],
)
def test_days_on_which_the_clocks_change_open_and_close_once(moment: str, floor: int | None, change: str) -> None:
    found, change_s = floor_at([window("30 2 * * *", "0 5 * * *")], at(moment))

    assert (found, local(change_s)) == (floor, change)


def test_the_highest_of_the_open_windows_holds_and_the_nearest_change_is_told() -> None:
    windows = [
        window("0 8 * * *", "0 18 * * *", replicas=2, time_zone="UTC"),
        window("0 9 * * *", "0 10 * * *", replicas=5, time_zone="UTC"),
        window("0 20 * * *", "0 21 * * *", replicas=9, time_zone="UTC"),
    ]

    assert floor_at(windows, at("2026-01-14T09:30")) == (5, at("2026-01-14T10:00"))
    assert floor_at(windows, at("2026-01-14T10:30")) == (2, at("2026-01-14T18:00"))


def test_without_windows_there_is_no_floor_and_nothing_to_wait_for() -> None:
    assert floor_at([], 0.0) == (None, None)


def test_where_start_and_end_coincide_the_floor_stays() -> None:
    hourly_until_midnight = window("0 * * * *", "0 0 * * *", time_zone="UTC")

    assert floor_at([hourly_until_midnight], at("2026-01-14T00:30"))[0] == 3


WINDOWS = st.builds(
    window,
    start=st.sampled_from(["30 7 * * *", "30 2 * * *", "0 3 * * 0", "15 1 * * *", "0 * * * *", "*/20 9-11 * * *"]),
    end=st.sampled_from(["0 19 * * *", "45 2 * * *", "59 23 * * 6", "10 * * * *"]),
    time_zone=st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)


@given(windows=st.lists(WINDOWS, min_size=1, max_size=3), minute=st.integers(0, 525_600))
def test_the_floor_never_changes_before_the_time_that_was_told(windows: list[Schedule], minute: int) -> None:
    now_s = YEAR_2026_S + 60 * minute

    floor, change_s = floor_at(windows, now_s)

    assert change_s is not None
    assert change_s > now_s
    halfway_s = now_s + (change_s - now_s) / 2
    assert floor_at(windows, halfway_s)[0] == floor
    assert floor_at(windows, change_s - 1)[0] == floor


@pytest.mark.parametrize("expression", ["0 8 * *", "0 8 * * * *", "60 8 * * *", "0 0 30 2 *", "a b c d e", ""])
def test_what_is_no_cron_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"cron"):
        check_cron(expression)


def test_what_never_happens_is_refused() -> None:
    first_day_and_fifth_monday = "0 0 */31 2 1#5"

    with pytest.raises(ValueError, match="never happens"):
        check_cron(first_day_and_fifth_monday)


@pytest.mark.parametrize("name", ["", "Mars/Base", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 70_000, "a\0b"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone(name)


@pytest.mark.parametrize(
    ("start", "end", "replicas"),
    [("0 8 * * *", "0 8  * * *", 1), ("0 8 * * *", "0 9 * * *", -1), ("x", "0 9 * * *", 1)],
)
def test_a_window_that_makes_no_sense_cannot_be_built(start: str, end: str, replicas: int) -> None:
    with pytest.raises(ValueError, match=r"window|cron"):
        window(start, end, replicas=replicas)
