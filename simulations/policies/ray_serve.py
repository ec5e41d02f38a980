"""Ray Serve's default: ongoing requests over a target per replica, once the same direction has lasted.

After `python/ray/serve/autoscaling_policy.py` and `config.py` of ray-project/ray at 00590c4 (2026): reports every 10 s
averaged over 30 s, target 2, 30 s upwards, 600 s downwards. Its delays count ticks of 0.1 s; between two reports the
ticks see the same numbers, so seconds say the same.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from autoscaler.policy.types import Observation

from .base import Bounds, Cadence, Wish, ready_pods
from .series import outstanding_everywhere

REPORT_S = 10.0  # metrics_interval_s
LOOK_BACK_S = 30.0
TARGET_REQUESTS = 2.0  # target_ongoing_requests
UPSCALE_DELAY_S, DOWNSCALE_DELAY_S = 30.0, 600.0


def ray_replicas(ongoing: float, running: int, target: float) -> int:
    """`_core_replica_queue_length_policy` with scaling factors of 1; the division by `running` is Ray's own."""
    return math.ceil(running * (ongoing / (target * running)))


@dataclass(slots=True, kw_only=True)
class RayServe:
    """One deployment."""

    bounds: Bounds
    target_requests: float = TARGET_REQUESTS
    _reports: deque[tuple[float, float]] = field(default_factory=deque)
    _since_s: float | None = None  # of the direction
    _direction: int = 0

    @property
    def cadence(self) -> Cadence:
        """As often as the numbers change."""
        return Cadence(scrape_s=REPORT_S, decide_s=REPORT_S, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One report."""
        self._reports.append((now_s, outstanding_everywhere(seen)))
        while self._reports[0][0] <= now_s - LOOK_BACK_S:
            self._reports.popleft()
        ongoing = sum(value for _, value in self._reports) / len(self._reports)
        running, target = len(ready_pods(seen)), seen.replicas
        if running == 0:
            return Wish(replicas=self.bounds.clamp(max(1, target)), reason="no replica runs") if ongoing else None
        wanted = self.bounds.clamp(ray_replicas(ongoing, running, self.target_requests))
        direction = (wanted > target) - (wanted < target)
        if direction != self._direction or self._since_s is None:
            self._direction, self._since_s = direction, now_s
        delay_s = UPSCALE_DELAY_S if direction > 0 else DOWNSCALE_DELAY_S
        if direction == 0 or now_s - self._since_s < delay_s:
            return None
        self._direction = 0
        return Wish(replicas=wanted, reason=f"{ongoing:.1f} ongoing requests for {delay_s:.0f} s")
