"""The work that takes long, each piece in a thread of its own: resolving, fetching, reading into the page cache."""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial

from cacheops.bandwidth import Bandwidth
from cacheops.config import NodeWish
from cacheops.download import Transfer
from cacheops.errors import CacheError, CanceledError
from cacheops.guard import shown
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest, ModelRef
from cacheops.stock import WantedTree
from metrics.clock import Clock
from nodeagent.peers.follow import Peers
from nodeagent.peers.underway import Underway, underway
from nodeagent.store import Store

FETCHES_MAX = 2  # models at a time: each has connections enough to fill the line; more only delays the first
RUNNING_MAX = 16  # those that wait for a peer included
MEASURED_RATIO = (
    0.5  # of a model fetched in one go tells how long all of it takes; the end of one that resumed does not
)
SPEED_HALF_LIFE_S = 5.0  # of the smoothed speed: remaining seconds that do not jump with every block

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Fetch:
    """One running fetch, and how fast it is."""

    wish: NodeWish
    transfer: Transfer
    started_at_s: float
    speed_bytes_per_s: float = 0.0
    via: str = ""  # the peer it comes from; empty: the origin
    waits_for: str = ""  # the peer that fetches it for all
    is_at_origin: bool = False
    _seen: tuple[float, int] | None = field(default=None)

    @property
    def has_begun(self) -> bool:
        """Whether it is ours to bring now: not waiting for others, not asking about them."""
        return self.is_at_origin or bool(self.via)

    def whole_s(self, now_s: float) -> float | None:
        """What the whole model takes, by what was fetched until now; None: too little was."""
        size_bytes, fetched_bytes = self.wish.tree.size_bytes, self.transfer.fetched_bytes
        if fetched_bytes < MEASURED_RATIO * size_bytes:
            return None
        return (now_s - self.started_at_s) * max(1.0, size_bytes / max(fetched_bytes, 1))

    def sample(self, now_s: float) -> None:
        """Note how far it is."""
        done_bytes = self.transfer.fetched_bytes
        if self._seen is not None and now_s > self._seen[0]:
            period_s = now_s - self._seen[0]
            weight = 1 - 0.5 ** (period_s / SPEED_HALF_LIFE_S)
            speed = max(0, done_bytes - self._seen[1]) / period_s  # another source starts to count afresh
            first = self.speed_bytes_per_s == 0
            self.speed_bytes_per_s = (
                speed if first else self.speed_bytes_per_s + weight * (speed - self.speed_bytes_per_s)
            )
        self._seen = (now_s, done_bytes)


