"""Plans between those that two prices find: one price up to an interval, the other from there on."""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from .course import Course, Priced
from .kernel import Ints


def mixed(course: Course, cheap: Priced, kept: Priced, allowed: float) -> Iterator[Ints]:
    """Those that have the price of `kept` for as few intervals as keep the objective, at the end or at the beginning.

    What is not done when the traffic ends is nobody's cost: at a lax objective it pays to stop caring near the end.
    """
    switches = range(len(kept.plan) + 1)
    for price_s in dict.fromkeys((cheap.price_s, 0.0)):
        yield _with_fewest(course, course.switched(kept.price_s, price_s), allowed, switches)
        yield _with_fewest(course, course.switched(price_s, kept.price_s), allowed, switches[::-1])


def _with_fewest(course: Course, plan_of: Callable[[int], Ints], allowed: float, switches: range) -> Ints:
    """Of switches in such an order that each keeps more than the one before, the first that keeps the objective."""
    last = len(switches) - 1
    return plan_of(switches[bisect_left(switches, True, hi=last, key=lambda at: course.late(plan_of(at)) <= allowed)])
