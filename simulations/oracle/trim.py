"""A plan made cheaper while some lateness is left to spend."""

import numpy as np

from .course import Course
from .kernel import Ints

# By how many intervals a plan is trimmed at a time, the largest first, and how often at one place.
TRIMS, TRIMS_EACH = (64, 16, 4, 1, 1), 32


def trimmed(course: Course, plan: Ints, allowed: float) -> Ints:
    """The same plan with replicas that come later, go earlier or stay away, as long as the objective is kept."""
    for span in TRIMS:
        for at in np.flatnonzero(np.diff(plan)) + 1:
            plan = _trimmed_at(course, plan, int(at), span, allowed)
    return plan


def _trimmed_at(course: Course, plan: Ints, at: int, span: int, allowed: float) -> Ints:
    """At a step of the plan: up, it comes a span later; down, a span earlier; again while that helps."""
    for _ in range(TRIMS_EACH):
        shorter = plan.copy()
        if plan[at] > plan[at - 1]:
            shorter[at : at + span] = np.minimum(plan[at : at + span], plan[at - 1])
            moved = at + span
        else:
            first = max(0, at - span)
            shorter[first:at] = np.minimum(plan[first:at], plan[at])
            moved = first
        if course.cost_s(shorter) >= course.cost_s(plan) or course.late(shorter) > allowed:
            return plan
        plan, at = shorter, moved
        if not 0 < at < len(plan):
            return plan
    return plan
