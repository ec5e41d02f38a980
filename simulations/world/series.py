"""The course of a run at evenly spaced moments: replicas by phase, load, what missed the objective."""

import math

import numpy as np

from autoscaler.policy.types import PodPhase, Tier
from simulations.compiled.fleet import CompiledFleet
from simulations.compiled.layout import Records
from simulations.world.outcome import SAMPLE, SERIES_POINTS, Series
from simulations.world.pods import Pods

STARTING = {Tier.HOT: "starting_hot", Tier.WARM: "starting_warm", Tier.COLD: "starting_cold"}


class Recorder:
    """Notes a point whenever one is due; what arrived in between is added at the end."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._points = np.zeros(SERIES_POINTS, SAMPLE)
        self._noted = 0

    @property
    def next_at_s(self) -> float:
        """When the next point is due."""
        return self._span_s * (self._noted / (SERIES_POINTS - 1)) if self._noted < SERIES_POINTS else math.inf

    def note(self, now_s: float, wanted: int, pods: Pods, fleet: CompiledFleet) -> None:
        """How things are now."""
        point = self._points[self._noted]
        point["at_s"], point["wanted"], point["held_requests"] = now_s, wanted, fleet.held_requests
        for pod in pods.present:
            phase = pod.phase(now_s)
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

    def series(self, requests: Records, ttft_s: float) -> Series:
        """All points, with what arrived before each."""
        points = self._points[: self._noted]
        place = np.searchsorted(points["at_s"], requests["arrived_at_s"])
        tokens = requests["prompt_tokens"].astype(np.int64) + requests["output_tokens"]
        missed = ~(requests["first_token_at_s"] - requests["arrived_at_s"] <= ttft_s)
        for name, weights in (("arrived_requests", None), ("arrived_tokens", tokens), ("missed_requests", missed)):
            counts = np.bincount(place, weights, minlength=self._noted)
            points[name] = np.rint(counts[: self._noted])
        return points
