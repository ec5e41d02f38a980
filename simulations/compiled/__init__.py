"""The replica model for millions of requests: arrays, event compression, compiled where numba is installed."""

from .errors import UnsupportedConfigError
from .fleet import CompiledFleet, Gauges, Router, replay_compiled

__all__ = ["CompiledFleet", "Gauges", "Router", "UnsupportedConfigError", "replay_compiled"]
