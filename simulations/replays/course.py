"""A course of replicas that happened, as a policy: it does what was done."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from autoscaler.policy.types import Observation
from simulations.policies.base import Bounds, Cadence, Wish

LOOK_S = 5.0  # a number that held for less was seen by nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From then on, so many replicas; and why, where that was written down."""

    at_s: float
    replicas: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Changes in order of time; the first holds before it, too."""

    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        if not self.changes:
            raise ValueError("a course needs at least one number of replicas")

    def at(self, now_s: float) -> int:
        """The number then."""
        place = bisect_right(self.changes, now_s, key=lambda change: change.at_s) - 1
        return self.changes[max(0, place)].replicas

    def replica_hours(self, begin_s: float, end_s: float) -> float:
        """Of a span."""
        marks = [begin_s, *(change.at_s for change in self.changes if begin_s < change.at_s < end_s), end_s]
        return sum((end - begin) * self.at(begin) for begin, end in pairwise(marks)) / 3600.0

    @property
    def most(self) -> int:
        """The highest number."""
        return max(change.replicas for change in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A policy that repeats a course. The engine serves with one replica at least."""

    course: Course
    bounds: Bounds

    @property
    def cadence(self) -> Cadence:
        """It looks at nothing."""
        return Cadence(scrape_s=3600.0, decide_s=LOOK_S, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """What was."""
        replicas = self.bounds.clamp(self.course.at(now_s))
        return None if replicas == seen.replicas else Wish(replicas=replicas, reason="as it was")


def course_of(points: Sequence[tuple[float, float]]) -> Course:
    """From samples of a number of replicas."""
    changes: list[Change] = []
    for at_s, value in points:
        replicas = round(value)
        if not changes or changes[-1].replicas != replicas:
            changes.append(Change(at_s=at_s, replicas=replicas))
    return Course(changes=tuple(changes))
