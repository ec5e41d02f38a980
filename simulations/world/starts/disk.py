"""The model cache of one simulated node: what lies there, and what `cacheops.plan` makes of a wish."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from cacheops.budget import Disk
from cacheops.plan import Limits, plan
from cacheops.stock import HeldTree, Inventory, Partial, Verb, WantedTree

# Where nothing limits it: no node has a petabyte.
BOUNDLESS_BYTES = 10**15
# On a disk twice as large as its quota a cache meets no watermark before it: the quota may be used in full.
DISK_PER_QUOTA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A model that should be on the node now."""

    key: str
    size_bytes: int
    refetch_s: float
    waiting: int = 0  # replicas that do not read it yet
    is_due: bool = False  # a replica starts to read it now
    is_pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Keys that are to be fetched now, to be read into memory, and were evicted; when time would change the plan."""

    begun: tuple[str, ...]
    warmed: tuple[str, ...]
    gone: tuple[str, ...]
    again_at_s: float | None


class NodeDisk:
    """Trees by key, and what is being fetched: its room is taken from the moment the fetch begins."""

    def __init__(self, quota_bytes: int | None) -> None:
        self._quota_bytes = BOUNDLESS_BYTES if quota_bytes is None else quota_bytes
        self.trees: dict[str, HeldTree] = {}
        self.fetching: dict[str, WantedTree] = {}

    @property
    def size_bytes(self) -> int:
        """All that lies there, and all that comes."""
        held_bytes = sum(tree.size_bytes for tree in self.trees.values())
        return held_bytes + sum(tree.size_bytes for tree in self.fetching.values())

    def hold(self, key: str, size_bytes: int, now_s: float) -> bool:
        """A tree that is there from the beginning, if there is room."""
        if key not in self.trees and self.size_bytes + size_bytes <= self._quota_bytes:
            self.trees[key] = HeldTree(key=key, digest=key, size_bytes=size_bytes, published_at_s=now_s)
        return key in self.trees

    def lease(self, key: str, count: int, now_s: float) -> None:
        """So many more replicas, or fewer, read from it."""
        tree = self.trees[key]
        self.trees[key] = replace(tree, leases=tree.leases + count, used_at_s=now_s)

    def plan(self, wishes: Iterable[Wish], now_s: float, *, in_memory: Container[str], warm_bytes: int) -> Planned:
        """Evict what the plan says, and take the room for what it says to fetch. `warm_bytes`: read ahead at most."""
        wanted = {wish.key: self._wanted(wish) for wish in wishes} | self.fetching
        inventory = Inventory(
            trees=tuple(replace(tree, is_warm=tree.key in in_memory) for tree in self.trees.values()),
            partials=tuple(
                Partial(digest=tree.digest, size_bytes=tree.size_bytes, touched_at_s=now_s)
                for tree in self.fetching.values()
            ),
        )
        limits = Limits(disk=self._disk(inventory), warm_bytes=warm_bytes)
        found = plan(tuple(wanted.values()), inventory, limits, now_s=now_s)
        begun, gone = [], []
        for action in found.actions:
            if action.verb is Verb.EVICT:
                del self.trees[action.key]
                gone.append(action.key)
            elif action.verb is Verb.FETCH and action.key not in self.fetching:
                self.fetching[action.key] = wanted[action.key]
                begun.append(action.key)
        warmed = tuple(action.key for action in found.actions if action.verb is Verb.WARM)
        return Planned(begun=tuple(begun), warmed=warmed, gone=tuple(gone), again_at_s=found.revisit_at_s)

    def publish(self, key: str, now_s: float) -> None:
        """A fetch ended."""
        tree = self.fetching.pop(key)
        self.trees[key] = HeldTree(key=key, digest=key, size_bytes=tree.size_bytes, published_at_s=now_s)

    def _wanted(self, wish: Wish) -> WantedTree:
        held = self.trees.get(wish.key)
        return WantedTree(
            key=wish.key,
            digest=wish.key,
            size_bytes=wish.size_bytes,
            refetch_s=wish.refetch_s,
            replicas=max(1, wish.waiting + (held.leases if held else 0)),
            is_pinned=wish.is_pinned,
            is_due=wish.is_due,
        )

    def _disk(self, inventory: Inventory) -> Disk:
        capacity_bytes = self._quota_bytes * DISK_PER_QUOTA
        return Disk(
            capacity_bytes=capacity_bytes,
            free_bytes=capacity_bytes - inventory.size_bytes,
            quota_bytes=self._quota_bytes,
        )
