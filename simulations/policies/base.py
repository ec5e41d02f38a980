"""What a policy is to the simulator: it looks at an `Observation` now and then and wishes for a number."""

from dataclasses import dataclass
from typing import Protocol

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """So many replicas; `victim` is the pod to go first, where the policy chooses one."""

    replicas: int
    victim: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How few and how many replicas a policy may ask for."""

    low: int = 1
    high: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"bounds need 1 ≤ min ≤ max, got {self.low} and {self.high}")

    def clamp(self, replicas: int) -> int:
        """The nearest allowed number."""
        return min(self.high, max(self.low, replicas))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often the sensors read the pods, and how often the policy looks at what they read."""

    scrape_s: float
    decide_s: float
    reads_rates: bool = True  # False: gauges only, which spares the sensors their windows


class Policy(Protocol):
    """One service's autoscaler; it may remember what it saw."""

    @property
    def cadence(self) -> Cadence: ...

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """The number wanted now; None leaves things as they are."""
        ...


def ready_pods(seen: Observation) -> list[PodSeen]:
    """Those that serve."""
    return [pod for pod in seen.pods if pod.phase is PodPhase.READY]


def samples(seen: Observation) -> list[PodSignals]:
    """What the serving pods said, those that said anything."""
    return [pod.signals for pod in ready_pods(seen) if pod.signals is not None]
