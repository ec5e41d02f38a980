"""A user's own autoscaling object as a policy of the simulator."""

from .objects import Imported, import_policy

__all__ = ["Imported", "import_policy"]
