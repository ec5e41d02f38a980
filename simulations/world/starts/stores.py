"""The disks of all nodes as time goes on: who needs which weights where, what is fetched, what makes room for it.

The law of each disk is that of `cacheops.plan`; this module brings it the wishes of the moment and does what it says.
A replica whose weights the plan finds no room for fetches them for itself, as it would without a cache.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from simulations.world.starts.caches import Keeping, NodeCaches, OtherModel
from simulations.world.starts.disk import NodeDisk, Wish
from simulations.world.starts.downloads import Downloads
from simulations.world.starts.page_cache import PageCache

OWN = "the service"  # the key of its model; those of others are their names
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The weights that a replica needs are on its node."""

    slot: int
    at_s: float
    is_in_memory: bool
    is_read_ahead: bool  # the node agent reads them into memory while the engine starts


@dataclass(slots=True, eq=False, kw_only=True)
class _User:
    """Who needs a model on a node: a replica of ours, or somebody else for a while."""

    node: int
    key: str
    slot: int | None = None
    use_s: float = math.inf
    file: str = ""  # a file of its own; empty: that of the cache
    is_reading: bool = False


@dataclass(slots=True, kw_only=True)
class NodeStore:
    """One node's disk and memory, and who uses what of them."""

    disk: NodeDisk
    memory: PageCache
    users: list[_User] = field(default_factory=list)
    looks_at_s: float = math.inf

    def waiting(self, key: str) -> list[_User]:
        """Those who wait for the cache to have it."""
        return [user for user in self.users if user.key == key and not user.is_reading and not user.file]


