"""AIBrix' own autoscalers, APA and KPA, on the KV cache usage of its samples (target 0.5).

After `pkg/controller/podautoscaler/{algorithm/apa.go,algorithm/kpa.go,context/context.go,podautoscaler_controller.go}`
of vllm-project/aibrix v0.7.0-rc.3. `as_released` keeps three bugs of that release: KPA divides a mean per pod by a
target per pod and so forgets how many pods there are; its panic has no memory; and the cooldown takes the highest
recent number upwards and the lowest downwards, where one low reading in 300 s decides. Without it the three are as
documented.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.policy.types import Observation

from .base import Bounds, Cadence, Wish, ready_pods
from .hpa import Reading
from .series import mean_of

RESYNC_S = 10.0
STABLE_S, PANIC_S = 180.0, 60.0
TOLERANCE_RATIO = 0.1
MAX_UP_RATIO = MAX_DOWN_RATIO = 2.0
PANIC_RATIO = 2.0
UP_COOLDOWN_S, DOWN_COOLDOWN_S = 0.0, 300.0


class Strategy(StrEnum):
    """`scalingStrategy`."""

    APA = "APA"
    KPA = "KPA"


def apa_replicas(use_per_pod: float, target: float, current: int) -> int:
    """Beyond the tolerance, in proportion, to at most twice and at least half."""
    ratio = use_per_pod / target
    if ratio > 1 + TOLERANCE_RATIO:
        return min(math.ceil(current * ratio), math.ceil(MAX_UP_RATIO * current))
    if ratio < 1 - TOLERANCE_RATIO:
        return max(math.ceil(current * ratio), math.floor(current / MAX_DOWN_RATIO))
    return current


def kpa_replicas(stable: float, panic: float, target: float, ready: int) -> tuple[int, bool]:
    """The number, and whether this tick panics."""
    most, least = max(1, math.ceil(MAX_UP_RATIO * ready)), math.floor(ready / MAX_DOWN_RATIO)
    by_stable = min(max(math.ceil(stable / target), least), most)
    by_panic = min(max(math.ceil(panic / target), least), most)
    panics = stable <= 0 or panic / stable > PANIC_RATIO
    return (max(by_stable, by_panic), True) if panics else (by_stable, False)


@dataclass(slots=True, kw_only=True)
class Aibrix:
    """One PodAutoscaler."""

    bounds: Bounds
    strategy: Strategy
    read: Reading
    target: float
    as_released: bool = True
    _seen: deque[tuple[float, float]] = field(default_factory=deque)
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)
    _panic_until_s: float = -math.inf
    _panic_highest: int = 0

    @property
    def cadence(self) -> Cadence:
        """It reads the pods' pages itself when it reconciles."""
        return Cadence(scrape_s=RESYNC_S, decide_s=RESYNC_S, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One reconciliation; without any reading nothing happens."""
        value = mean_of(self.read)(seen, now_s)
        if value is None:
            return None
        self._seen.append((now_s, value))
        while self._seen[0][0] <= now_s - STABLE_S:
            self._seen.popleft()
        current = seen.replicas
        if self.strategy is Strategy.APA:
            wanted = apa_replicas(self._mean(now_s, STABLE_S), self.target, current)
        else:
            wanted = self._kpa(now_s, len(ready_pods(seen)))
        wanted = self.bounds.clamp(wanted)
        return Wish(replicas=self._cooled(wanted, current, now_s), reason=f"{self.strategy} asks for {wanted}")

    def _kpa(self, now_s: float, ready: int) -> int:
        pods = 1 if self.as_released else ready
        stable, panic = pods * self._mean(now_s, STABLE_S), pods * self._mean(now_s, PANIC_S)
        wanted, panics = kpa_replicas(stable, panic, self.target, ready)
        if self.as_released:
            return wanted
        if panics:
            self._panic_until_s = now_s + STABLE_S
        if now_s > self._panic_until_s:
            self._panic_highest = 0
            return wanted
        self._panic_highest = max(self._panic_highest, wanted)
        return self._panic_highest

    def _cooled(self, wanted: int, current: int, now_s: float) -> int:
        self._recommended.append((now_s, wanted))
        while self._recommended[0][0] < now_s - max(UP_COOLDOWN_S, DOWN_COOLDOWN_S):
            self._recommended.popleft()
        if wanted == current:
            return wanted
        is_up = wanted > current
        window_s = UP_COOLDOWN_S if is_up else DOWN_COOLDOWN_S
        recent = [number for at_s, number in self._recommended if at_s >= now_s - window_s]
        takes_highest = is_up if self.as_released else not is_up
        return max(recent) if takes_highest else min(recent)

    def _mean(self, now_s: float, window_s: float) -> float:
        values = [value for at_s, value in self._seen if at_s > now_s - window_s]
        return sum(values) / len(values)
