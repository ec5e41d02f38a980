"""A start-up phase by phase: node, image, weights, loading, compilation, graphs, warm-up; weights share bandwidth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from autoscaler.policy.types import Tier
from simulations.world.host_memory import HostMemory
from simulations.world.starts.caches import Keeping, NodeCaches
from simulations.world.starts.downloads import Downloads
from simulations.world.starts.holdings import Holdings, alone
from simulations.world.starts.sleepers import Sleepers
from simulations.world.starts.startup import (
    HOT_MEDIAN_S,
    LOG_DEVIATION,
    WEIGHTS_BYTES,
    Deviations,
    Started,
    StartFigures,
    StartLog,
    deviations,
)
from simulations.world.starts.stores import Arrival, Stores

# What varies is what follows the fetch: the same work whether weights came or were there. The fetch has its own luck.
SAME_WORK = Deviations(cold=LOG_DEVIATION, warm=LOG_DEVIATION)
_POSITIVE = ("weights_bytes", "origin_bytes_per_s", "node_bytes_per_s", "disk_bytes_per_s", "memory_bytes_per_s")
_NOT_NEGATIVE = (
    "provision_s",
    "image_s",
    "init_s",
    "compile_s",
    "compile_cached_s",
    "graphs_s",
    "warm_up_s",
    "hot_s",
    "sleep_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Medians of lognormal draws, and how fast bytes move. The defaults are of an 8B model in bfloat16.

    Sources: compile 19 s (vllm-project/vllm pull 11005, 8B), 7.5 s from its cache, and graphs 17 s (issue 20264);
    object storage 2 GB/s per node (AWS CRT client's guides), NVMe 3 GB/s, the page cache 12 GB/s (vllm-project/vllm
    pull 52462: 29.5 GB in 2.3 s); nodes 60-120 s (cluster-autoscaler's scaling tests name the cloud's share). What no
    phase accounts for is in init: a warm start then takes the 52 s that llm-d measured (`WARM_MEDIAN_S`). Replace
    each by what you measure.
    """

    provision_s: float = 0.0  # of a node that was never used here; 0: nodes are there
    image_s: float = 0.0  # of a node that never ran the image; 0: it is pre-pulled
    weights_bytes: float = WEIGHTS_BYTES
    origin_bytes_per_s: float = 2e9  # of all nodes together
    node_bytes_per_s: float = 1e9  # what network and disk of one node take
    disk_bytes_per_s: float = 3e9  # weights from the node's disk to the GPU
    memory_bytes_per_s: float = 12e9  # weights from the node's page cache to the GPU
    init_s: float = 20.0  # imports, CUDA, workers
    compile_s: float = 19.0
    compile_cached_s: float = 7.5  # where the node has compiled it before
    graphs_s: float = 17.0
    warm_up_s: float = 3.0
    hot_s: float = HOT_MEDIAN_S  # to wake an engine that sleeps
    sleep_s: float = 0.0  # so long one sleeps where its replica was; 0: it ends
    log_deviation: Deviations | float = SAME_WORK
    caches: NodeCaches = field(default_factory=NodeCaches)

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Phases.{name} must be > 0 and finite, got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"Phases.{name} must be ≥ 0 and finite, got {getattr(self, name)}")
        deviations(self.log_deviation)
        if self.provision_s and self.caches.keep in (Keeping.PREFETCH, Keeping.ALL_NODES):
            raise ValueError(
                f"Phases.provision_s must be 0 with caches that keep {self.caches.keep}: "
                f"nothing is fetched ahead for nodes that are not there, got {self.provision_s}"
            )

    @property
    def cold_s(self) -> float:
        """A start-up alone on its origin, weights to come, node and image there."""
        fetch_s = self.weights_bytes / min(self.origin_bytes_per_s, self.node_bytes_per_s)
        return fetch_s + self.after_fetch_s(is_compiled=False)

    @property
    def warm_s(self) -> float:
        """A start-up on a node that has the weights, and compiled the model before."""
        return self.after_fetch_s(is_compiled=True)

    def keeping(self, keep: Keeping) -> "Phases":
        """The same with nodes that keep weights otherwise; ahead on all of them, where it was not ahead on some."""
        nodes = self.caches.prefetch_nodes if keep is Keeping.PREFETCH else None
        return replace(self, caches=replace(self.caches, keep=keep, prefetch_nodes=nodes))

    def line(self) -> Downloads:
        """The way of all bytes to all nodes, with nothing on it."""
        return Downloads(origin_bytes_per_s=self.origin_bytes_per_s, node_bytes_per_s=self.node_bytes_per_s)

    def after_fetch_s(self, *, is_compiled: bool, is_in_memory: bool = False, is_read_ahead: bool = False) -> float:
        """From weights on the node to Ready. Read ahead they leave the disk while the engine starts."""
        compile_s = self.compile_cached_s if is_compiled else self.compile_s
        from_disk_s, from_memory_s = (
            self.weights_bytes / rate for rate in (self.disk_bytes_per_s, self.memory_bytes_per_s)
        )
        loaded_s = self.init_s + (from_memory_s if is_in_memory else from_disk_s)
        if is_read_ahead:
            loaded_s = min(loaded_s, max(self.init_s + from_memory_s, from_disk_s))
        return loaded_s + compile_s + self.graphs_s + self.warm_up_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    node: int
    luck: float  # a factor of every phase but the fetch, whose luck is the others on the line
    is_compiled: bool


