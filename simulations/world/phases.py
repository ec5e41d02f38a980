"""A start-up phase by phase: node, image, weights, loading, compilation, graphs, warm-up; weights share bandwidth."""

import heapq
import math
from dataclasses import dataclass
from random import Random

from autoscaler.policy.types import Tier
from simulations.world.downloads import Downloads
from simulations.world.startup import LOG_DEVIATION, Started


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Medians of lognormal draws, and how fast bytes move. The defaults are of an 8B model in bfloat16.

    Sources: compile 19 s (vllm-project/vllm pull 11005, 8B), 7.5 s from its cache, and graphs 17 s (issue 20264);
    object storage 2 GB/s per node (AWS CRT client's guides), NVMe 3 GB/s; nodes 60-120 s (cluster-autoscaler's
    scaling tests name the cloud's share). Replace each by what you measure.
    """

    provision_s: float = 0.0  # of a node that was never used here; 0: nodes are there
    image_s: float = 0.0  # of a node that never ran the image; 0: it is pre-pulled
    weights_bytes: float = 16.1e9
    origin_bytes_per_s: float = 2e9  # of all nodes together
    node_bytes_per_s: float = 1e9  # what network and disk of one node take
    disk_bytes_per_s: float = 3e9  # weights from the node's disk to the GPU
    init_s: float = 15.0  # imports, CUDA, workers
    compile_s: float = 19.0
    compile_cached_s: float = 7.5  # where the node has compiled it before
    graphs_s: float = 17.0
    warm_up_s: float = 3.0
    log_deviation: float = LOG_DEVIATION

    def __post_init__(self) -> None:
        for name in ("weights_bytes", "origin_bytes_per_s", "node_bytes_per_s", "disk_bytes_per_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Phases.{name} must be > 0 and finite, got {getattr(self, name)}")
        for name in ("provision_s", "image_s", "init_s", "compile_s", "compile_cached_s", "graphs_s", "warm_up_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"Phases.{name} must be ≥ 0 and finite, got {getattr(self, name)}")

    @property
    def cold_s(self) -> float:
        """A start-up alone on its origin, weights to come, node and image there."""
        fetch_s = self.weights_bytes / min(self.origin_bytes_per_s, self.node_bytes_per_s)
        return fetch_s + self.after_fetch_s(is_compiled=False)

    @property
    def warm_s(self) -> float:
        """A start-up on a node that has the weights, and compiled the model before."""
        return self.after_fetch_s(is_compiled=True)

    def after_fetch_s(self, *, is_compiled: bool) -> float:
        """From weights on disk to Ready."""
        compile_s = self.compile_cached_s if is_compiled else self.compile_s
        return self.weights_bytes / self.disk_bytes_per_s + self.init_s + compile_s + self.graphs_s + self.warm_up_s


class PhasedStarts:
    """Start-ups under way, on nodes that remember what they hold."""

    def __init__(self, phases: Phases, random: Random) -> None:
        self._phases, self._random = phases, random
        self._downloads = Downloads(
            origin_bytes_per_s=phases.origin_bytes_per_s, node_bytes_per_s=phases.node_bytes_per_s
        )
        self._fetches: list[tuple[float, int]] = []  # (at_s, node): to begin
        self._after_s: dict[int, list[tuple[int, float]]] = {}  # by node: slots that wait for its weights
        self._known: set[int] = set()
        self._warm: set[int] = set()

    @property
    def next_at_s(self) -> float:
        """When something begins or ends next."""
        return min(self._fetches[0][0] if self._fetches else math.inf, self._downloads.next_end_s)

    def tier(self, node: int) -> Tier:
        """What a start-up on this node would find."""
        return Tier.WARM if node in self._warm else Tier.COLD

    def hold(self, node: int) -> None:
        """The weights are on this node from the beginning."""
        self._known.add(node)
        self._warm.add(node)

    def begin(self, slot: int, node: int, now_s: float) -> float:
        """Start a replica; when it will be Ready, infinite while nobody knows."""
        luck = math.exp(self._phases.log_deviation * self._random.gauss(0.0, 1.0))
        before_s = 0.0 if node in self._known else luck * (self._phases.provision_s + self._phases.image_s)
        after_s = luck * self._phases.after_fetch_s(is_compiled=node in self._warm)
        self._known.add(node)
        if node in self._warm:
            return now_s + before_s + after_s
        if node not in self._after_s:
            heapq.heappush(self._fetches, (now_s + before_s, node))
        self._after_s.setdefault(node, []).append((slot, after_s))
        return math.inf

    def settle(self, now_s: float) -> list[Started]:
        """Begin and end what is due; who can be told when it will be Ready."""
        started: list[Started] = []
        while (at_s := self.next_at_s) <= now_s:
            if self._fetches and self._fetches[0][0] <= at_s:
                _, node = heapq.heappop(self._fetches)
                self._downloads.begin(node, self._phases.weights_bytes, at_s)
            for node in self._downloads.end(at_s):
                self._warm.add(node)
                waiting = self._after_s.pop(node, [])
                started += [Started(slot=slot, ready_at_s=at_s + after_s) for slot, after_s in waiting]
        return started
