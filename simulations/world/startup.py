"""How long a replica takes from being asked for to Ready, drawn per tier."""

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol

from autoscaler.policy.types import Tier

# Measured by llm-d's workload-variant-autoscaler (issue 1433): 110 s, and 52 s with the weights on the node's disk.
COLD_MEDIAN_S = 110.0
WARM_MEDIAN_S = 52.0
HOT_MEDIAN_S = 3.0  # waking from vLLM's sleep level 1
# Production load times (GenTD26) have P99 = 2.3 x P50: ln(2.3) / 2.326 of a lognormal.
LOG_DEVIATION = 0.358


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupTimes:
    """Medians of a lognormal draw; a deviation of 0 makes every start the same."""

    cold_s: float = COLD_MEDIAN_S
    warm_s: float = WARM_MEDIAN_S
    hot_s: float = HOT_MEDIAN_S
    log_deviation: float = LOG_DEVIATION

    def __post_init__(self) -> None:
        for name in ("cold_s", "warm_s", "hot_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"StartupTimes.{name} must be > 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.log_deviation < math.inf:
            raise ValueError(f"StartupTimes.log_deviation must be ≥ 0, got {self.log_deviation}")

    def draw_s(self, tier: Tier, random: Random) -> float:
        """One start-up."""
        median_s = {Tier.COLD: self.cold_s, Tier.WARM: self.warm_s, Tier.HOT: self.hot_s}[tier]
        return median_s * math.exp(self.log_deviation * random.gauss(0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A slot whose replica will be Ready then."""

    slot: int
    ready_at_s: float


class Starts(Protocol):
    """Start-ups under way, on nodes that remember what they hold."""

    @property
    def next_at_s(self) -> float: ...
    def tier(self, node: int) -> Tier: ...
    def hold(self, node: int) -> None: ...
    def begin(self, slot: int, node: int, now_s: float) -> float: ...
    def settle(self, now_s: float) -> list[Started]: ...


class DrawnStarts:
    """Start-ups by tier alone: a node that ran the model before keeps its weights."""

    def __init__(self, times: StartupTimes, random: Random) -> None:
        self._times, self._random = times, random
        self._warm: set[int] = set()

    @property
    def next_at_s(self) -> float:
        """Nothing happens between the beginning and the end."""
        return math.inf

    def tier(self, node: int) -> Tier:
        """What a start-up on this node would find."""
        return Tier.WARM if node in self._warm else Tier.COLD

    def hold(self, node: int) -> None:
        """The weights are on this node from the beginning."""
        self._warm.add(node)

    def begin(self, slot: int, node: int, now_s: float) -> float:
        """Start a replica; when it will be Ready."""
        del slot
        ready_at_s = now_s + self._times.draw_s(self.tier(node), self._random)
        self._warm.add(node)
        return ready_at_s

    def settle(self, now_s: float) -> list[Started]:
        """Everything is known from the start."""
        del now_s
        return []
