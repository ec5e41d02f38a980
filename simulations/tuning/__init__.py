"""A policy's knobs, turned for an objective on some traffic and judged on other."""

from .courses import Course, Courses, split_courses
from .knobs import KNOBS, Knob, document, policy_of, turned
from .search import GAIN_MIN, Goal, Judged, Search, Trial, judge

__all__ = [
    "GAIN_MIN",
    "KNOBS",
    "Course",
    "Courses",
    "Goal",
    "Judged",
    "Knob",
    "Search",
    "Trial",
    "document",
    "judge",
    "policy_of",
    "split_courses",
    "turned",
]
