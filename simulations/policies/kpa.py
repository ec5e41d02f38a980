"""Knative's pod autoscaler: concurrency over a stable and a panic window.

After `pkg/autoscaler/scaling/autoscaler.go` of knative.dev/serving v0.51; the defaults are those of its
`config/core/configmaps/autoscaler.yaml`.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from autoscaler.policy.types import Observation, PodPhase

from .base import Bounds, Cadence, Wish

TICK_S = 2.0
STABLE_S = 60.0
PANIC_S = 6.0  # 10 % of it
PANIC_RATIO = 2.0
MAX_UP_RATIO = 1000.0
MAX_DOWN_RATIO = 2.0
TARGET_REQUESTS = 70.0  # container-concurrency-target-default 100 at 70 % utilisation


@dataclass(slots=True)
class _Mean:
    """Of what was seen within a span; a sum that moves along, since it is asked for every other second."""

    span_s: float
    _seen: deque[tuple[float, float]] = field(default_factory=deque)
    _sum: float = 0.0

    def of(self, value: float, now_s: float) -> float:
        """With this value in."""
        seen = self._seen
        seen.append((now_s, value))
        self._sum += value
        while seen[0][0] <= now_s - self.span_s:
            self._sum -= seen.popleft()[1]
        return max(0.0, self._sum) / len(seen)


@dataclass(slots=True, kw_only=True)
class Kpa:
    """State of one revision."""

    bounds: Bounds
    target_requests: float = TARGET_REQUESTS
    _stable: _Mean = field(default_factory=lambda: _Mean(STABLE_S))
    _panic: _Mean = field(default_factory=lambda: _Mean(PANIC_S))
    _panic_at_s: float | None = None
    _panic_highest: int = 0
    _has_begun: bool = False

    @property
    def cadence(self) -> Cadence:
        """Every tick reads and decides."""
        return Cadence(scrape_s=TICK_S, decide_s=TICK_S, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One tick."""
        ready, concurrency = 0, seen.upstream_waiting_requests or 0.0
        for pod in seen.pods:
            if pod.phase is PodPhase.READY:
                ready += 1
                if pod.signals is not None:
                    concurrency += (pod.signals.running_requests or 0.0) + (pod.signals.waiting_requests or 0.0)
        if not self._has_begun:  # a restarted autoscaler must not shrink what serves
            self._has_begun = True
            if ready > 1:
                self._panic_at_s, self._panic_highest = now_s, ready
        stable, panic = self._stable.of(concurrency, now_s), self._panic.of(concurrency, now_s)
        return Wish(replicas=self.bounds.clamp(self._desired(max(1, ready), stable, panic, now_s)))

    def _desired(self, ready: int, stable_mean: float, panic_mean: float, now_s: float) -> int:
        low, high = math.floor(ready / MAX_DOWN_RATIO), math.ceil(ready * MAX_UP_RATIO)
        panic = math.ceil(panic_mean / self.target_requests)
        stable = min(high, max(low, math.ceil(stable_mean / self.target_requests)))
        if panic / ready >= PANIC_RATIO:
            self._panic_at_s = now_s
        elif self._panic_at_s is not None and now_s > self._panic_at_s + STABLE_S:
            self._panic_at_s, self._panic_highest = None, 0
        if self._panic_at_s is None:
            return stable
        self._panic_highest = max(self._panic_highest, stable, min(high, max(low, panic)))
        return self._panic_highest  # never down in panic
