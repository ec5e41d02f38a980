"""How long a replica takes from being asked for to Ready, drawn per tier."""

import math
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Protocol

from autoscaler.policy.types import Tier
from simulations.world.host_memory import HostMemory
from simulations.world.starts.sleepers import Sleepers

# Measured by llm-d's workload-variant-autoscaler (issue 1433): 110 s, and 52 s with the weights on the node's disk.
COLD_MEDIAN_S = 110.0
WARM_MEDIAN_S = 52.0
WEIGHTS_BYTES = 16.1e9  # of an 8B model in bfloat16
HOT_MEDIAN_S = 3.0  # waking from vLLM's sleep level 1
# Load times in production (GenTD26: alibaba/clusterdata, cluster-trace-v2026-GenAI; Stable Diffusion), as a lognormal,
# whose P99 is P50 x exp(2.326 deviation). Base models, 7,531 of them: P50 22.7 s, P99 51.9 s. Their adapters, which are
# small and mostly near: 4.4 s and 8.2 s. Neither is said to be from elsewhere or from the node: the nearest there is.
LOG_DEVIATION = 0.358
WARM_LOG_DEVIATION = 0.268
# llm-d's fast-model-actuation (issue 445) tells of 2 to 3 s for a wake-up: P5 and P95.
HOT_LOG_DEVIATION = 0.123


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviations:
    """Of the logarithm of start-up times, by tier."""

    cold: float = LOG_DEVIATION
    warm: float = WARM_LOG_DEVIATION
    hot: float = HOT_LOG_DEVIATION

    def __post_init__(self) -> None:
        for name in ("cold", "warm", "hot"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"log_deviation must be ≥ 0, got {getattr(self, name)} of {name} starts")

    def luck(self, tier: Tier, random: Random) -> float:
        """A factor of a start-up's time, of median 1."""
        deviation = {Tier.COLD: self.cold, Tier.WARM: self.warm, Tier.HOT: self.hot}[tier]
        return math.exp(deviation * random.gauss(0.0, 1.0))


