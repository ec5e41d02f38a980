"""The cache on this node's disk, as the agent works with it. Everything here blocks: call it in a thread."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cacheops.budget import Disk
from cacheops.download import RangeSource, Transfer
from cacheops.errors import (
    CacheError,
    CanceledError,
    FailureReason,
    InsufficientCapacityError,
    IntegrityMismatchError,
    InvalidRequestError,
    OtherContentError,
    StorageError,
    from_os,
)
from cacheops.guard import shown
from cacheops.heal import heal, missing
from cacheops.inventory import Staged, contents
from cacheops.layout import Layout, discard, empty_trash, remove_tree, why_unclaimed
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest, ModelRef, Trust
from cacheops.mounts import Leases as Leases
from cacheops.mounts import mounted_keys, read_table
from cacheops.pins import pinned_keys
from cacheops.prefetch import Failure, forget_failure, next_failure, read_failure, stage_and_publish, write_failure
from cacheops.publish import remove
from cacheops.scrub import Record, forget, look, next_due, record_of, scrub
from cacheops.sources import SourceSettings, open_source
from cacheops.stock import Cause, HeldTree, Inventory, Partial
from cacheops.tasks import NodeWish
from cacheops.warm import warm
from metrics.clock import Clock
from nodeagent.peers.client import PeerSource


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is on the disk."""

    inventory: Inventory
    published: Mapping[str, Published]
    failures: Mapping[str, Failure]  # by key
    capacity_bytes: int
    free_bytes: int
    records: Mapping[str, Record] = field(default_factory=dict)  # by key: what scrubbing found
    unclaimed: str = ""  # why nothing may be deleted here

    def faults(self, key: str) -> Mapping[str, str]:
        """What is wrong with a tree, by path."""
        return self.records[key].faults if key in self.records else {}

    def bound_to(self, wishes: Iterable[NodeWish]) -> "View":
        """With trees of other bytes than were trusted first under those bytes' own digest: not what is wanted."""
        wanted = {wish.tree.key: wish for wish in wishes if wish.content_digest}

        def judged(tree: HeldTree) -> HeldTree:
            wish, content = wanted.get(tree.key), self.published[tree.key].content_digest
            is_other = wish is not None and tree.digest == wish.tree.digest and content != wish.content_digest
            return replace(tree, digest=content) if is_other and content else tree

        inventory = replace(self.inventory, trees=tuple(judged(tree) for tree in self.inventory.trees))
        return replace(self, inventory=inventory)

    def scrub_due(self, now_s: float) -> Published | None:
        """The tree to be read again, if it is time."""
        return next_due(((tree, self.records[key]) for key, tree in self.published.items()), now_s)

    def disk(self, *, quota_bytes: int | None, high_ratio: float, low_ratio: float) -> Disk:
        """As the plan wants it."""
        return Disk(
            capacity_bytes=self.capacity_bytes,
            free_bytes=self.free_bytes,
            quota_bytes=quota_bytes,
            high_ratio=high_ratio,
            low_ratio=low_ratio,
        )


