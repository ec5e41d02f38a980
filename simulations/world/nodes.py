"""Nodes with GPUs: which are there, what is free on them, and when they come, are reclaimed or are lost.

What befalls a node is drawn by its place in its group, for all times, whether it is there or not: whatever policies do,
all of them lose the same nodes at the same times.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from random import Random

from simulations.world.host_memory import HostMemory
from simulations.world.starts.startup import LOG_DEVIATION

NODE_CLASS = "gpu"  # where nobody says which
NOTICE_S = 120.0  # of AWS for a spot instance; GCP and Azure give 30 s
# kube-controller-manager's --node-monitor-grace-period (kubernetes/kubernetes issue 127352). Its cloud counterpart then
# deletes the node, and the pods with it.
UNNOTICED_S = 50.0
IDLE_S = 600.0  # cluster-autoscaler's --scale-down-unneeded-time
IDLE_MIN_S = 10.0  # its --scan-interval; a node must not go before what it was bought for is there
# AWS's g6e.4xlarge has 128 GiB beside its one L40S; who has H100 has twice that for each (p5.48xlarge).
HOST_BYTES_PER_GPU = 128 * 2**30
HOUR_S = 3600.0
NODES_MAX = 10_000  # of a group: what Kubernetes is tested for is half of it


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """Nodes of one kind: `low` of them always, up to `high` as long as replicas wait for one or use it."""

    name: str = "node"
    gpu_class: str = NODE_CLASS
    gpus: int = 1  # of each node
    memory_bytes: int | None = None  # of each node, for engines that sleep and for files; None: as is usual
    low: int = 1
    high: int = 1
    provision_s: float = 0.0  # median, from bought to there
    log_deviation: float = LOG_DEVIATION  # of that
    idle_s: float = IDLE_S  # so long empty, and it is given back
    reclaims_per_hour: float = 0.0  # of each node: spot
    notice_s: float = NOTICE_S  # from the notice of a reclaim to the end
    losses_per_hour: float = 0.0  # of each node, without a notice
    losses_at_s: tuple[tuple[int, float], ...] = ()  # told instead of drawn: number in the group, time
    price_per_gpu_hour: float = 0.0

    def __post_init__(self) -> None:
        if not self.gpus >= 1:
            raise ValueError(f"nodes {self.name}: gpus must be ≥ 1, got {self.gpus}")
        if not 0 <= self.low <= self.high <= NODES_MAX or self.high < 1:
            raise ValueError(
                f"nodes {self.name}: 0 ≤ min ≤ max ≤ {NODES_MAX} and max ≥ 1 expected, got {self.low} and {self.high}"
            )
        for name in _AMOUNTS:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"nodes {self.name}: {name} must be ≥ 0 and finite, got {getattr(self, name)}")
        if self.idle_s < IDLE_MIN_S:
            raise ValueError(f"nodes {self.name}: idle_s must be ≥ {IDLE_MIN_S:g}, got {self.idle_s}")
        for number, at_s in self.losses_at_s:
            if not (0 <= number < self.high and 0 <= at_s < math.inf):
                raise ValueError(f"nodes {self.name}: there is no node {number} to be lost at {at_s} s")

    @property
    def host_bytes(self) -> int:
        """Main memory of each node."""
        return self.gpus * HOST_BYTES_PER_GPU if self.memory_bytes is None else self.memory_bytes

    @property
    def is_elastic(self) -> bool:
        """Whether nodes are bought for replicas that wait."""
        return self.low < self.high


_AMOUNTS = (
    *("provision_s", "log_deviation", "idle_s", "reclaims_per_hour", "notice_s", "losses_per_hour"),
    *("price_per_gpu_hour", "host_bytes"),
)


class Fate(StrEnum):
    """What happens to a node."""

    COMES = "comes"
    RECLAIMED = "reclaimed"  # a notice: nothing new goes there, what is there is asked to go
    ENDS = "ends"  # the notice is over
    LOST = "lost"  # nothing there answers any more, and nobody knows
    FOUND = "found"  # to be lost: what was there is gone from the books, too
    IDLE = "idle"  # empty for long


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What those who have replicas there must know."""

    fate: Fate
    node: int
    machine: int  # see `Nodes.machine`


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What the nodes of a group came to."""

    group: str
    gpu_class: str
    gpu_hours: float  # from bought to gone, used or not
    cost: float
    reclaims: int
    losses: int


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """One node's place in its group, and who is there now: each `life` is another machine."""

    group: NodeGroup
    number: int
    life: int = 0
    is_there: bool = False  # and takes replicas
    is_coming: bool = False
    is_leaving: bool = False  # reclaimed, or lost and not found yet
    used_gpus: int = 0
    bought_at_s: float = 0.0
    emptied_at_s: float = 0.0

    @property
    def is_bought(self) -> bool:
        """It costs."""
        return self.is_there or self.is_coming or self.is_leaving

    @property
    def free_gpus(self) -> int:
        """For replicas to come."""
        return self.group.gpus - self.used_gpus if self.is_there else 0


