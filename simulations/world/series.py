"""The course of a run at evenly spaced moments: replicas by phase, and their load."""

import math

import numpy as np

from autoscaler.policy.types import PodPhase, Tier
from simulations.compiled.fleet import CompiledFleet
from simulations.world.outcome import SAMPLE, SERIES_POINTS, Series
from simulations.world.pods import Pods

STARTING = {Tier.HOT: "starting_hot", Tier.WARM: "starting_warm", Tier.COLD: "starting_cold"}


class Recorder:
    """Notes a point whenever one is due."""

    def __init__(self, span_s: float) -> None:
        self.series: Series = np.zeros(SERIES_POINTS, SAMPLE)
        self.series["at_s"] = span_s * (np.arange(SERIES_POINTS) / (SERIES_POINTS - 1))
        self._noted = 0

    @property
    def next_at_s(self) -> float:
        """When the next point is due."""
        return float(self.series["at_s"][self._noted]) if self._noted < SERIES_POINTS else math.inf

    def note(self, wanted: int, pods: Pods, fleet: CompiledFleet) -> None:
        """How things are now."""
        point = self.series[self._noted]
        point["wanted"], point["held_requests"] = wanted, fleet.held_requests
        for pod in pods.present:
            phase = pod.phase
            if phase is PodPhase.STARTING:
                point[STARTING[pod.tier]] += 1
                continue
            point["ready" if phase is PodPhase.READY else "draining"] += 1
            load = fleet.load(pod.slot)
            point["running_requests"] += load.running_requests
            point["waiting_requests"] += load.waiting_requests
            point["kv_cache_usage_ratio"] += load.kv_cache_usage_ratio if phase is PodPhase.READY else 0.0
        point["kv_cache_usage_ratio"] /= max(1, point["ready"])
        self._noted += 1
