"""The disks of all nodes as time goes on: who needs which weights where, what is fetched, what makes room for it.

The law of each disk is that of `cacheops.plan`; this module brings it the wishes of the moment and does what it says.
A replica whose weights the plan finds no room for fetches them for itself, as it would without a cache.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from simulations.world.host_memory import HostMemory
from simulations.world.starts.caches import Keeping, NodeCaches, OtherModel
from simulations.world.starts.disk import NodeDisk, Wish
from simulations.world.starts.downloads import Downloads
from simulations.world.starts.page_cache import PageCache

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The weights that a replica needs are on its node."""

    slot: int
    at_s: float
    is_in_memory: bool
    is_read_ahead: bool  # the node agent reads them into memory while the engine starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights that may lie on nodes, and who sees to it."""

    size_bytes: int
    keep: Keeping
    ahead: frozenset[int] = frozenset()  # nodes to which they come before a replica needs them
    is_of_others: bool = False  # they are cached where anybody's are

    @property
    def reads_ahead(self) -> bool:
        """Whether a node agent reads them into memory for a replica that starts."""
        return self.keep is Keeping.PREFETCH


@dataclass(slots=True, eq=False, kw_only=True)
class _User:
    """Who needs a model on a node: a replica of ours, or somebody else for a while."""

    node: int
    key: str
    owner: str = ""  # the service whose replica it is
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


def _is_kept(model: Model) -> bool:
    return model.keep is not Keeping.NONE


