"""LoRA adapters on a replica: how many serve at once, which are loaded, and what loading costs.

As vLLM's V1 scheduler: a step holds at most `max_loras` different adapters, and a waiting request whose adapter would
be one more is passed over, not waited for. An adapter that comes in and is not loaded is loaded by the step that
brings it, which all wait for; `max_cpu_loras` is as many as `max_loras`, vLLM's default, and the one that was not used
for longest makes room.
"""

from collections import Counter
from dataclasses import dataclass

from .errors import BadEngineConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterLimits:
    """Of one replica."""

    max_loras: int
    load_s: float  # of one adapter

    def __post_init__(self) -> None:
        if self.max_loras < 1:
            raise BadEngineConfigError(f"AdapterLimits.max_loras is {self.max_loras}, must be at least 1")
        if not 0.0 <= self.load_s < float("inf"):
            raise BadEngineConfigError(f"AdapterLimits.load_s is {self.load_s}, must be finite and >= 0")


class AdapterSeats:
    """Who uses which adapter. Adapters are numbers from 1 on; 0 is the model itself, which takes no seat."""

    def __init__(self, limits: AdapterLimits) -> None:
        self._limits = limits
        self._users: Counter[int] = Counter()
        self._used_at: dict[int, int] = {}  # of each loaded one, the step after which it was last let go

    def fits(self, adapter: int) -> bool:
        """Whether a request with it may run now."""
        return adapter == 0 or adapter in self._users or len(self._users) < self._limits.max_loras

    def take(self, adapter: int) -> float:
        """A request with it runs; the time that loading takes."""
        if adapter == 0:
            return 0.0
        self._users[adapter] += 1
        if adapter in self._used_at:
            return 0.0
        if len(self._used_at) == self._limits.max_loras:
            idle = [(step, other) for other, step in self._used_at.items() if other not in self._users]
            del self._used_at[min(idle)[1]]
        self._used_at[adapter] = 0
        return self._limits.load_s

    def drop(self, adapter: int, step: int) -> None:
        """A request with it ended, or was preempted, after so many steps."""
        if adapter == 0:
            return
        self._users[adapter] -= 1
        if not self._users[adapter]:
            del self._users[adapter]
            self._used_at[adapter] = step
