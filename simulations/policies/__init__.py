"""Policies as the simulator runs them: Warmtide through `decide`, and its peers from their published rules."""

from .base import Bounds, Cadence, Policy, Site, Wish
from .catalog import NAMES, build

__all__ = ["NAMES", "Bounds", "Cadence", "Policy", "Site", "Wish", "build"]