class Stores:
    """What nodes hold of the models of one service or more, driven by `need` and `leave`.

    `settle` lets happen what is due; what arrived by then is in `arrivals`, by service.
    """

    def __init__(self, caches: NodeCaches, downloads: Downloads, host: HostMemory | None = None) -> None:
        """Of `caches`: how much room there is on each node, and who else wants some; `host`: who else has memory."""
        self._caches, self._downloads, self._host = caches, downloads, host or HostMemory()
        self._models = {
            other.name: Model(size_bytes=other.size_bytes, keep=Keeping.NONE, is_of_others=True)
            for other in caches.others
        }
        self._nodes: dict[int, NodeStore] = {}
        self._there: set[int] = set()
        self._replicas: dict[tuple[str, int], _User] = {}  # by service and slot
        self._files: dict[str, str] = {}  # those that users fetched for themselves, and what is in them
        self._agenda: list[tuple[float, int, Callable[[float], object]]] = []
        self._serial = 0
        self._model_of: dict[str, str] = {}  # of each service
        self.arrivals: dict[str, list[Arrival]] = {}  # by service
        self.evictions: dict[str, int] = {}  # by model
        self.lives: dict[int, int] = {}  # of each node, those that ended

    def add(self, owner: str, key: str, model: Model) -> None:
        """A service's weights; several may have the same, of which a node keeps one copy."""
        before = self._models.get(key, model)
        if owner in self.arrivals or replace(before, ahead=model.ahead) != model:
            raise ValueError(f"there are two models {key!r} on the same nodes")
        self._models[key] = replace(model, ahead=before.ahead | model.ahead)
        self._model_of[owner], self.arrivals[owner], self.evictions[key] = key, [], 0

    def await_others(self, nodes: Sequence[int], random: Random) -> None:
        """From now on others come to these nodes at times of their own."""
        if not self._caches.others:
            return
        luck = random.getrandbits(64)
        for node in nodes:
            for other in self._caches.others:
                self._visit_later(node, other, Random(f"{luck} {node} {other.name}"), 0.0)

    @property
    def next_at_s(self) -> float:
        """When something begins or ends next."""
        return min(self._agenda[0][0] if self._agenda else math.inf, self._downloads.next_end_s)

    def fetched_bytes(self, owner: str) -> float:
        """Of all that came from the origin, what did not come for another service's model."""
        key = self._model_of[owner]
        others = {name for name, model in self._models.items() if not model.is_of_others and name != key}
        elsewhere = [name for name, held in self._files.items() if held in others]
        return self._downloads.moved_bytes - sum(map(self._downloads.moved_bytes_of, (*others, *elsewhere)))

    def evictions_of(self, owner: str) -> int:
        """Of its weights, from nodes where no replica was."""
        return self.evictions[self._model_of[owner]]

    def at(self, node: int) -> NodeStore:
        """What is on a node."""
        if node not in self._nodes:
            memory = PageCache(self._caches.memory_bytes, partial(self._host.free_bytes, node))
            self._nodes[node] = NodeStore(disk=NodeDisk(self._caches.disk_bytes), memory=memory)
        return self._nodes[node]

    def holds(self, owner: str, node: int) -> bool:
        """Whether a service's weights are on a node."""
        return node in self._nodes and self._model_of[owner] in self._nodes[node].disk.trees

    def hold(self, owner: str, node: int, slot: int) -> None:
        """A replica has long been there: its weights are as well, if they have room and anything is kept."""
        key = self._model_of[owner]
        place, size_bytes = self.at(node), self._models[key].size_bytes
        if self._models[key].keep is Keeping.NONE or not place.disk.hold(key, size_bytes, 0.0):
            return
        place.memory.read(key, size_bytes)
        place.disk.lease(key, 1, 0.0)
        self._join(_User(node=node, key=key, owner=owner, slot=slot, is_reading=True))

    def need(self, owner: str, node: int, slot: int, *, at_s: float, now_s: float) -> Arrival | None:
        """A replica on this node needs its weights from then on; its arrival, where they are there now."""
        user = _User(node=node, key=self._model_of[owner], owner=owner, slot=slot)
        self._join(user)
        if at_s > now_s:
            self._plan(at_s, partial(self._seek, user))
            return None
        self._seek(user, now_s)
        return self.arrivals[owner].pop() if user.is_reading else None

    def leave(self, owner: str, slot: int, now_s: float) -> None:
        """A replica is gone, whether it had its weights or not."""
        if (user := self._replicas.pop((owner, slot), None)) is not None:
            self._release(user, now_s)

    def come(self, node: int, now_s: float) -> None:
        """A node is there, and empty: what should come ahead begins to, and others come."""
        if node in self._there:
            return
        self._there.add(node)
        if any(node in model.ahead for model in self._models.values()):
            self._plan(now_s, partial(self._look, node))

    def forget(self, node: int, now_s: float) -> None:
        """The node is gone with all it held; one that takes its place is empty."""
        self.lives[node] = self.lives.get(node, 0) + 1
        self._there.discard(node)
        self._downloads.stop_all(node, now_s)
        self._nodes.pop(node, None)
        self._replicas = {place: user for place, user in self._replicas.items() if user.node != node}

    def settle(self, now_s: float) -> None:
        """Let happen what is due, in its order."""
        while (at_s := self.next_at_s) <= now_s:
            for node, name in self._downloads.end(at_s):
                self._fetched(node, name, at_s)
            while self._agenda and self._agenda[0][0] <= at_s:
                heapq.heappop(self._agenda)[2](at_s)

    def _keeps(self, model: Model) -> bool:
        """Whether it is cached; that of others where anybody's is."""
        return _is_kept(model) or (model.is_of_others and any(map(_is_kept, self._models.values())))

    def _reads_ahead(self, model: Model) -> bool:
        return model.reads_ahead or (model.is_of_others and any(each.reads_ahead for each in self._models.values()))

    def _plan(self, at_s: float, happens: Callable[[float], object]) -> None:
        self._serial += 1
        heapq.heappush(self._agenda, (at_s, self._serial, happens))

    def _join(self, user: _User) -> None:
        self.at(user.node).users.append(user)
        if user.slot is not None:
            self._replicas[user.owner, user.slot] = user

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
        model = self._models[user.key]
        if self._keeps(model):
            self._look(user.node, now_s)
        if user.key not in disk.fetching:
            self._serial += 1
            user.file = f"{user.key} {self._serial}"
            self._files[user.file] = user.key
            self._downloads.begin(user.node, user.file, model.size_bytes, now_s)

    def _look(self, node: int, now_s: float, *, due: str = "") -> tuple[str, ...]:
        """Plan anew for a node, and begin what the plan says. `due`: what a replica starts to read; what is warmed."""
        place = self.at(node)
        if now_s >= place.looks_at_s:
            place.looks_at_s = math.inf
        is_ahead = any(model.reads_ahead for model in self._models.values())
        warm_bytes = place.memory.capacity_bytes if is_ahead else 0
        planned = place.disk.plan(self._wishes(node, place, due), now_s, in_memory=place.memory, warm_bytes=warm_bytes)
        for key in planned.gone:
            place.memory.drop(key)
            if key in self.evictions:
                self.evictions[key] += 1
        for key in planned.begun:
            self._downloads.begin(node, key, self._models[key].size_bytes, now_s)
        if planned.again_at_s is not None and planned.again_at_s < place.looks_at_s:
            place.looks_at_s = planned.again_at_s
            self._plan(planned.again_at_s, partial(self._look, node))
        return planned.warmed

    def _wishes(self, node: int, place: NodeStore, due: str) -> list[Wish]:
        """What is needed now, and what should come ahead."""
        needed = {user.key for user in place.users if not user.file and self._keeps(self._models[user.key])}
        return [
            Wish(
                key=key,
                size_bytes=model.size_bytes,
                refetch_s=model.size_bytes / self._downloads.alone_bytes_per_s,
                waiting=len(place.waiting(key)),
                is_due=key == due,
                is_pinned=model.keep is Keeping.ALL_NODES,
            )
            for key, model in self._models.items()
            if key in needed or (node in model.ahead and node in self._there)
        ]

    def _fetched(self, node: int, name: str, now_s: float) -> None:
        place = self.at(node)
        if name not in place.disk.fetching:
            user = next(user for user in place.users if user.file == name)
            place.memory.read(name, self._models[user.key].size_bytes)
            self._read(user, now_s)
            return
        waiting = place.waiting(name)
        place.disk.publish(name, now_s)
        place.memory.read(name, self._models[name].size_bytes)
        for user in waiting:
            self._read(user, now_s)

    def _read(self, user: _User, now_s: float) -> None:
        """From now on it reads, from memory where the file is there."""
        place, model = self.at(user.node), self._models[user.key]
        user.is_reading = True
        is_ahead = False
        if not user.file:
            place.disk.lease(user.key, 1, now_s)
            if self._reads_ahead(model) and user.key not in place.memory:
                is_ahead = user.key in self._look(user.node, now_s, due=user.key)
        is_in_memory = place.memory.read(user.file or user.key, model.size_bytes)
        if user.slot is None:
            self._plan(now_s + user.use_s, partial(self._release, user))
        else:
            self.arrivals[user.owner].append(
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
