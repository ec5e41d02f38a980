"""The replica model for millions of requests: arrays, event compression, compiled where numba is installed."""

from .fleet import CompiledFleet, Gauges, Router, replay_compiled

__all__ = ["CompiledFleet", "Gauges", "Router", "replay_compiled"]
