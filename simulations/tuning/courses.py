"""Traffic to tune on, and traffic that is held out to judge by: other days where there are any, else other luck."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from simulations.compiled.layout import Records
from simulations.compiled.records import forget_course
from simulations.errors import UsageError
from simulations.policies.static import Static
from simulations.scenarios import Scenario
from simulations.scenarios.draw import Recorded
from simulations.static_fleet import smallest_static
from simulations.world import Setting, simulate

DAY_S = 86_400.0
DAYS_MIN = 2.0  # fewer cannot be told apart
TRAINED_RATIO = 2 / 3  # of the days, or of a trace's span
HELD_OUT_SEEDS_FROM = 1000  # nobody tunes with so many seeds that they meet these

SettingOf = Callable[[Scenario, int], Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A setting that begins with the smallest fixed fleet that would do, and what that fleet would cost."""

    setting: Setting
    static_gpu_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Courses:
    """Courses to tune on and to judge by; `says` how they differ."""

    trained: tuple[Course, ...]
    held_out: tuple[Course, ...]
    says: str


def split_courses(scenario: Scenario, seed: int, most: int, setting_of: SettingOf) -> Courses:
    """Days where the traffic has at least two, thirds of a shorter recording, else draws; at most so many of each."""
    first = setting_of(scenario, seed)
    if first.more is not None:
        raise UsageError(f"{scenario.name} is too large to be tuned on; thin it: warmtide sim trace scale --rate 0.1")
    if first.span_s >= DAYS_MIN * DAY_S:
        return _by_time(first, DAY_S, "days", most)
    if isinstance(scenario.traffic, Recorded):
        return _by_time(first, first.span_s / 3 * (1 + 1e-9), "thirds", most)
    others = [setting_of(scenario, seed + more) for more in range(1, most)]
    held_out = [setting_of(scenario, seed + HELD_OUT_SEEDS_FROM + more) for more in range(most)]
    return Courses(
        trained=tuple(map(_begun, (first, *others))),
        held_out=tuple(map(_begun, held_out)),
        says=f"tuned on {most} draws of the traffic, judged on {most} others with the same waves",
    )


def _by_time(whole: Setting, period_s: float, name: str, most: int) -> Courses:
    if whole.follows is not None:
        raise UsageError(f"clients who wait for answers cannot be cut into {name}; give fewer hours of their traffic")
    count = max(2, int(whole.span_s / period_s + 0.5))
    parts = {number + 1: _part(whole, number * period_s, period_s) for number in range(count)}
    kept = {number: part for number, part in parts.items() if part is not None}
    if len(kept) < 2:
        raise UsageError("the traffic is too short to be tuned on: nothing is left to judge by")
    numbers = list(kept)
    split = min(len(numbers) - 1, max(1, round(len(numbers) * TRAINED_RATIO)))
    trained, held_out = _spread(numbers[:split], most), _spread(numbers[split:], most)
    return Courses(
        trained=tuple(_begun(kept[number]) for number in trained),
        held_out=tuple(_begun(kept[number]) for number in held_out),
        says=f"tuned on {name} {_listed(trained)} of {count}, judged on {_listed(held_out)}",
    )


def _spread(numbers: list[int], most: int) -> list[int]:
    """At most so many of them, far apart."""
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers)))
    return [numbers[round(place)] for place in places.tolist()]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _part(whole: Setting, begin_s: float, span_s: float) -> Setting | None:
    at_s = whole.requests["arrived_at_s"]
    inside = (at_s >= begin_s) & (at_s < begin_s + span_s)
    if not inside.any():
        return None
    requests: Records = forget_course(whole.requests[inside])
    requests["arrived_at_s"] -= begin_s
    first, last = np.flatnonzero(inside)[[0, -1]].tolist()
    return replace(whole, requests=requests, ends_at_s=None, names=whole.names and whole.names.part(first, last + 1))


def _begun(setting: Setting) -> Course:
    begun = replace(setting, replicas_at_start=smallest_static(setting))
    return Course(setting=begun, static_gpu_hours=simulate(begun, Static(begun.replicas_at_start)).gpu_hours)
