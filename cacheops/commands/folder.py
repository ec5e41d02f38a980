"""A cache folder as the commands see it: what it holds, what is in use, and the plan for it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cacheops.budget import HIGH_RATIO, LOW_RATIO, Disk
from cacheops.errors import InvalidRequestError, from_os
from cacheops.inventory import Contents, contents
from cacheops.layout import Layout
from cacheops.manifest_file import Published
from cacheops.mounts import MOUNT_TABLE, mounted_keys, read_table
from cacheops.pins import pinned_keys
from cacheops.plan import Limits, Plan, plan
from cacheops.stock import HeldTree, Inventory, Partial, WantedTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far a folder's disk may be filled; the defaults are the node agent's."""

    quota_bytes: int | None = None
    high_ratio: float | None = None  # None: the default, and below what makes a kubelet evict
    low_ratio: float | None = None


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """What lies in a folder, with what protects it."""

    held: Contents
    pins: frozenset[str]
    mounts: Mapping[str, int]

    @property
    def by_key(self) -> dict[str, Published]:
        """Published trees by their folder's name."""
        return {tree.path.name: tree for tree in self.held.trees}

    @property
    def staged_bytes(self) -> int:
        """What unfinished fetches take on disk."""
        return sum(part.disk_bytes for part in self.held.staged)

    def name(self, key: str) -> str:
        """A model's URI where it is known, else its key or the start of its digest."""
        tree = self.by_key.get(key)
        return tree.manifest.ref.uri if tree else key[:16]

    def inventory(self, layout: Layout) -> Inventory:
        """As the plan wants it."""
        trees = tuple(
            HeldTree(
                key=key,
                digest=tree.source_digest,
                size_bytes=tree.manifest.bytes,
                published_at_s=tree.published_at_s,
                used_at_s=_touched_at_s(layout.own / "used" / key),
                leases=self.mounts.get(key, 0),
                is_pinned=key in self.pins,
            )
            for key, tree in self.by_key.items()
        )
        partials = tuple(
            Partial(digest=part.digest, size_bytes=part.disk_bytes, touched_at_s=part.touched_at_s)
            for part in self.held.staged
        )
        return Inventory(trees=trees, partials=partials)


def shelved(layout: Layout, table: Path = MOUNT_TABLE) -> Shelved:
    """Look at a folder, and at what is mounted from it. One that no cache was made in yet is an empty one."""
    try:
        mounts = mounted_keys(read_table(table), layout.models)
    except OSError as exc:
        raise from_os(exc, f"mount table {table}") from exc
    try:
        held = contents(layout, may_be_new=True)
    except OSError as exc:
        raise from_os(exc, f"cache {layout.root}: {exc.filename}: cannot be read") from exc
    return Shelved(held=held, pins=pinned_keys(layout), mounts=mounts)


def folder_plan(
    layout: Layout, seen: Shelved, wanted: Sequence[WantedTree], bounds: Bounds = DEFAULT_BOUNDS, *, now_s: float
) -> Plan:
    """What the node agent would do with this folder, were these models wanted."""
    space = os.statvfs(layout.root)
    try:
        disk = Disk(
            capacity_bytes=space.f_blocks * space.f_frsize,
            free_bytes=space.f_bavail * space.f_frsize,
            quota_bytes=bounds.quota_bytes,
            high_ratio=HIGH_RATIO if bounds.high_ratio is None else bounds.high_ratio,
            low_ratio=LOW_RATIO if bounds.low_ratio is None else bounds.low_ratio,
        )
        if bounds.high_ratio is not None:  # whoever names the mark knows whether a kubelet shares the disk
            disk = disk.unshared()
    except ValueError as exc:
        raise InvalidRequestError(f"cache {layout.root}: {exc}") from exc
    return plan(wanted, seen.inventory(layout), Limits(disk=disk), now_s=now_s)


def _touched_at_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
