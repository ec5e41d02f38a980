"""The course of a run at evenly spaced moments: replicas by phase, and their load."""

import math

import numpy as np

from autoscaler.policy.types import Tier
from simulations.compiled.fleet import CompiledFleet
from simulations.compiled.sight import total_load
from simulations.world.outcome import SAMPLE, SERIES_POINTS, Series
from simulations.world.pods import Pods

Point = tuple[int, int, int, int, int, int, int, int, int, float, int]  # the columns of SAMPLE up to the unplaced ones


class Recorder:
    """Notes a point whenever one is due."""

    def __init__(self, span_s: float) -> None:
        self.spacing_s = span_s / (SERIES_POINTS - 1)
        self._due_s = (span_s * (np.arange(SERIES_POINTS) / (SERIES_POINTS - 1))).tolist()
        self._points: list[Point] = []

    @property
    def next_at_s(self) -> float:
        """When the next point is due."""
        noted = len(self._points)
        return self._due_s[noted] if noted < SERIES_POINTS else math.inf

    def note(self, wanted: int, pods: Pods, fleet: CompiledFleet) -> None:
        """How things are now."""
        tiers = [pod.tier for pod in pods.starting]
        ready, draining = len(pods.serving), len(pods.draining)
        running, waiting, held, usage = total_load(fleet.world)
        hot, warm, cold = tiers.count(Tier.HOT), tiers.count(Tier.WARM), tiers.count(Tier.COLD)
        mean_usage, unplaced = usage / max(1, ready), len(pods.waiting)
        self._points.append((wanted, hot, warm, cold, ready, draining, running, waiting, held, mean_usage, unplaced))

    def series(self) -> Series:
        """All points, without what arrived."""
        series = np.zeros(len(self._points), SAMPLE)
        series["at_s"] = self._due_s[: len(series)]
        columns = SAMPLE.names or ()
        for index, name in enumerate(columns[1 : 1 + len(self._points[0])]):
            series[name] = [point[index] for point in self._points]
        return series
