"""Caches, nodes and services as one pass over the model caches sees them. Values only.

Times are Unix seconds, sizes bytes. A *key* is the folder of a model: `storage_key` of its source's URI.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cacheops.tasks import CacheTask, NodeTask

# Three heartbeats of an agent missed: it does not run, and its disk may be another one when it comes back.
AGENT_SILENT_S = 180.0


class Phase(StrEnum):
    """How far a model is on a node, in the agent's words."""

    PENDING = "Pending"
    FETCHING = "Fetching"
    READY = "Ready"
    FAILED = "Failed"
    EVICTING = "Evicting"
    IDLE = "Idle"  # there, and not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a source was resolved to, once, for all nodes."""

    request: str  # hash of what was asked for
    revision: str
    digest: str
    files: int
    size_bytes: int
    unsworn: int
    at_s: float
    content_digest: str = ""  # of the bytes that a node found first, where files have no digests


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One ModelCache that can be used, and what it was resolved to."""

    task: CacheTask
    created_at_s: float
    resolved: Resolved

    @property
    def name(self) -> str:
        """`namespace/name`."""
        return f"{self.task.namespace}/{self.task.name}"

    @property
    def key(self) -> str:
        """The folder."""
        return self.task.ref.storage_key


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSeen:
    """One model on a node, as its agent says."""

    key: str
    phase: str
    digest: str = ""
    reason: str = ""
    message: str = ""
    size_bytes: int = 0
    fetched_bytes: int = 0
    fetch_s: float | None = None
    remaining_s: float | None = None
    used_at_s: float | None = None
    leases: int = 0
    content_digest: str = ""  # of its bytes, where the source gave none for some files

    @property
    def is_published(self) -> bool:
        """Whether its bytes are whole and stay."""
        return self.phase in (Phase.READY, Phase.IDLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOrder:
    """A NodeModelCache: what the node was told, and what its agent says."""

    name: str
    version: str
    task: NodeTask | None  # None: cannot be read, and is written anew
    owner_uid: str = ""  # of the Node it goes with
    observed_generation: int = 0  # of the spec that the agent has read
    heard_at_s: float | None = None  # when its agent last wrote
    limit_bytes: int = 0  # the most that the agent may hold now
    told_at_s: Mapping[str, float] | None = None  # by key, those of lately only; None: nobody wrote it down
    trees: Mapping[str, TreeSeen] = field(default_factory=dict)  # by key

    @property
    def acknowledged(self) -> frozenset[str]:
        """Keys of trees that the agent knows to be labelled: it will not evict them before they no longer are."""
        if self.task is None or self.observed_generation < self.task.generation:
            return frozenset()
        return frozenset(wish.tree.key for wish in self.task.wishes if wish.is_labelled)

    def told_since_s(self, key: str) -> float | None:
        """Since when the node is told to hold a model; None: not known."""
        return None if self.told_at_s is None else self.told_at_s.get(key, 0.0)

    def is_heard(self, now_s: float) -> bool:
        """Whether its agent runs."""
        return self.heard_at_s is not None and now_s - self.heard_at_s <= AGENT_SILENT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeen:
    """One node that has, or may have, an agent."""

    name: str
    uid: str
    labels: Mapping[str, str]
    node_class: str = ""
    gpus: int = 0
    free_gpus: int = 0
    is_usable: bool = True
    quota_bytes: int | None = None  # of a LocalModelNodeGroup, or the controller's default
    order: NodeOrder | None = None

    @property
    def zone(self) -> str:
        """Its failure domain."""
        return self.labels.get("topology.kubernetes.io/zone", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """One service that reads a model."""

    service: str  # namespace/name
    key: str
    cache: str = ""  # namespace/name of the ModelCache that it reads through
    replicas: int  # now
    expected: int  # the most that may soon run: decided, forecast, and one more
    gpus: int  # per replica
    nodes: frozenset[str]  # where its pods may run, whatever is free there
    running: Mapping[str, int] = field(default_factory=dict)  # pods by node
    starting: frozenset[str] = frozenset()  # nodes on which a pod is starting
    is_growing: bool = False  # more replicas are decided than there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One model as all namespaces share it."""

    key: str
    digest: str
    cache: str  # namespace/name of the ModelCache that decides
    is_pinned: bool  # by any of its ModelCaches
    services: tuple[str, ...]  # that read it
