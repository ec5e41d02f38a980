"""One service's places on nodes that others may use, too: a slot for each replica that fits on each node."""

import math
from collections.abc import Callable, Mapping, Sequence

from simulations.world.host_memory import HostMemory
from simulations.world.nodes import Happening, Node, NodeGroup, Nodes
from simulations.world.starts.holdings import Holdings


class Tenants:
    """All services of a place, the most important first: what waits of the first is placed before the next has a turn.

    As pods of several priority classes under kube-scheduler, none of which preempts.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._all: list[Tenant] = []

    def add(self, *, gpus: int, fits: Callable[[NodeGroup], bool], slots: int | None = None) -> "Tenant":
        """One more, less important than those before. `slots`: so many at most; None: as many as fit."""
        tenant = Tenant(self, self._all.copy(), gpus=gpus, fits=fits, slots=slots)
        self._all.append(tenant)
        return tenant

    def provide(self, now_s: float) -> None:
        """As cluster-autoscaler: nodes for all that wait and will not find one among those that are on their way."""
        coming = {
            index: node.group.gpus - node.used_gpus for index, node in enumerate(self.nodes.nodes) if node.is_coming
        }
        for tenant in self._all:
            for _ in range(tenant.waiting):
                chosen = tenant.first_of(coming)
                if chosen is None:
                    chosen = tenant.to_buy()
                    if chosen is None:
                        break
                    self.nodes.buy(chosen, now_s)
                    coming[chosen] = self.nodes.nodes[chosen].group.gpus
                coming[chosen] -= tenant.gpus

    @property
    def is_anyone_short(self) -> bool:
        """Of all services."""
        return any(tenant.is_short for tenant in self._all)

    def queued(self, gpus: int) -> int:
        """Replicas of so many GPUs that all the GPUs that are waited for would be."""
        return -(-sum(one.waiting * one.gpus for one in self._all) // gpus)


class Tenant:
    """One service among them; `gpus` of each of its replicas, on nodes of the groups that they fit."""

    def __init__(
        self,
        place: Tenants,
        before: Sequence["Tenant"],
        *,
        gpus: int,
        fits: Callable[[NodeGroup], bool],
        slots: int | None,
    ) -> None:
        self.gpus = gpus
        self.waiting = 0  # replicas without a node
        self.is_short = False  # of those, or of others that a quota does not let be
        self.kinds: Mapping[str, int] = {}  # of GPU, by class, where a replica is not the same on all
        self.holdings: Holdings | None = None  # on the disks of these nodes, where others have theirs there, too
        self._place, self._nodes, self._before = place, place.nodes, before
        self.usable = frozenset(index for index, node in enumerate(self._nodes.nodes) if fits(node.group))
        # Slots of a node lie side by side, the nodes in the order of their groups.
        self.index_of = [index for index in sorted(self.usable) for _ in range(self._node(index).group.gpus // gpus)]
        self.index_of = self.index_of[:slots]
        self._elastic = [index for index in sorted(self.usable) if self._node(index).group.is_elastic]
        self._heard = 0
        self._moves = -1  # of replicas, before it last looked for room

    @property
    def next_at_s(self) -> float:
        """When something happens to a node."""
        return self._nodes.next_at_s

    @property
    def has_news(self) -> bool:
        """Whether something happened that was not heard yet."""
        return self._heard < len(self._nodes.happened)

    @property
    def is_anyone_short(self) -> bool:
        """Whether somebody wants what others may let go."""
        return self._place.is_anyone_short

    @property
    def may_have_room(self) -> bool:
        """Whether a replica went, or came and waits no more, since it last looked for room."""
        return self._moves != self._nodes.moves

    def hear(self, now_s: float) -> Sequence[Happening]:
        """What happened to nodes since the last time, up to now."""
        self._nodes.settle(now_s)
        heard = self._nodes.happened[self._heard :]
        self._heard += len(heard)
        return heard

    def machine(self, slot: int) -> int:
        """What stands at a slot's node, as `Nodes.machine`."""
        return self._nodes.machine(self.index_of[slot])

    @property
    def nodes(self) -> list[int]:
        """All that may ever be, in the order in which replicas go to them."""
        return list(dict.fromkeys(self.index_of))

    @property
    def memory(self) -> HostMemory:
        """Of all nodes."""
        return self._nodes.memory

    @property
    def there(self) -> list[int]:
        """Those that are there, in the same order."""
        return [index for index in self.nodes if self._node(index).is_there]

    def names(self, slot: int) -> tuple[str, str]:
        """Of the node of a slot, and of its GPUs."""
        node = self._node(self.index_of[slot])
        again = f"-{node.life}" if node.life else ""
        return f"{node.group.name}-{node.number}{again}", node.group.gpu_class

    def kind(self, slot: int) -> int | None:
        """Which of several kinds its GPUs are of; None: the usual one."""
        return self.kinds.get(self._node(self.index_of[slot]).group.gpu_class)

    def is_free(self, slot: int) -> bool:
        """Whether there is room on its node, and nobody who is more important waits for that."""
        index = self.index_of[slot]
        free_gpus = self._nodes.nodes[index].free_gpus
        if free_gpus < self.gpus or not self._before:
            return free_gpus >= self.gpus
        return not any(other.waiting and index in other.usable and free_gpus >= other.gpus for other in self._before)

    def admits(self) -> bool:
        """Whether the quota lets another replica be."""
        return self._nodes.budget_left_gpus >= self.gpus

    def admit(self) -> None:
        """A replica is made."""
        self._nodes.admit(self.gpus)

    def take(self, slot: int) -> None:
        """A replica is put there."""
        self._nodes.claim(self.index_of[slot], self.gpus)

    def leave(self, slot: int | None, now_s: float) -> None:
        """It is gone; None: it never had a node."""
        self._nodes.release(None if slot is None else self.index_of[slot], self.gpus, now_s)

    def provide(self, waiting: int, now_s: float) -> None:
        """So many replicas wait for a node, after all that there was for them."""
        self.waiting, self._moves = waiting, self._nodes.moves
        if waiting:
            self._place.provide(now_s)

    @property
    def schedulable(self) -> int | None:
        """How many more would find free GPUs; None where nodes can be bought: as `autoscaler.gpus` counts."""
        nodes = [self._node(index) for index in self.usable]
        if any(node.group.is_elastic for node in nodes):
            return None
        return max(0, sum(node.free_gpus // self.gpus for node in nodes) - self._place.queued(self.gpus))

    def budget(self, wanted: int, admitted: int) -> int | None:
        """The most replicas that the quota allows; None without a quota: as `autoscaler.quota` counts."""
        left_gpus = self._nodes.budget_left_gpus
        return None if left_gpus == math.inf else max(wanted, admitted + int(left_gpus // self.gpus))

    def first_of(self, spare_gpus: dict[int, int]) -> int | None:
        """The first node with room."""
        return next((index for index, gpus in spare_gpus.items() if index in self.usable and gpus >= self.gpus), None)

    def to_buy(self) -> int | None:
        """The first place for a node that has none, in the order of the groups; what always is there is not bought."""
        return next((index for index in self._elastic if not self._node(index).is_bought), None)

    def _node(self, index: int) -> Node:
        return self._nodes.nodes[index]
