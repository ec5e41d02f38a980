"""Traffic to tune on, and traffic that is held out to judge by: other days where there are any, else other luck."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from simulations.compiled.layout import Records
from simulations.compiled.records import forget_course
from simulations.errors import UsageError
from simulations.scenarios import Scenario, Together
from simulations.scenarios.draw import Recorded
from simulations.world import ALONE, Setting

from .course import Course, begun

DAY_S = 86_400.0
DAYS_MIN = 2.0  # fewer cannot be told apart
TRAINED_RATIO = 2 / 3  # of the days, or of a trace's span
HELD_OUT_SEEDS_FROM = 1000  # nobody tunes with so many seeds that they meet these

SettingOf = Callable[[Scenario, int], Setting]
Services = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Courses:
    """Courses to tune on and to judge by; `says` how they differ."""

    trained: tuple[Course, ...]
    held_out: tuple[Course, ...]
    says: str


def split_courses(scenario: Scenario | Together, seed: int, most: int, setting_of: SettingOf) -> Courses:
    """Days where the traffic has at least two, thirds of a shorter recording, else draws; at most so many of each."""
    scenarios = _scenarios(scenario)

    def drawn(seed: int) -> Services:
        return {name: setting_of(one, seed) for name, one in scenarios.items()}

    first = drawn(seed)
    if any(setting.more is not None for setting in first.values()):
        raise UsageError(f"{scenario.name} is too large to be tuned on; thin it: warmtide sim trace scale --rate 0.1")
    if min(setting.span_s for setting in first.values()) >= DAYS_MIN * DAY_S:
        return _by_time(first, DAY_S, "days", most)
    if any(isinstance(one.traffic, Recorded) for one in scenarios.values()):
        return _by_time(first, _span_s(first) / 3 * (1 + 1e-9), "thirds", most)
    others = [drawn(seed + more) for more in range(1, most)]
    held_out = [drawn(seed + HELD_OUT_SEEDS_FROM + more) for more in range(most)]
    return Courses(
        trained=tuple(map(begun, (first, *others))),
        held_out=tuple(map(begun, held_out)),
        says=f"tuned on {most} draws of the traffic, judged on {most} others with the same waves",
    )


def _scenarios(scenario: Scenario | Together) -> Mapping[str, Scenario]:
    if isinstance(scenario, Together):
        return {service.name: service for service in scenario.services}
    return {ALONE: scenario}


def _span_s(services: Services) -> float:
    return max(setting.span_s for setting in services.values())


def _by_time(whole: Services, period_s: float, name: str, most: int) -> Courses:
    if any(setting.has_clients for setting in whole.values()):
        raise UsageError(f"clients who wait for answers cannot be cut into {name}; give fewer hours of their traffic")
    count = max(2, int(_span_s(whole) / period_s + 0.5))
    parts = {number + 1: _part(whole, number * period_s, period_s) for number in range(count)}
    kept = {number: part for number, part in parts.items() if part is not None}
    if len(kept) < 2:
        raise UsageError("the traffic is too short to be tuned on, nothing is left to judge by: give more of it")
    numbers = list(kept)
    split = min(len(numbers) - 1, max(1, round(len(numbers) * TRAINED_RATIO)))
    trained, held_out = _spread(numbers[:split], most), _spread(numbers[split:], most)
    return Courses(
        trained=tuple(begun(kept[number]) for number in trained),
        held_out=tuple(begun(kept[number]) for number in held_out),
        says=f"tuned on {name} {_listed(trained)} of {count}, judged on {_listed(held_out)}",
    )


def _spread(numbers: list[int], most: int) -> list[int]:
    """At most so many of them, far apart."""
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers)))
    return [numbers[round(place)] for place in places.tolist()]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _part(whole: Services, begin_s: float, span_s: float) -> Services | None:
    """What comes to each within the span; None where nothing comes to one of them."""
    parts = {name: _part_of(setting, begin_s, span_s) for name, setting in whole.items()}
    known = {name: part for name, part in parts.items() if part is not None}
    return known if len(known) == len(parts) else None


def _part_of(whole: Setting, begin_s: float, span_s: float) -> Setting | None:
    at_s = whole.requests["arrived_at_s"]
    inside = (at_s >= begin_s) & (at_s < begin_s + span_s)
    if not inside.any():
        return None
    requests: Records = forget_course(whole.requests[inside])
    requests["arrived_at_s"] -= begin_s
    first, last = np.flatnonzero(inside)[[0, -1]].tolist()
    return replace(
        whole,
        requests=requests,
        ends_at_s=float(requests["arrived_at_s"][-1]) if whole.is_chained else None,
        names=whole.names and whole.names.part(first, last + 1),
        follows=None if whole.follows is None else whole.follows[first : last + 1],
    )
