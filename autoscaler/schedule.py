"""Cron windows → the floor that holds at a time. Daylight saving is cron's (Debian): a local time that is skipped
happens at the next minute that exists, one that occurs twice happens once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

# Cron has a resolution of a minute, so does the cache: 500 services with 8 schedules each, one entry per schedule.
_CACHED_WINDOWS = 4096
# Longer than any daylight-saving step (at most two hours) plus an hour.
_CLOCK_CHANGE_S = 3 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """At least `replicas_min` replicas from each `start` to the next `end` (5-field cron expressions)."""

    name: str
    start: str
    end: str
    time_zone: str
    replicas_min: int

    def __post_init__(self) -> None:
        zone(self.time_zone)
        for expression in (self.start, self.end):
            check_cron(expression)
        if self.start.split() == self.end.split():
            raise ValueError(f"window {self.name} starts and ends at the same times ({self.start})")
        if self.replicas_min < 0:
            raise ValueError(f"window {self.name} needs replicas ≥ 0, got {self.replicas_min}")


def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; ValueError when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError("is no IANA time zone, such as UTC or Europe/Berlin") from exc


def check_cron(expression: str) -> None:
    """ValueError when this is not a 5-field cron expression, or one that never happens."""
    if len(expression.split()) != 5:
        raise ValueError("must have the five cron fields: minute hour day-of-month month day-of-week")
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as exc:
        raise ValueError(f"is no cron expression ({exc})") from exc
    except StopIteration as exc:
        raise ValueError("never happens") from exc


def floor_at(schedules: Sequence[Schedule], now_s: float) -> tuple[int | None, float | None]:
    """The highest floor of the windows open now (None: none is), and when the next window opens or closes."""
    floors: list[int] = []
    changes: list[float] = []
    for schedule in schedules:
        is_open, change_s = _window(schedule, int(now_s // 60))
        changes.append(change_s)
        if is_open:
            floors.append(schedule.replicas_min)
    return max(floors, default=None), min(changes, default=None)


@lru_cache(maxsize=_CACHED_WINDOWS)
def _window(schedule: Schedule, minute: int) -> tuple[bool, float]:
    """Whether the window is open in this minute (Unix minutes), and when that changes."""
    now_s = minute * 60.0
    started_s, starts_s = _around(schedule.start, schedule.time_zone, now_s)
    ended_s, ends_s = _around(schedule.end, schedule.time_zone, now_s)
    is_open = started_s >= ended_s  # at a tie the floor stays: warm is the safe side
    return is_open, ends_s if is_open else starts_s


def _around(expression: str, time_zone: str, now_s: float) -> tuple[float, float]:
    """When a cron expression last happened (now included), and when it happens next."""
    tz = zone(time_zone)
    now, earlier = datetime.fromtimestamp(now_s, tz), datetime.fromtimestamp(now_s - _CLOCK_CHANGE_S, tz)
    if now.utcoffset() == earlier.utcoffset():
        # One second later: what happens at this very minute has happened.
        now = now.replace(second=1)
        last = next(CronSim(expression, now, reverse=True)).timestamp()
        return last, next(CronSim(expression, now)).timestamp()
    # cronsim counts on the wall clock and loses its place within an hour that occurs twice: come from before it.
    last = next(CronSim(expression, earlier.replace(second=1), reverse=True)).timestamp()
    moments = CronSim(expression, earlier.replace(second=1))
    while (moment := next(moments)).timestamp() <= now_s:
        last = moment.timestamp()
    return last, moment.timestamp()