class Fetches:
    """Runs them within the task group of the agent, and says when one ends."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        workers: int = 8,
        peers: Peers | None = None,
        scrub_bytes_per_s: float = 0.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._workers = workers
        self._peers = peers
        self._on_done: Callable[[], None] = lambda: None
        self._ended: set[str] = set()  # keys whose work ended since the last look at the disk began
        self._bandwidth: Bandwidth | None = None
        self._rate = 0.0
        self.running: dict[str, Fetch] = {}  # by key
        self.manifests: dict[str, ModelManifest] = {}  # resolved by this agent itself, by key
        self.took_s: dict[str, float] = {}  # what a whole fetch takes, by key
        self._resolving: set[str] = set()
        self._warming: dict[str, Transfer] = {}
        self._scrub_bytes_per_s = scrub_bytes_per_s
        self._scrubbing: Transfer | None = None
        self.mending: dict[str, Fetch] = {}  # by key
        self._mending_digests: dict[str, str] = {}  # key → its staging

    def on_done(self, call: Callable[[], None]) -> None:
        """Whom to tell."""
        self._on_done = call

    def look(self) -> None:
        """A look at the disk begins: what ends from now on it may not see, so nothing is done about that after it."""
        self._ended.clear()

    def is_outdated(self, key: str) -> bool:
        """Whether the last look may have missed how the work on a model ended."""
        return key in self._ended

    def staged_bytes(self, digest: str) -> int | None:
        """How far the fetch of a digest is, one byte more: 0 is for not decided yet who fetches. None: not us."""
        of_it = (fetch for fetch in self.running.values() if fetch.wish.tree.digest == digest and not fetch.waits_for)
        return next((1 + fetch.transfer.staged_bytes if fetch.has_begun else 0 for fetch in of_it), None)

    def underway(self, digest: str) -> Underway | None:
        """What others may have of it before it is published."""
        of_it = (fetch for fetch in self.running.values() if fetch.wish.tree.digest == digest and not fetch.waits_for)
        return next((underway(fetch.transfer) for fetch in of_it if fetch.is_at_origin), None)

    def timed(self, tree: WantedTree) -> WantedTree:
        """With the seconds that it took here, where nobody says others."""
        return tree if tree.refetch_s is not None else replace(tree, refetch_s=self.took_s.get(tree.key))

    def is_staging(self, digest: str) -> bool:
        """Whether a fetch writes there."""
        digests = {fetch.wish.tree.digest for fetch in self.running.values()} | set(self._mending_digests.values())
        return digest in digests

    def limit(self, bytes_per_s: float) -> None:
        """The speed of all that starts from now on."""
        if bytes_per_s != self._rate or self._bandwidth is None:
            self._rate, self._bandwidth = bytes_per_s, Bandwidth(bytes_per_s, self._clock)

    def start(self, group: asyncio.TaskGroup, wish: NodeWish) -> bool:
        """Start fetching unless it runs, or enough do."""
        key = wish.tree.key
        # Who waits takes no line. If it took a turn, nodes that wait for each other's turns would wait for long.
        busy = sum(not fetch.waits_for for fetch in self.running.values())
        if key in self.running or self.is_outdated(key) or busy >= FETCHES_MAX or len(self.running) >= RUNNING_MAX:
            return False
        transfer = Transfer(workers=self._workers, bandwidth=self._bandwidth)
        self.running[key] = Fetch(wish, transfer, self._clock.now_s())
        group.create_task(self._fetch(self.running[key]), name=f"fetch {key}")
        return True

    def stop_others(self, digests: Collection[str]) -> None:
        """End fetches that nobody waits for any more; what they have stays staged."""
        for fetch in self.running.values():
            if fetch.wish.tree.digest not in digests:
                fetch.transfer.stop.set()

    def stop_all(self) -> None:
        """End everything soon."""
        fetches = [*self.running.values(), *self.mending.values()]
        for transfer in [*(fetch.transfer for fetch in fetches), *self._warming.values()]:
            transfer.stop.set()
        if self._scrubbing is not None:
            self._scrubbing.stop.set()

    def resolve(self, group: asyncio.TaskGroup, ref: ModelRef) -> None:
        """Find out which files a model has."""
        if ref.storage_key not in self._resolving and not self.is_outdated(ref.storage_key):
            self._resolving.add(ref.storage_key)
            group.create_task(self._resolve(ref), name=f"resolve {ref.storage_key}")

    def warm(self, group: asyncio.TaskGroup, tree: Published) -> None:
        """Read a tree into the page cache, one at a time."""
        if not self._warming and not self.is_outdated(tree.path.name):
            transfer = self._warming[tree.path.name] = Transfer()
            group.create_task(self._warm(tree, transfer), name=f"warm {tree.path.name}")

    def scrub(self, group: asyncio.TaskGroup, tree: Published) -> None:
        """Read a tree again, one at a time, and not while something is fetched: both want the same disk."""
        if self._scrub_bytes_per_s and self._scrubbing is None and not self.running and not self.mending:
            self._scrubbing = Transfer(bandwidth=Bandwidth(self._scrub_bytes_per_s, self._clock))
            group.create_task(self._scrub(tree, self._scrubbing), name=f"scrub {tree.path.name}")

    def mend(self, group: asyncio.TaskGroup, wish: NodeWish, tree: Published) -> None:
        """Bring the bad files of a tree anew, one tree at a time."""
        key = wish.tree.key
        if not self.mending and not self.is_outdated(key):
            transfer = Transfer(workers=self._workers, bandwidth=self._bandwidth)
            self.mending[key] = Fetch(wish, transfer, self._clock.now_s())
            group.create_task(self._mend(self.mending[key], tree), name=f"mend {key}")

    async def _fetch(self, fetch: Fetch) -> None:
        key, ref = fetch.wish.tree.key, fetch.wish.ref
        try:
            take = partial(self._store.take, fetch.wish, fetch.transfer)
            if self._peers is None or not await self._peers.bring(fetch, take):
                fetch.is_at_origin = True
                await asyncio.to_thread(self._store.fetch, fetch.wish, fetch.transfer)
            now_s = self._clock.now_s()
            if (whole_s := fetch.whole_s(now_s)) is not None:
                self.took_s[key] = whole_s
            took_s, fetched_bytes = now_s - fetch.started_at_s, fetch.transfer.fetched_bytes
            log.info("%s: published after %.1f s, %d bytes of it fetched now", ref.uri, took_s, fetched_bytes)
        except CacheError as exc:
            log.warning("%s: %s: %s", ref.uri, exc.reason, exc)
            self.manifests.pop(key, None)  # the source may have moved on: list it again
        finally:
            del self.running[key]
            self._done(key)

    async def _resolve(self, ref: ModelRef) -> None:
        try:
            self.manifests[ref.storage_key] = await asyncio.to_thread(self._store.resolve, ref)
        except CacheError as exc:
            log.warning("%s: %s: %s", ref.uri, exc.reason, exc)
        finally:
            self._resolving.discard(ref.storage_key)
            self._done(ref.storage_key)

    async def _warm(self, tree: Published, transfer: Transfer) -> None:
        try:
            read_bytes = await asyncio.to_thread(self._store.warm, tree, transfer)
            log.info("%s: %d bytes read into the page cache", tree.manifest.ref.uri, read_bytes)
        except CacheError as exc:
            log.warning("%s: %s: %s", tree.manifest.ref.uri, exc.reason, exc)
        finally:
            self._warming.pop(tree.path.name, None)
            self._done(tree.path.name)

    async def _scrub(self, tree: Published, transfer: Transfer) -> None:
        key = tree.path.name
        try:
            record = await asyncio.to_thread(self._store.scrub, tree, transfer)
            for path, what in record.faults.items():
                log.warning("%s: damaged: %s: %s", key, shown(path), what)
        except CanceledError:
            log.debug("%s: scrubbing goes on another time", key)
        except CacheError as exc:
            log.warning("%s: scrubbing: %s: %s", key, exc.reason, exc)
        finally:
            self._scrubbing = None
            self._done(key)

    async def _mend(self, fetch: Fetch, tree: Published) -> None:
        key = fetch.wish.tree.key
        try:
            self._mending_digests[key] = await asyncio.to_thread(self._store.staging_of, tree)
            take = partial(self._store.mend, tree, fetch.transfer)
            if self._peers is None or not await self._peers.bring(fetch, take):
                await asyncio.to_thread(self._store.mend, tree, fetch.transfer)
            log.info("%s: mended", tree.manifest.ref.uri)
        except CacheError as exc:
            log.warning("%s: mending: %s: %s", tree.manifest.ref.uri, exc.reason, exc)
        finally:
            del self.mending[key]
            self._mending_digests.pop(key, None)
            self._done(key)

    def _done(self, key: str) -> None:
        self._ended.add(key)
        self._on_done()
