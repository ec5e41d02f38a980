"""Bytes on their way to nodes: all transfers share one origin evenly, and none is faster than its node."""

import math
from collections import Counter
from dataclasses import dataclass


@dataclass(slots=True)
class _Transfer:
    node: int
    name: str
    left_bytes: float
    rate_bytes_per_s: float = 0.0


class Downloads:
    """Processor sharing, max-min fair: what a node cannot take, others get (Bertsekas and Gallager, Data Networks)."""

    def __init__(self, *, origin_bytes_per_s: float, node_bytes_per_s: float) -> None:
        self._origin_bytes_per_s, self._node_bytes_per_s = origin_bytes_per_s, node_bytes_per_s
        self._transfers: dict[tuple[int, str], _Transfer] = {}  # by node and name
        self._at_s = 0.0
        self._moved_bytes: dict[str, float] = {}  # by name

    @property
    def alone_bytes_per_s(self) -> float:
        """What one transfer reaches while there is no other."""
        return min(self._origin_bytes_per_s, self._node_bytes_per_s)

    @property
    def next_end_s(self) -> float:
        """When the next one ends, if none begins before."""
        if not self._transfers:
            return math.inf
        return self._at_s + min(each.left_bytes / each.rate_bytes_per_s for each in self._transfers.values())

    @property
    def moved_bytes(self) -> float:
        """From the origin, since the beginning."""
        return sum(self._moved_bytes.values())

    def moved_bytes_of(self, name: str) -> float:
        """The same of what is called so, to all nodes."""
        return self._moved_bytes.get(name, 0.0)

    def begin(self, node: int, name: str, size_bytes: float, now_s: float) -> None:
        """A node starts to fetch; the others are slower from now on."""
        self._move(now_s)
        self._transfers[node, name] = _Transfer(node, name, size_bytes)
        self._share()

    def stop(self, node: int, name: str, now_s: float) -> None:
        """Nobody waits for it any more; what was moved is lost."""
        self._move(now_s)
        self._transfers.pop((node, name), None)
        self._share()

    def stop_all(self, node: int, now_s: float) -> None:
        """The node is gone."""
        self._move(now_s)
        self._transfers = {place: each for place, each in self._transfers.items() if each.node != node}
        self._share()

    def end(self, now_s: float) -> list[tuple[int, str]]:
        """Nodes and names of what ended by now."""
        ended: list[tuple[int, str]] = []
        while (end_s := self.next_end_s) <= now_s:
            place = min(self._transfers, key=self._left_s)
            self._move(end_s)
            self._count(self._transfers[place], self._transfers.pop(place).left_bytes)  # what rounding left
            self._share()
            ended.append(place)
        return ended

    def _left_s(self, place: tuple[int, str]) -> float:
        transfer = self._transfers[place]
        return transfer.left_bytes / transfer.rate_bytes_per_s

    def _move(self, now_s: float) -> None:
        """Never back: that a replica is gone may be known a moment after it went."""
        passed_s = max(0.0, now_s - self._at_s)
        for transfer in self._transfers.values():
            moved_bytes = min(transfer.left_bytes, passed_s * transfer.rate_bytes_per_s)
            transfer.left_bytes -= moved_bytes
            self._count(transfer, moved_bytes)
        self._at_s = max(self._at_s, now_s)

    def _count(self, transfer: _Transfer, moved_bytes: float) -> None:
        self._moved_bytes[transfer.name] = self._moved_bytes.get(transfer.name, 0.0) + moved_bytes

    def _share(self) -> None:
        """The busiest nodes first: their transfers are the slowest, and leave something to the others."""
        on_node = Counter(each.node for each in self._transfers.values())
        nodes = Counter(on_node.values())
        left_bytes_per_s, left = self._origin_bytes_per_s, len(self._transfers)
        rates: dict[int, float] = {}
        for count in sorted(nodes, reverse=True):
            rates[count] = min(self._node_bytes_per_s / count, left_bytes_per_s / left)
            left_bytes_per_s -= rates[count] * count * nodes[count]
            left -= count * nodes[count]
        for transfer in self._transfers.values():
            transfer.rate_bytes_per_s = rates[on_node[transfer.node]]
