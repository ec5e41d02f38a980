"""What a node should hold, holds, and does about it: the values that `cacheops.plan` takes and gives. Pure.

A tree is one model at one revision: `key` is its folder (`storage_key` of its URI), `digest` its manifest's.
"""

from dataclasses import dataclass
from enum import StrEnum

# What an unwanted tree is still worth: somebody used it, and comes back with this chance, halving every day.
COMEBACK_RATIO, COMEBACK_HALF_LIFE_S = 0.10, 86_400.0
# Bytes per second a fetch is expected to reach where nobody measured: one busy 10 GbE link shared by a few nodes.
FETCH_PRIOR_BYTES_PER_S = 200e6


class Verb(StrEnum):
    """What is to be done with a tree."""

    FETCH = "Fetch"
    KEEP = "Keep"
    EVICT = "Evict"
    WARM = "Warm"  # read into the page cache
    DISCARD = "Discard"  # what a fetch left in staging
    WAIT = "Wait"  # wanted and absent, but not now


class Cause(StrEnum):
    """Why. Stable names, for status, metrics and `warmtide cache plan`."""

    WANTED = "Wanted"
    RESUMES = "Resumes"
    REVISION_CHANGED = "RevisionChanged"
    PINNED = "Pinned"
    IN_USE = "InUse"
    TOO_YOUNG = "TooYoung"
    ROOM_ENOUGH = "RoomEnough"
    DISK_PRESSURE = "DiskPressure"
    MAKES_ROOM = "MakesRoom"
    STARTS_SOON = "StartsSoon"
    PARTIAL_EXPIRED = "PartialExpired"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    BACKING_OFF = "BackingOff"
    GIVEN_UP = "GivenUp"  # by order of the controller
    NOT_CLAIMED = "NotClaimed"  # the folder is not ours to delete from
    MOUNTS_UNSEEN = "MountsUnseen"  # any tree may be in use


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTree:
    """A model this node should hold, and what it is worth to have it."""

    key: str
    digest: str
    size_bytes: int
    need_ratio: float = 1.0  # chance that it is needed on this node before the planning horizon
    refetch_s: float | None = None  # measured or estimated; None: by size
    replicas: int = 1  # that would wait for the fetch
    is_pinned: bool = False
    is_due: bool = False  # a replica is about to start: bring it into the page cache
    retry_at_s: float = 0.0  # the last fetch failed: not before

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or self.replicas < 0:
            raise ValueError(f"wanted tree {self.key}: size_bytes {self.size_bytes}, replicas {self.replicas}")
        if not 0 <= self.need_ratio <= 1:
            raise ValueError(f"wanted tree {self.key}: need_ratio {self.need_ratio} is no share")

    @property
    def value_s(self) -> float:
        """Replica-seconds that are expected to be lost without it."""
        refetch_s = self.size_bytes / FETCH_PRIOR_BYTES_PER_S if self.refetch_s is None else self.refetch_s
        return self.need_ratio * refetch_s * self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTree:
    """A published tree on this node's disk."""

    key: str
    digest: str
    size_bytes: int
    published_at_s: float
    used_at_s: float | None = None  # last seen mounted; None: never
    leases: int = 0  # mounts and open readers right now
    is_pinned: bool = False  # by hand, on this node
    is_warm: bool = False  # in the page cache, as far as known
    kept_for: Cause | None = None  # what forbids to evict anything from this cache now

    def comeback_value_s(self, now_s: float, line_bytes_per_s: float = FETCH_PRIOR_BYTES_PER_S) -> float:
        """What it is worth though nobody wants it, by how long ago it was of use, and how fast it could come again."""
        idle_s = max(0.0, now_s - max(self.published_at_s, self.used_at_s or 0.0))
        chance: float = COMEBACK_RATIO * 2.0 ** -(idle_s / COMEBACK_HALF_LIFE_S)
        return chance * self.size_bytes / line_bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """What an unfinished fetch left in staging."""

    digest: str
    size_bytes: int  # on disk now
    touched_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything the cache has on this node's disk."""

    trees: tuple[HeldTree, ...] = ()
    partials: tuple[Partial, ...] = ()

    @property
    def size_bytes(self) -> int:
        """All of it together."""
        return sum(tree.size_bytes for tree in self.trees) + sum(part.size_bytes for part in self.partials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, or to leave, and why."""

    verb: Verb
    key: str  # empty for what lies in staging
    digest: str
    grows_bytes: int = 0  # by so much the cache is larger afterwards; negative: smaller
    cause: Cause
    value_s: float = 0.0  # replica-seconds expected to be saved by having it
    detail: str = ""