class PhasedStarts:
    """Start-ups under way, on nodes that remember what they hold and what was compiled there."""

    def __init__(
        self,
        phases: Phases,
        random: Random,
        nodes: Sequence[int] = (),
        *,
        holdings: Holdings | None = None,
        memory: HostMemory | None = None,
    ) -> None:
        """`nodes`: all that may ever be, in the order in which replicas go to them; each is there once it came.

        `holdings`: on nodes that other services use, too; then their files know of the same `memory`.
        """
        self._phases, self._random = phases, random
        stores, size_bytes = Stores(phases.caches, phases.line(), memory), round(phases.weights_bytes)
        self._holdings = holdings or alone(stores, phases.caches, size_bytes=size_bytes, nodes=nodes, random=random)
        self._begun: dict[int, _Begun] = {}  # by slot: those whose weights are to come
        self._sleepers = Sleepers(phases.sleep_s, size_bytes=phases.weights_bytes, memory=memory)
        self._known: set[int] = set()
        self._compiled: set[int] = set()
        self._log = StartLog()

    @property
    def next_at_s(self) -> float:
        """When something begins or ends next."""
        return min(self._holdings.next_at_s, self._sleepers.next_at_s)

    @property
    def are_told(self) -> bool:
        """Whether a controller knows where weights lie: node agents tell it."""
        return self._phases.caches.keep is not Keeping.NONE

    def tier(self, node: int) -> Tier:
        """What a start-up on this node would find; weights in its memory are warm as well, and load faster."""
        return Tier.WARM if self._holdings.holds(node) else Tier.COLD

    def is_hot(self, slot: int, now_s: float) -> bool:
        """Whether an engine sleeps there."""
        return self._sleepers.is_asleep(slot, now_s)

    def hold(self, node: int, slot: int) -> None:
        """A replica has long been ready here."""
        self._known.add(node)
        self._compiled.add(node)
        self._sleepers.run(slot, node, -math.inf)
        self._holdings.hold(node, slot)

    def begin(self, slot: int, node: int, now_s: float) -> float:
        """Start a replica; when it will be Ready, infinite while nobody knows."""
        tier = Tier.HOT if self._sleepers.wake(slot, now_s) else self.tier(node)
        luck = deviations(self._phases.log_deviation).luck(tier, self._random)
        self._log.begin(slot, tier, now_s)
        if tier is Tier.HOT:
            return self._is_ready_at(slot, node, now_s + luck * self._phases.hot_s)
        before_s = 0.0 if node in self._known else luck * (self._phases.provision_s + self._phases.image_s)
        is_compiled = node in self._compiled and self._phases.caches.keep is not Keeping.NONE
        self._known.add(node)
        self._begun[slot] = _Begun(node=node, luck=luck, is_compiled=is_compiled)
        arrival = self._holdings.need(node, slot, at_s=now_s + before_s, now_s=now_s)
        return math.inf if arrival is None else self._ready_at_s(arrival)

    def settle(self, now_s: float) -> list[Started]:
        """Begin and end what is due; who can be told when it will be Ready."""
        for slot in self._sleepers.expire(now_s):
            self._holdings.leave(slot, now_s)
        return [
            Started(slot=arrival.slot, ready_at_s=self._ready_at_s(arrival)) for arrival in self._holdings.settle(now_s)
        ]

    def end(self, slot: int, now_s: float) -> None:
        """A replica is gone, whether it was Ready or not."""
        self._begun.pop(slot, None)
        self._log.end(slot, now_s)
        if not self._sleepers.rest(slot, now_s):  # who sleeps has its weights mounted
            self._holdings.leave(slot, now_s)

    def come(self, node: int, now_s: float) -> None:
        """A node is there, and holds nothing."""
        self._holdings.come(node, now_s)

    def forget(self, node: int, now_s: float) -> None:
        """A node is gone; one that takes its place holds nothing."""
        self._sleepers.forget(node)
        self._known.discard(node)
        self._compiled.discard(node)
        self._holdings.forget(node, now_s)

    def figures(self, now_s: float) -> StartFigures:
        """What came of all of them so far."""
        return StartFigures(
            by_tier=self._log.by_tier(now_s),
            fetched_bytes=self._holdings.fetched_bytes,
            evictions=self._holdings.evictions,
        )

    def _ready_at_s(self, arrival: Arrival) -> float:
        begun = self._begun.pop(arrival.slot)
        self._compiled.add(begun.node)
        after_s = self._phases.after_fetch_s(
            is_compiled=begun.is_compiled, is_in_memory=arrival.is_in_memory, is_read_ahead=arrival.is_read_ahead
        )
        ready_at_s = arrival.at_s + begun.luck * after_s
        return self._is_ready_at(arrival.slot, begun.node, ready_at_s, from_memory=arrival.is_in_memory)

    def _is_ready_at(self, slot: int, node: int, at_s: float, *, from_memory: bool = False) -> float:
        self._log.expect(slot, at_s, from_memory=from_memory)
        self._sleepers.run(slot, node, at_s)
        return at_s
