"""The seasonal naive: as many replicas as now need, or as the same time a season ago needed half an hour later.

After grafana/mimir#7775, whose autoscaler took the larger of the present series and that of 6 d 23 h 30 min ago.
Here the series is outstanding requests, through KEDA's HPA.
"""

from collections import deque
from dataclasses import dataclass, field

from autoscaler.policy.types import Observation

from .base import Bounds
from .hpa import ExternalMetric, Hpa
from .hpa_limits import Unruled
from .series import outstanding_everywhere

DAY_S = 86_400.0
AHEAD_S = 1800.0
# A look back may miss its moment by this much: longer than any gap between syncs.
MATCH_S = 60.0


@dataclass(slots=True, kw_only=True)
class _LargerOfThen:
    """What was outstanding, for a season."""

    season_s: float
    _past: deque[tuple[float, float]] = field(default_factory=deque)

    def total(self, seen: Observation, now_s: float) -> float | None:
        now = outstanding_everywhere(seen)
        self._past.append((now_s, now))
        back_s = now_s - self.season_s + AHEAD_S
        while len(self._past) > 1 and self._past[1][0] <= back_s:
            self._past.popleft()
        then_s, then = self._past[0]
        return max(now, then) if abs(then_s - back_s) <= MATCH_S else now


def seasonal_naive(bounds: Bounds, *, target_requests: float, season_s: float = DAY_S) -> Hpa:
    """`target_requests` outstanding per replica."""
    memory = _LargerOfThen(season_s=season_s)
    metric = ExternalMetric(name="outstanding, now or a season ago", total=memory.total, target=target_requests)
    return Hpa(metrics=(metric,), limits=Unruled(bounds=bounds))
