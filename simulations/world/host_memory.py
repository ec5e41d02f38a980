"""The main memory of nodes, as far as engines that sleep hold it; files have what these leave."""

import math
from collections.abc import Hashable, Sequence


class HostMemory:
    """Level 1 of vLLM's sleep mode backs the weights up in CPU memory, of which there must be enough for all of them
    (docs.vllm.ai, features/sleep_mode). Where there is not, who has slept for longest on that node ends.
    """

    def __init__(self, sizes_bytes: Sequence[float] = ()) -> None:
        """`sizes_bytes`: of each node; of others it is boundless."""
        self._sizes_bytes = sizes_bytes
        self._asleep: dict[Hashable, tuple[int, float]] = {}  # node and bytes, who sleeps for longest first
        self._held_bytes: dict[int, float] = {}

    def __contains__(self, who: Hashable) -> bool:
        return who in self._asleep

    def free_bytes(self, node: int) -> float:
        """What nobody who sleeps there holds."""
        return self._size_bytes(node) - self._held_bytes.get(node, 0.0)

    def lie_down(self, who: Hashable, node: int, size_bytes: float) -> bool:
        """Whether there is room, after others made some."""
        if size_bytes > self._size_bytes(node):
            return False
        while self.free_bytes(node) < size_bytes:
            self.get_up(next(other for other, (where, _) in self._asleep.items() if where == node))
        self._asleep[who] = (node, size_bytes)
        self._held_bytes[node] = self._held_bytes.get(node, 0.0) + size_bytes
        return True

    def get_up(self, who: Hashable) -> None:
        """It is woken, or ends."""
        if (found := self._asleep.pop(who, None)) is not None:
            self._held_bytes[found[0]] -= found[1]

    def _size_bytes(self, node: int) -> float:
        return self._sizes_bytes[node] if node < len(self._sizes_bytes) else math.inf
