"""What was, from a Prometheus or a controller's own records, as traffic and as a course of replicas."""

from .course import Change, Course, Past
from .decisions import read_decisions
from .history import History, Service, read_past
from .traffic import Drawn

__all__ = ["Change", "Course", "Drawn", "History", "Past", "Service", "read_decisions", "read_past"]
