"""Weights on their way to nodes: all downloads share one origin evenly, and none is faster than its node."""

import math


class Downloads:
    """Processor sharing: every transfer gets the same share, at most what a node's network and disk take."""

    def __init__(self, *, origin_bytes_per_s: float, node_bytes_per_s: float) -> None:
        self._origin_bytes_per_s, self._node_bytes_per_s = origin_bytes_per_s, node_bytes_per_s
        self._left_bytes: dict[int, float] = {}  # by node
        self._at_s = 0.0

    @property
    def next_end_s(self) -> float:
        """When the next one ends, if none begins before."""
        if not self._left_bytes:
            return math.inf
        return self._at_s + min(self._left_bytes.values()) / self._rate_bytes_per_s()

    def is_under_way(self, node: int) -> bool:
        """Whether a node is fetching."""
        return node in self._left_bytes

    def begin(self, node: int, size_bytes: float, now_s: float) -> None:
        """A node starts to fetch; the others are slower from now on."""
        self._move(now_s)
        self._left_bytes[node] = size_bytes

    def end(self, now_s: float) -> list[int]:
        """Nodes whose fetch ended by now."""
        ended: list[int] = []
        while (end_s := self.next_end_s) <= now_s:
            node = min(self._left_bytes, key=self._left_bytes.__getitem__)
            self._move(end_s)
            del self._left_bytes[node]
            ended.append(node)
        return ended

    def _move(self, now_s: float) -> None:
        if self._left_bytes:
            moved = (now_s - self._at_s) * self._rate_bytes_per_s()
            self._left_bytes = {node: max(0.0, left - moved) for node, left in self._left_bytes.items()}
        self._at_s = now_s

    def _rate_bytes_per_s(self) -> float:
        return min(self._node_bytes_per_s, self._origin_bytes_per_s / len(self._left_bytes))