def deviations(given: Deviations | float) -> Deviations:
    """One for all tiers, or one for each."""
    return given if isinstance(given, Deviations) else Deviations(cold=given, warm=given, hot=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupTimes:
    """Medians of a lognormal draw; a deviation of 0 makes every start the same."""

    cold_s: float = COLD_MEDIAN_S
    warm_s: float = WARM_MEDIAN_S
    hot_s: float = HOT_MEDIAN_S
    sleep_s: float = 0.0  # so long an engine sleeps where its replica was, and is woken by a start; 0: it ends
    weights_bytes: float = WEIGHTS_BYTES  # what one that sleeps holds of its node's memory
    log_deviation: Deviations | float = field(default_factory=Deviations)

    def __post_init__(self) -> None:
        for name in ("cold_s", "warm_s", "hot_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"StartupTimes.{name} must be > 0 and finite, got {getattr(self, name)}")
        if not 0 < self.weights_bytes < math.inf:
            raise ValueError(f"StartupTimes.weights_bytes must be > 0 and finite, got {self.weights_bytes}")
        if not 0 <= self.sleep_s < math.inf:
            raise ValueError(f"StartupTimes.sleep_s must be ≥ 0 and finite, got {self.sleep_s}")
        deviations(self.log_deviation)

    def draw_s(self, tier: Tier, random: Random) -> float:
        """One start-up."""
        median_s = {Tier.COLD: self.cold_s, Tier.WARM: self.warm_s, Tier.HOT: self.hot_s}[tier]
        return median_s * deviations(self.log_deviation).luck(tier, random)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A slot whose replica will be Ready then."""

    slot: int
    ready_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartsOfTier:
    """Start-ups that ended in a Ready replica, of one tier."""

    tier: Tier
    from_memory: bool  # weights were read from the node's page cache, not from its disk
    count: int
    median_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFigures:
    """What came of all start-ups of a run."""

    by_tier: tuple[StartsOfTier, ...] = ()
    fetched_bytes: float = 0.0  # what the origin gave to all nodes; 0 where start-ups have no phases
    evictions: int = 0  # of the service's weights, from nodes where no replica was


class StartLog:
    """When each began and was Ready."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[Tier, float]] = {}  # by slot
        self._ready: dict[int, tuple[Tier, bool, float, float]] = {}  # by slot: at when, and how long it took
        self._took_s: dict[tuple[Tier, bool], list[float]] = {}

    def begin(self, slot: int, tier: Tier, now_s: float) -> None:
        """A start-up begins."""
        self._begun[slot] = (tier, now_s)

    def expect(self, slot: int, ready_at_s: float, *, from_memory: bool) -> None:
        """It is known when it will be Ready."""
        tier, begun_s = self._begun.pop(slot)
        # What was just fetched is in memory, too, but then the fetch is what took long.
        self._ready[slot] = (tier, from_memory and tier is Tier.WARM, ready_at_s, ready_at_s - begun_s)

    def end(self, slot: int, now_s: float) -> None:
        """The replica is gone; who was never Ready does not count."""
        self._begun.pop(slot, None)
        if (found := self._ready.pop(slot, None)) is not None and found[2] <= now_s:
            self._took_s.setdefault(found[:2], []).append(found[3])

    def by_tier(self, now_s: float) -> tuple[StartsOfTier, ...]:
        """Those that were Ready by then, the fastest tier first."""
        for slot in [slot for slot, found in self._ready.items() if found[2] <= now_s]:
            self.end(slot, now_s)
        order = sorted(self._took_s.items(), key=lambda item: (list(Tier).index(item[0][0]), not item[0][1]))
        return tuple(
            StartsOfTier(tier=tier, from_memory=from_memory, count=len(took_s), median_s=median(took_s))
            for (tier, from_memory), took_s in order
        )


class Starts(Protocol):
    """Start-ups under way, on nodes that remember what they hold."""

    @property
    def next_at_s(self) -> float: ...
    @property
    def are_told(self) -> bool: ...
    def tier(self, node: int) -> Tier: ...
    def is_hot(self, slot: int, now_s: float) -> bool: ...
    def hold(self, node: int, slot: int) -> None: ...
    def begin(self, slot: int, node: int, now_s: float) -> float: ...
    def settle(self, now_s: float) -> list[Started]: ...
    def end(self, slot: int, now_s: float) -> None: ...
    def come(self, node: int, now_s: float) -> None: ...
    def forget(self, node: int, now_s: float) -> None: ...
    def figures(self, now_s: float) -> StartFigures: ...


class DrawnStarts:
    """Start-ups by tier alone: a node that ran the model before keeps its weights."""

    def __init__(self, times: StartupTimes, random: Random, memory: HostMemory | None = None) -> None:
        self._times, self._random = times, random
        self._warm: set[int] = set()
        self._sleepers = Sleepers(times.sleep_s, size_bytes=times.weights_bytes, memory=memory)
        self._log = StartLog()

    @property
    def next_at_s(self) -> float:
        """When an engine has slept for too long; nothing else happens between the beginning and the end."""
        return self._sleepers.next_at_s

    @property
    def are_told(self) -> bool:
        """Whether a controller knows where weights lie: nobody tells it."""
        return False

    def tier(self, node: int) -> Tier:
        """What a start-up on this node would find."""
        return Tier.WARM if node in self._warm else Tier.COLD

    def is_hot(self, slot: int, now_s: float) -> bool:
        """Whether an engine sleeps there."""
        return self._sleepers.is_asleep(slot, now_s)

    def hold(self, node: int, slot: int) -> None:
        """A replica has long been ready here."""
        self._warm.add(node)
        self._sleepers.run(slot, node, -math.inf)

    def begin(self, slot: int, node: int, now_s: float) -> float:
        """Start a replica; when it will be Ready."""
        tier = Tier.HOT if self._sleepers.wake(slot, now_s) else self.tier(node)
        ready_at_s = now_s + self._times.draw_s(tier, self._random)
        self._warm.add(node)
        self._sleepers.run(slot, node, ready_at_s)
        self._log.begin(slot, tier, now_s)
        self._log.expect(slot, ready_at_s, from_memory=False)
        return ready_at_s

    def settle(self, now_s: float) -> list[Started]:
        """Everything is known from the start, but who sleeps no more."""
        self._sleepers.expire(now_s)
        return []

    def end(self, slot: int, now_s: float) -> None:
        """A replica is gone, whether it was Ready or not."""
        self._log.end(slot, now_s)
        self._sleepers.rest(slot, now_s)

    def come(self, node: int, now_s: float) -> None:
        """A node is there, and holds nothing: as one that nobody used yet."""

    def forget(self, node: int, now_s: float) -> None:
        """A node is gone; one that takes its place holds nothing."""
        del now_s
        self._warm.discard(node)
        self._sleepers.forget(node)

    def figures(self, now_s: float) -> StartFigures:
        """What came of all of them so far."""
        return StartFigures(by_tier=self._log.by_tier(now_s))