class Stores:
    """What nodes hold, driven by `need` and `leave`; `settle` lets happen what is due and tells what arrived."""

    def __init__(
        self, caches: NodeCaches, downloads: Downloads, *, own_bytes: int, nodes: Sequence[int], random: Random
    ) -> None:
        self._caches, self._downloads = caches, downloads
        self._sizes_bytes = {OWN: own_bytes} | {other.name: other.size_bytes for other in caches.others}
        self._nodes: dict[int, NodeStore] = {}
        self._ahead = {node for index, node in enumerate(nodes) if caches.is_ahead(index)}
        self._there: set[int] = set()
        self._replicas: dict[int, _User] = {}  # by slot
        self._agenda: list[tuple[float, int, Callable[[float], object]]] = []
        self._serial = 0
        self._arrivals: list[Arrival] = []
        self.evictions = 0  # of the service's model
        if caches.others:
            luck = random.getrandbits(64)
            for node in nodes:
                for other in caches.others:
                    self._visit_later(node, other, Random(f"{luck} {node} {other.name}"), 0.0)

    @property
    def next_at_s(self) -> float:
        """When something begins or ends next."""
        return min(self._agenda[0][0] if self._agenda else math.inf, self._downloads.next_end_s)

    def at(self, node: int) -> NodeStore:
        """What is on a node."""
        if node not in self._nodes:
            disk, memory = NodeDisk(self._caches.disk_bytes), PageCache(self._caches.memory_bytes)
            self._nodes[node] = NodeStore(disk=disk, memory=memory)
        return self._nodes[node]

    def holds(self, node: int) -> bool:
        """Whether the service's weights are on a node."""
        return node in self._nodes and OWN in self._nodes[node].disk.trees

    def hold(self, node: int, slot: int) -> None:
        """A replica has long been there: its weights are as well, if they have room and anything is kept."""
        place = self.at(node)
        if self._caches.keep is Keeping.NONE or not place.disk.hold(OWN, self._sizes_bytes[OWN], 0.0):
            return
        place.memory.read(OWN, self._sizes_bytes[OWN])
        place.disk.lease(OWN, 1, 0.0)
        self._join(_User(node=node, key=OWN, slot=slot, is_reading=True))

    def need(self, slot: int, node: int, at_s: float, now_s: float) -> Arrival | None:
        """A replica on this node needs its weights from then on; its arrival, where they are there now."""
        user = _User(node=node, key=OWN, slot=slot)
        self._join(user)
        if at_s > now_s:
            self._plan(at_s, partial(self._seek, user))
            return None
        self._seek(user, now_s)
        return self._arrivals.pop() if user.is_reading else None

    def leave(self, slot: int, now_s: float) -> None:
        """A replica is gone, whether it had its weights or not."""
        if (user := self._replicas.pop(slot, None)) is not None:
            self._release(user, now_s)

    def come(self, node: int, now_s: float) -> None:
        """A node is there, and empty: what should come ahead begins to, and others come."""
        self._there.add(node)
        if node in self._ahead:
            self._plan(now_s, partial(self._look, node))

    def forget(self, node: int, now_s: float) -> None:
        """The node is gone with all it held; one that takes its place is empty."""
        self._there.discard(node)
        self._downloads.stop_all(node, now_s)
        self._nodes.pop(node, None)
        self._replicas = {slot: user for slot, user in self._replicas.items() if user.node != node}

    def settle(self, now_s: float) -> list[Arrival]:
        """Let happen what is due, in its order; what arrived."""
        while (at_s := self.next_at_s) <= now_s:
            for node, name in self._downloads.end(at_s):
                self._fetched(node, name, at_s)
            while self._agenda and self._agenda[0][0] <= at_s:
                heapq.heappop(self._agenda)[2](at_s)
        arrivals, self._arrivals = self._arrivals, []
        return arrivals

    def _plan(self, at_s: float, happens: Callable[[float], object]) -> None:
        self._serial += 1
        heapq.heappush(self._agenda, (at_s, self._serial, happens))

    def _join(self, user: _User) -> None:
        self.at(user.node).users.append(user)
        if user.slot is not None:
            self._replicas[user.slot] = user

    def _is_here(self, user: _User) -> bool:
        return user in self.at(user.node).users

    def _visit_later(self, node: int, other: OtherModel, random: Random, now_s: float) -> None:
        at_s = now_s + random.expovariate(other.uses_per_hour / HOUR_S)
        self._plan(at_s, partial(self._visit, node, other, random))

    def _visit(self, node: int, other: OtherModel, random: Random, now_s: float) -> None:
        """Somebody else's replica starts on a node, if it is there."""
        self._visit_later(node, other, random, now_s)
        if node not in self._there:
            return
        user = _User(node=node, key=other.name, use_s=other.use_s)
        self._join(user)
        self._seek(user, now_s)

    def _seek(self, user: _User, now_s: float) -> None:
        """Read what is there, wait for what comes, or fetch for oneself."""
        if not self._is_here(user):
            return
        disk = self.at(user.node).disk
        if user.key in disk.trees:
            self._read(user, now_s)
            return
        if self._caches.keep is not Keeping.NONE:
            self._look(user.node, now_s)
        if user.key not in disk.fetching:
            self._serial += 1
            user.file = f"{user.key} {self._serial}"
            self._downloads.begin(user.node, user.file, self._sizes_bytes[user.key], now_s)

    def _look(self, node: int, now_s: float, *, due: str = "") -> tuple[str, ...]:
        """Plan anew for a node, and begin what the plan says. `due`: what a replica starts to read; what is warmed."""
        place = self.at(node)
        if now_s >= place.looks_at_s:
            place.looks_at_s = math.inf
        warm_bytes = place.memory.capacity_bytes if self._caches.reads_ahead else 0
        planned = place.disk.plan(self._wishes(node, place, due), now_s, in_memory=place.memory, warm_bytes=warm_bytes)
        for key in planned.gone:
            place.memory.drop(key)
            self.evictions += key == OWN
        for key in planned.begun:
            self._downloads.begin(node, key, self._sizes_bytes[key], now_s)
        if planned.again_at_s is not None and planned.again_at_s < place.looks_at_s:
            place.looks_at_s = planned.again_at_s
            self._plan(planned.again_at_s, partial(self._look, node))
        return planned.warmed

    def _wishes(self, node: int, place: NodeStore, due: str) -> list[Wish]:
        """What is needed now, and what should come ahead."""
        needed = {user.key for user in place.users if not user.file}
        return [
            Wish(
                key=key,
                size_bytes=size_bytes,
                refetch_s=size_bytes / self._downloads.alone_bytes_per_s,
                waiting=len(place.waiting(key)),
                is_due=key == due,
                is_pinned=key == OWN and self._caches.keep is Keeping.ALL_NODES,
            )
            for key, size_bytes in self._sizes_bytes.items()
            if key in needed or (key == OWN and node in self._ahead & self._there)
        ]

    def _fetched(self, node: int, name: str, now_s: float) -> None:
        place = self.at(node)
        if name not in place.disk.fetching:
            user = next(user for user in place.users if user.file == name)
            place.memory.read(name, self._sizes_bytes[user.key])
            self._read(user, now_s)
            return
        waiting = place.waiting(name)
        place.disk.publish(name, now_s)
        place.memory.read(name, self._sizes_bytes[name])
        for user in waiting:
            self._read(user, now_s)

    def _read(self, user: _User, now_s: float) -> None:
        """From now on it reads, from memory where the file is there."""
        place = self.at(user.node)
        user.is_reading = True
        is_ahead = False
        if not user.file:
            place.disk.lease(user.key, 1, now_s)
            if self._caches.reads_ahead and user.key not in place.memory:
                is_ahead = user.key in self._look(user.node, now_s, due=user.key)
        is_in_memory = place.memory.read(user.file or user.key, self._sizes_bytes[user.key])
        if user.slot is None:
            self._plan(now_s + user.use_s, partial(self._release, user))
        else:
            self._arrivals.append(
                Arrival(slot=user.slot, at_s=now_s, is_in_memory=is_in_memory, is_read_ahead=is_ahead)
            )

    def _release(self, user: _User, now_s: float) -> None:
        """It needs its weights no more; what it fetched for itself goes with it."""
        place = self.at(user.node)
        if user not in place.users:
            return
        place.users.remove(user)
        if user.file:
            place.memory.drop(user.file)
            self._downloads.stop(user.node, user.file, now_s)
        elif user.is_reading:
            place.disk.lease(user.key, -1, now_s)
