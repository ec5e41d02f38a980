"""What the nodes of a service keep of models: who decides it, how much room there is, and who else lives there."""

import math
from dataclasses import dataclass
from enum import StrEnum


class Keeping(StrEnum):
    """Who brings weights to a node, and what stays there."""

    NONE = "none"  # each pod fetches for itself, as with KServe's storage initializer: nothing outlives a pod
    ON_DEMAND = "on-demand"  # the first replica on a node fetches, and its weights stay until others need the room
    # Besides, a node agent fetches ahead on some nodes, as for a ModelCache, and reads into memory as an engine starts.
    PREFETCH = "prefetch"
    ALL_NODES = "all-nodes"  # ahead on all nodes and never evicted, as for KServe's LocalModelCache


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherModel:
    """A model of somebody else that runs now and then on each node, and whose weights want a place there."""

    name: str
    size_bytes: int
    uses_per_hour: float  # of each node, at times of a Poisson process
    use_s: float  # how long a use lasts, and keeps the weights from being evicted

    def __post_init__(self) -> None:
        if self.size_bytes < 1:
            raise ValueError(f"OtherModel.size_bytes of {self.name} must be ≥ 1, got {self.size_bytes}")
        for name in ("uses_per_hour", "use_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"OtherModel.{name} of {self.name} must be > 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCaches:
    """The caches of all nodes; `cacheops.plan` decides what comes and what goes."""

    keep: Keeping = Keeping.ON_DEMAND
    prefetch_nodes: int | None = None  # how many, where weights come ahead; None: all
    disk_bytes: int | None = None  # what the cache of one node may hold; None: whatever comes
    memory_bytes: int = 0  # of one node's page cache; 0: weights are read from the disk
    others: tuple[OtherModel, ...] = ()

    def __post_init__(self) -> None:
        if self.disk_bytes is not None and self.disk_bytes < 0:
            raise ValueError(f"NodeCaches.disk_bytes must be ≥ 0, got {self.disk_bytes}")
        if self.memory_bytes < 0:
            raise ValueError(f"NodeCaches.memory_bytes must be ≥ 0, got {self.memory_bytes}")
        if self.prefetch_nodes is not None and (self.keep is not Keeping.PREFETCH or self.prefetch_nodes < 1):
            raise ValueError(
                f"NodeCaches.prefetch_nodes goes with keep={Keeping.PREFETCH} and is ≥ 1, "
                f"got {self.prefetch_nodes} with keep={self.keep}"
            )
        if len(names := {other.name for other in self.others}) < len(self.others):
            raise ValueError(f"NodeCaches.others need names of their own, got {', '.join(sorted(names))} and one twice")

    def is_ahead(self, node_index: int) -> bool:
        """Whether weights come to this node, of all in their order, before a replica needs them."""
        if self.keep is Keeping.PREFETCH:
            return self.prefetch_nodes is None or node_index < self.prefetch_nodes
        return self.keep is Keeping.ALL_NODES