class Nodes:
    """All nodes of a place. `budget_gpus` is a quota over all that uses them; None: there is none."""

    def __init__(self, groups: Sequence[NodeGroup], *, seed: int, budget_gpus: int | None = None) -> None:
        names = [group.name for group in groups]
        if len(set(names)) < len(names):
            raise ValueError(f"nodes need a name of their own for each group, got {', '.join(names)}")
        self.groups, self.budget_gpus = tuple(groups), budget_gpus
        self.nodes = [Node(group=group, number=number) for group in groups for number in range(group.high)]
        self.memory = HostMemory([node.group.host_bytes for node in self.nodes])
        self.held_gpus = 0  # of all replicas that are, with and without a node: what a quota counts
        self.moves = 0  # of replicas, to nodes and away: who found no room may look again when this is another number
        self.happened: list[Happening] = []  # in order; whoever has replicas remembers how far he read
        self._seed = seed
        self._due: list[tuple[float, int, Fate, int]] = []  # at_s, node, fate, life
        self._gpu_seconds = dict.fromkeys(range(len(self.nodes)), 0.0)
        self._count: dict[tuple[str, Fate], int] = {}
        self._strokes: dict[tuple[int, Fate], Iterator[float]] = {}
        for index, node in enumerate(self.nodes):
            node.is_there = node.number < node.group.low
            self._await_stroke(index, Fate.RECLAIMED)
            self._await_stroke(index, Fate.LOST)

    @property
    def next_at_s(self) -> float:
        """When something happens next."""
        return self._due[0][0] if self._due else math.inf

    def machine(self, index: int) -> int:
        """A number for who is there now: the index, and another number for each that comes after."""
        return index + self.nodes[index].life * len(self.nodes)

    def settle(self, now_s: float) -> None:
        """Let happen what is due."""
        while self._due and self._due[0][0] <= now_s:
            at_s, index, fate, life = heapq.heappop(self._due)
            if fate in (Fate.RECLAIMED, Fate.LOST):
                self._await_stroke(index, fate)
                self._strike(index, fate, at_s)
            elif life == self.nodes[index].life:
                self._go_on(index, fate, at_s)

    @property
    def budget_left_gpus(self) -> float:
        """What the quota still admits."""
        return math.inf if self.budget_gpus is None else self.budget_gpus - self.held_gpus

    def claim(self, index: int, gpus: int) -> None:
        """A replica is put there."""
        node = self.nodes[index]
        if gpus > node.free_gpus:
            raise ValueError(f"node {index} has {node.free_gpus} free GPUs, a replica asks for {gpus}")
        self.moves += 1
        node.used_gpus += gpus

    def admit(self, gpus: int) -> None:
        """A replica is made."""
        if gpus > self.budget_left_gpus:
            raise ValueError(f"the quota has {self.budget_left_gpus} GPUs left, a replica asks for {gpus}")
        self.held_gpus += gpus

    def release(self, index: int | None, gpus: int, now_s: float) -> None:
        """It is gone; from its node, if it had one."""
        self.moves += 1
        self.held_gpus -= gpus
        if index is None:
            return
        node = self.nodes[index]
        node.used_gpus -= gpus
        if node.used_gpus == 0 and node.group.is_elastic:
            node.emptied_at_s = now_s
            self._plan(now_s + node.group.idle_s, index, Fate.IDLE)

    def buy(self, index: int, now_s: float) -> None:
        """Another machine for a place that has none."""
        node = self.nodes[index]
        random = Random(f"{self._seed} {node.group.name} {node.number} bought {node.life}")
        luck = math.exp(node.group.log_deviation * random.gauss(0.0, 1.0))
        node.is_coming, node.bought_at_s = True, now_s
        self._plan(now_s + luck * node.group.provision_s, index, Fate.COMES)

    def use(self, end_s: float) -> tuple[NodeUse, ...]:
        """Of each group, from 0 until then."""
        return tuple(self._use(group, end_s) for group in self.groups)

    def _use(self, group: NodeGroup, end_s: float) -> NodeUse:
        own = [(index, node) for index, node in enumerate(self.nodes) if node.group is group]
        node_seconds = sum(self._gpu_seconds[index] for index, _ in own)
        node_seconds += sum(max(0.0, end_s - node.bought_at_s) for _, node in own if node.is_bought)
        gpu_hours = node_seconds * group.gpus / HOUR_S
        return NodeUse(
            group=group.name,
            gpu_class=group.gpu_class,
            gpu_hours=gpu_hours,
            cost=gpu_hours * group.price_per_gpu_hour,
            reclaims=self._count.get((group.name, Fate.RECLAIMED), 0),
            losses=self._count.get((group.name, Fate.LOST), 0),
        )

    def _plan(self, at_s: float, index: int, fate: Fate) -> None:
        heapq.heappush(self._due, (at_s, index, fate, self.nodes[index].life))

    def _await_stroke(self, index: int, fate: Fate) -> None:
        """The next blow of fate to this place."""
        strokes = self._strokes.setdefault((index, fate), self._strokes_of(self.nodes[index], fate))
        at_s = next(strokes, math.inf)
        if at_s < math.inf:
            heapq.heappush(self._due, (at_s, index, fate, 0))

    def _strokes_of(self, node: Node, fate: Fate) -> Iterator[float]:
        group = node.group
        told = sorted(at_s for number, at_s in group.losses_at_s if number == node.number)
        if fate is Fate.LOST and told:
            return iter(told)
        per_hour = group.reclaims_per_hour if fate is Fate.RECLAIMED else group.losses_per_hour
        if per_hour == 0:
            return iter(())
        random = Random(f"{self._seed} {group.name} {node.number} {fate}")
        return accumulate(random.expovariate(per_hour / HOUR_S) for _ in iter(int, 1))

    def _strike(self, index: int, fate: Fate, at_s: float) -> None:
        node = self.nodes[index]
        if not node.is_there:
            return
        node.is_there, node.is_leaving = False, True
        self._count[node.group.name, fate] = self._count.get((node.group.name, fate), 0) + 1
        self._tell(index, fate)
        if fate is Fate.RECLAIMED:
            self._plan(at_s + node.group.notice_s, index, Fate.ENDS)
        else:
            self._plan(at_s + UNNOTICED_S, index, Fate.FOUND)

    def _go_on(self, index: int, fate: Fate, at_s: float) -> None:
        node = self.nodes[index]
        if fate is Fate.COMES:
            node.is_there, node.is_coming, node.emptied_at_s = True, False, at_s
            self._tell(index, fate)
            if node.group.is_elastic:
                self._plan(at_s + node.group.idle_s, index, Fate.IDLE)
        elif fate is Fate.IDLE:
            is_needed = node.used_gpus > 0 or at_s < node.emptied_at_s + node.group.idle_s
            if node.is_there and not is_needed and self._present(node.group) > node.group.low:
                self._end(index, fate, at_s)
        else:
            self._end(index, fate, at_s)
            if self._present(node.group) < node.group.low:
                self.buy(index, at_s)

    def _tell(self, index: int, fate: Fate) -> None:
        self.happened.append(Happening(fate=fate, node=index, machine=self.machine(index)))

    def _end(self, index: int, fate: Fate, at_s: float) -> None:
        """This machine is no more; what is bought for its place is another one."""
        self._tell(index, fate)
        node = self.nodes[index]
        self._gpu_seconds[index] += at_s - node.bought_at_s
        node.is_there = node.is_coming = node.is_leaving = False
        node.life += 1

    def _present(self, group: NodeGroup) -> int:
        return sum(node.is_there or node.is_coming for node in self.nodes if node.group is group)
