"""ModelCache and NodeModelCache as plain values: what `cacheops.config` reads them into. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cacheops.budget import HIGH_RATIO, LOW_RATIO
from cacheops.model import ModelRef
from cacheops.stock import WantedTree


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWish:
    """One model of a node: what to fetch and what it is worth."""

    ref: ModelRef
    tree: WantedTree
    allow_unverified: bool = False
    content_digest: str = ""  # of what another node found where the source gives no digests; empty: not known
    is_labelled: bool = False  # the node's label still says that it is here: not to be evicted before that is false


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTask:
    """A NodeModelCache as plain values."""

    wishes: tuple[NodeWish, ...] = ()
    evict: tuple[str, ...] = ()  # keys of trees to give up though there is room
    quota_bytes: int | None = None
    high_ratio: float = HIGH_RATIO
    low_ratio: float = LOW_RATIO
    bytes_per_s: float = 0.0
    warm_bytes: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTask:
    """A ModelCache as plain values."""

    namespace: str
    name: str
    uid: str
    ref: ModelRef
    allow_unverified: bool = False
    node_selector: Mapping[str, str] = field(default_factory=dict)
    copies_min: int = 0
    copies_max: int | None = None
    is_pinned: bool = False
    ttl_s: int | None = None
    has_volume: bool = False
    storage_class: str = ""
    only_warm_nodes: bool = False
    generation: int = 0
