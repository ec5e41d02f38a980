"""SkyServe: requests per second of the last minute over a target per replica, after as many equal looks.

After `RequestRateAutoscaler` in `sky/serve/autoscalers.py` and `sky/serve/constants.py` of skypilot-org/skypilot at
4b81f5d: looks every 20 s, 300 s upwards, 1200 s downwards. Arrivals are what ended plus what more is outstanding.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from autoscaler.policy.types import Observation

from .base import Bounds, Cadence, Wish
from .series import finished_per_s, outstanding_everywhere

LOOK_S = 20.0  # AUTOSCALER_DEFAULT_DECISION_INTERVAL_SECONDS
WINDOW_S = 60.0  # AUTOSCALER_QPS_WINDOW_SIZE_SECONDS
UPSCALE_LOOKS = int(300 / LOOK_S)
DOWNSCALE_LOOKS = int(1200 / LOOK_S)


@dataclass(slots=True, kw_only=True)
class SkyServe:
    """One service."""

    bounds: Bounds
    target_per_s: float  # target_qps_per_replica, which has no default
    _outstanding: deque[tuple[float, float]] = field(default_factory=deque)
    _up_looks: int = 0
    _down_looks: int = 0

    @property
    def cadence(self) -> Cadence:
        """The load balancer reports as often as it looks."""
        return Cadence(scrape_s=LOOK_S, decide_s=LOOK_S)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One look."""
        arrived_per_s = self._arrived_per_s(seen, now_s)
        if arrived_per_s is None:
            return None
        return self.after(arrived_per_s, seen.replicas)

    def after(self, arrived_per_s: float, current: int) -> Wish | None:
        """What a rate leads to, the looks before counted in."""
        wanted = self.bounds.clamp(math.ceil(arrived_per_s / self.target_per_s))
        self._up_looks = self._up_looks + 1 if wanted > current else 0
        self._down_looks = self._down_looks + 1 if wanted < current else 0
        if self._up_looks < UPSCALE_LOOKS and self._down_looks < DOWNSCALE_LOOKS:
            return None
        self._up_looks = self._down_looks = 0
        return Wish(replicas=wanted, reason=f"{arrived_per_s:.2f} requests/s")

    def _arrived_per_s(self, seen: Observation, now_s: float) -> float | None:
        finished = finished_per_s(seen)
        outstanding = outstanding_everywhere(seen)
        self._outstanding.append((now_s, outstanding))
        while len(self._outstanding) > 1 and self._outstanding[1][0] <= now_s - WINDOW_S:
            self._outstanding.popleft()
        began_s, before = self._outstanding[0]
        if finished is None or now_s <= began_s:
            return None
        return max(0.0, finished + (outstanding - before) / (now_s - began_s))
