"""A policy's knobs, turned for an objective on some traffic and judged on other."""

from .course import Course, Served
from .courses import Courses, split_courses
from .knobs import KNOBS, Knob, document, policy_of, turned
from .search import GAIN_MIN, Documents, Goal, Judged, Search, Trial, documents_at, judge

__all__ = [
    "GAIN_MIN",
    "KNOBS",
    "Course",
    "Courses",
    "Documents",
    "Goal",
    "Judged",
    "Knob",
    "Search",
    "Served",
    "Trial",
    "document",
    "documents_at",
    "judge",
    "policy_of",
    "split_courses",
    "turned",
]
