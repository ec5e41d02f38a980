"""What one service has on nodes that others may use, too: its view of their `Stores`."""

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

from simulations.world.starts.caches import NodeCaches
from simulations.world.starts.stores import Arrival, Model, Stores

ALONE = "the service"  # its name where there is no other; models of others on its nodes have theirs


def model_of(size_bytes: int, caches: NodeCaches, nodes: Sequence[int]) -> Model:
    """Weights of so many bytes. `nodes`: all that may ever be, in the order in which replicas go to them."""
    ahead = frozenset(node for index, node in enumerate(nodes) if caches.is_ahead(index))
    return Model(size_bytes=size_bytes, keep=caches.keep, ahead=ahead)


class Holdings:
    """One service's weights on nodes.

    Services that share nodes hear of what befalls these one after the other: a node goes once, whoever hears of it
    first, and who hears of it later changes nothing of what was put there since.
    """

    def __init__(self, stores: Stores, name: str, model: Model, *, key: str | None = None) -> None:
        """`key`: of its model, where others on these nodes may have the same."""
        stores.add(name, key or name, model)
        self._stores, self._name = stores, name
        self._lives: Counter[int] = Counter()  # of each node, those whose end was heard of

    @property
    def next_at_s(self) -> float:
        """When something begins or ends next, or what another let happen is to be heard."""
        arrived_s = (arrival.at_s for arrival in self._stores.arrivals[self._name])
        return min(self._stores.next_at_s, min(arrived_s, default=math.inf))

    def holds(self, node: int) -> bool:
        """Whether its weights are on a node."""
        return self._stores.holds(self._name, node)

    def hold(self, node: int, slot: int) -> None:
        """A replica has long been there."""
        self._stores.hold(self._name, node, slot)

    def need(self, node: int, slot: int, *, at_s: float, now_s: float) -> Arrival | None:
        """A replica on this node needs its weights from then on; its arrival, where they are there now."""
        return self._stores.need(self._name, node, slot, at_s=at_s, now_s=now_s)

    def leave(self, slot: int, now_s: float) -> None:
        """A replica is gone, whether it had its weights or not."""
        self._stores.leave(self._name, slot, now_s)

    def come(self, node: int, now_s: float) -> None:
        """A node is there, and empty."""
        if self._lives[node] == self._stores.lives.get(node, 0):
            self._stores.come(node, now_s)

    def forget(self, node: int, now_s: float) -> None:
        """A node is gone; one that takes its place is empty."""
        self._lives[node] += 1
        if self._lives[node] > self._stores.lives.get(node, 0):
            self._stores.forget(node, now_s)

    def settle(self, now_s: float) -> list[Arrival]:
        """Let happen what is due; what arrived for its replicas."""
        self._stores.settle(now_s)
        arrivals = self._stores.arrivals[self._name]
        self._stores.arrivals[self._name] = []
        return arrivals

    @property
    def fetched_bytes(self) -> float:
        """What the origin gave to all nodes, but for other services."""
        return self._stores.fetched_bytes(self._name)

    @property
    def evictions(self) -> int:
        """Of its weights, from nodes where no replica was."""
        return self._stores.evictions_of(self._name)


def alone(stores: Stores, caches: NodeCaches, *, size_bytes: int, nodes: Sequence[int], random: Random) -> Holdings:
    """Of the only service on these nodes."""
    stores.await_others(nodes, random)
    return Holdings(stores, ALONE, model_of(size_bytes, caches, nodes))
