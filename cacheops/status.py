"""The shapes of `ModelCache.status` and `NodeModelCache.status`, as reports write them and the CRDs say."""

from typing import Required

from typing_extensions import TypedDict


class ConditionStatus(TypedDict, total=False):
    """One condition, as Kubernetes has them."""

    type: Required[str]
    """Ready: the nodes that should hold it do. Resolved: its files are known. Volume, Labelled: where they matter."""
    status: str
    """True, False or Unknown."""
    reason: str
    """Name of the reason."""
    message: str
    """The reason in words."""
    lastTransitionTime: str
    """Since when the status is this."""
    observedGeneration: int
    """Generation of the spec it is about."""


class ResolvedStatus(TypedDict, total=False):
    """The immutable revision that every node fetches."""

    revision: str
    """Commit of a hub, version of a bucket; empty where a source has neither."""
    digest: str
    """Digest of the manifest: of all files with their sizes and digests."""
    files: int
    """Number of files."""
    bytes: int
    """Size of all files."""
    unsworn: int
    """Files that the source gives no digest for: trusted on first use."""
    request: str
    """Hash of what was asked for; what it was resolved to stays in force until this changes."""
    contentDigest: str
    """Digest of the bytes that were trusted first, where files have none: every node must find the same."""
    time: str
    """When it was resolved."""


class CountStatus(TypedDict, total=False):
    """Nodes by what they have."""

    wanted: int
    """Nodes that should hold the model."""
    ready: int
    """Nodes that hold it, verified."""
    fetching: int
    """Nodes that fetch it."""
    failed: int
    """Nodes whose last fetch failed."""


class PlaceStatus(TypedDict, total=False):
    """One node."""

    node: str
    """Name of the node."""
    phase: str
    """What the node's agent says."""
    reason: str
    """Why it is not Ready; else why the node was chosen."""
    percent: int
    """Share of the bytes that are there."""


class ModelCacheStatus(TypedDict, total=False):
    """What became of a ModelCache."""

    observedGeneration: int
    """Generation of the spec that this is about."""
    resolved: ResolvedStatus
    """What the source was resolved to, once, for all nodes."""
    nodes: CountStatus
    """Nodes by what they have."""
    places: list[PlaceStatus]
    """Nodes that should hold the model; at most 256."""
    claim: str
    """PersistentVolumeClaim through which pods read it."""
    retryAt: str
    """When a source that could not be resolved is asked again."""
    reason: str
    """Reason of the most telling condition."""
    summary: str
    """Ready and wanted nodes, such as 2/3."""
    size: str
    """Size of all files, for people."""
    conditions: list[ConditionStatus]
    """Ready, Resolved, and where they matter Volume and Labelled."""


class ModelStatus(TypedDict, total=False):
    """One model on this node."""

    key: str
    """Folder of the model: 16 hex digits of its URI's sha256."""
    digest: str
    """Digest of the manifest that is there, or is being fetched."""
    phase: str
    """Pending, Fetching, Ready, Failed, Evicting, or Idle: here, and not asked for."""
    reason: str
    """Why."""
    message: str
    """The reason in words."""
    bytes: int
    """Size of the model."""
    fetchedBytes: int
    """Bytes that are there, verified or staged."""
    bytesPerSecond: int
    """Speed of the fetch."""
    remainingSeconds: int
    """Expected until the fetch is done."""
    fetchSeconds: float
    """What fetching all of it takes, by the last fetch that brought at least half of it in one go."""
    lastUsed: str
    """When a pod was last seen to have it mounted."""
    leases: int
    """Mounts right now."""
    contentDigest: str
    """Digest of the bytes that are there, where the source gave none for some files."""
    retryAt: str
    """When a failed fetch is tried again."""


class DiskStatus(TypedDict, total=False):
    """The file system under the cache."""

    capacityBytes: int
    """Size of the file system."""
    freeBytes: int
    """Free on it."""
    heldBytes: int
    """Held by the cache, staging included."""
    limitBytes: int
    """The most that the cache may hold now: quota, watermark and the kubelet's own threshold less 5 points."""


class NodeModelCacheStatus(TypedDict, total=False):
    """What a node's agent says."""

    observedGeneration: int
    """Generation of the spec that this is about."""
    time: str
    """When the agent wrote this; every 60 s at least."""
    agent: str
    """Version of the agent."""
    address: str
    """Where other agents fetch from it."""
    disk: DiskStatus
    """The file system under the cache."""
    models: list[ModelStatus]
    """Models on the node, and those it should hold; at most 256."""
    summary: str
    """Ready and wanted models, such as 3/4."""
    reason: str
    """The most telling reason of a model that is not Ready."""