class Store:
    """One cache folder."""

    def __init__(self, layout: Layout, settings: SourceSettings, clock: Clock, leases: Leases) -> None:
        self._layout = replace(layout, leases=leases)
        self._settings = settings
        self._clock = clock
        self._leases = leases
        self._warm: dict[str, str] = {}  # key → digest that was read into the page cache
        self._failures: dict[str, Failure] = {}  # that the disk would not take, by key
        self._used = layout.own / "used"

    def look(self) -> View:
        """Trees, partials, failures, free space, and what is mounted."""
        try:
            self._used.mkdir(mode=0o700, exist_ok=True)
            unclaimed = why_unclaimed(self._layout)
            if not unclaimed:
                empty_trash(self._layout)
            held = contents(self._layout)
            table = read_table(self._leases.table)
            pins = pinned_keys(self._layout)
            leases = mounted_keys(table, self._layout.models)
            for key in leases:
                (self._used / key).touch(mode=0o600)
            space = os.statvfs(self._layout.root)
        except OSError as exc:
            raise from_os(exc, f"looking at {self._layout.root}") from exc
        # Not seeing is not zero: where pods' mounts cannot be seen, every tree may be in use.
        unseen = None if self._leases.are_seen(table) else Cause.MOUNTS_UNSEEN
        trees = tuple(
            replace(
                self._held(tree, leases.get(tree.path.name, 0)),
                is_pinned=tree.path.name in pins,
                kept_for=Cause.NOT_CLAIMED if unclaimed else unseen,
            )
            for tree in held.trees
        )
        return View(
            inventory=Inventory(trees=trees, partials=tuple(_partial(part) for part in held.staged)),
            published={tree.path.name: tree for tree in held.trees},
            failures=_by_key(held.failures) | self._failures,
            capacity_bytes=space.f_blocks * space.f_frsize,
            free_bytes=space.f_bavail * space.f_frsize,
            records={tree.path.name: record_of(self._layout, tree) for tree in held.trees},
            unclaimed=unclaimed,
        )

    def resolve(self, ref: ModelRef) -> ModelManifest:
        """The files of a model; a failure is remembered."""
        with self._remembering(ref), closing(open_source(ref.uri, self._settings, self._clock)) as source:
            return source.resolve(ref)

    def fetch(self, wish: NodeWish, transfer: Transfer) -> Published:
        """Bring one model from its origin, just the one that was asked for; a failure is remembered."""
        ref, digest = wish.ref, wish.tree.digest
        with self._remembering(ref), closing(open_source(ref.uri, self._settings, self._clock)) as source:
            manifest = source.resolve(ref)
            if manifest.digest != digest:
                words = f"the source lists digest {manifest.digest[:16]}, wanted is {digest[:16]}"
                raise IntegrityMismatchError(f"{ref.uri}: {words}")
            check_trust(manifest, allow_unverified=wish.allow_unverified)
            return self._publish(replace(manifest, content_digest=wish.content_digest), digest, source, transfer)

    def take(self, wish: NodeWish, transfer: Transfer, source: PeerSource) -> Published:
        """Bring one model from a peer. Only what our own disk refuses is remembered: there are others to ask."""
        manifest = source.manifest(wish.ref)
        check_trust(manifest, allow_unverified=wish.allow_unverified)
        if wish.content_digest not in ("", manifest.digest):
            raise OtherContentError(f"{wish.ref.uri}: a peer holds other bytes than were trusted first")
        with self._remembering(wish.ref, (InsufficientCapacityError, StorageError)):
            return self._publish(manifest, wish.tree.digest, source, transfer)

    def _publish(self, manifest: ModelManifest, digest: str, source: RangeSource, transfer: Transfer) -> Published:
        now_s = self._clock.now_s()
        try:
            return stage_and_publish(self._layout, manifest, source, transfer, now_s=now_s, source_digest=digest)
        except OtherContentError:
            remove_tree(self._layout.staging(digest) / "parts")  # whole, and wrong: all of it comes again
            raise

    @contextmanager
    def _remembering(self, ref: ModelRef, what: tuple[type[CacheError], ...] = (CacheError,)) -> Iterator[None]:
        """Keep a failure with the time of the next try: on the disk, and here where the disk takes nothing."""
        key = ref.storage_key
        try:
            yield
        except CanceledError:
            raise  # by us, at a restart: nothing to wait for
        except what as exc:
            before = self._failures.get(key) or read_failure(self._layout, key)
            failure = next_failure(before, ref.uri, exc, now_s=self._clock.now_s())
            if not write_failure(self._layout, key, failure):
                self._failures[key] = failure
            raise
        self._failures.pop(key, None)
        forget_failure(self._layout, key)

    def evict(self, tree: Published) -> None:
        """Take a tree away, in one rename. Nothing of it is mounted: that was seen a moment ago."""
        self._warm.pop(tree.path.name, None)
        remove(self._layout, tree)
        forget(self._layout, tree.path.name)

    def discard(self, digest: str) -> None:
        """Delete what a fetch left."""
        discard(self._layout, self._layout.staging(digest))

    def warm(self, tree: Published, transfer: Transfer) -> int:
        """Read a tree into the page cache."""
        read_bytes = warm(tree, transfer)
        self._warm[tree.path.name] = tree.source_digest
        return read_bytes

    def examine(self) -> dict[str, list[str]]:
        """What is known or a cheap look finds to be wrong with published trees, by key; done at start."""
        records = {tree.path.name: look(self._layout, tree) for tree in contents(self._layout).trees}
        return {
            key: [f"{shown(path)}: {what}" for path, what in record.faults.items()]
            for key, record in records.items()
            if record.faults
        }

    def scrub(self, tree: Published, transfer: Transfer) -> Record:
        """Read again what is due of a tree."""
        return scrub(self._layout, tree, transfer, now_s=self._clock.now_s())

    def mend(self, tree: Published, transfer: Transfer, peer: PeerSource | None = None) -> None:
        """Bring just the bad files of a tree, from a peer or from its origin."""
        part = missing(tree, record_of(self._layout, tree).faults)
        ref, now_s = tree.manifest.ref, self._clock.now_s()
        if peer is not None:
            peer.manifest(ref)
            with self._remembering(ref, (InsufficientCapacityError, StorageError)):
                return heal(self._layout, tree, part, peer, transfer, now_s=now_s)
        revision = tree.manifest.resolved_revision
        with (
            self._remembering(ref),
            closing(open_source(ref.uri, self._settings, self._clock, resolved_revision=revision)) as source,
        ):
            heal(self._layout, tree, part, source, transfer, now_s=now_s)

    def staging_of(self, tree: Published) -> str:
        """Where its bad files gather."""
        return missing(tree, record_of(self._layout, tree).faults).digest

    def _held(self, tree: Published, leases: int) -> HeldTree:
        key = tree.path.name
        return HeldTree(
            key=key,
            digest=tree.source_digest,
            size_bytes=tree.manifest.bytes,
            published_at_s=tree.published_at_s,
            used_at_s=_touched_at_s(self._used / key),
            leases=leases,
            is_warm=self._warm.get(key) == tree.source_digest,
        )


def _partial(staged: Staged) -> Partial:
    return Partial(digest=staged.digest, size_bytes=staged.disk_bytes, touched_at_s=staged.touched_at_s)


def _by_key(failures: Iterable[Failure]) -> dict[str, Failure]:
    """By folder; what somebody ended by hand at the command line is nothing to wait for."""
    return {
        ModelRef(uri=failure.uri).storage_key: failure
        for failure in failures
        if failure.reason is not FailureReason.CANCELED
    }


def check_trust(manifest: ModelManifest, *, allow_unverified: bool) -> None:
    """Refuse files that nobody vouches for, unless that was allowed."""
    unverified = [entry.path for entry in manifest.files if entry.trust is Trust.FIRST_USE]
    if unverified and not allow_unverified:
        words = f"{len(unverified)} files have no digest of their source, the first is {shown(unverified[0])}"
        raise InvalidRequestError(f"{manifest.ref.uri}: {words}; allowUnverified is false")


def _touched_at_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
