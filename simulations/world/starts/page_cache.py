"""What of a node's files is in its memory: whole models, the one that was not read for longest goes first."""

import math
from collections import OrderedDict
from collections.abc import Callable


class PageCache:
    """Least recently used by bytes. A file larger than all of it leaves nothing that a reader from the start finds."""

    def __init__(self, most_bytes: int, free_bytes: Callable[[], float] = lambda: math.inf) -> None:
        """`free_bytes`: what others have left of the memory; files go when they take it."""
        self._most_bytes, self._free_bytes = most_bytes, free_bytes
        self._sizes_bytes: OrderedDict[str, int] = OrderedDict()

    @property
    def capacity_bytes(self) -> int:
        """For files, as things are."""
        return int(min(self._most_bytes, self._free_bytes()))

    @property
    def size_bytes(self) -> int:
        """Of all that is in it."""
        return sum(self._sizes_bytes.values())

    def __contains__(self, name: object) -> bool:
        self._fit()
        return name in self._sizes_bytes

    def read(self, name: str, size_bytes: int) -> bool:
        """A file is read from start to end, or written; whether it was in memory."""
        was_there = name in self
        self._sizes_bytes[name] = size_bytes
        self._sizes_bytes.move_to_end(name)
        self._fit()
        return was_there

    def drop(self, name: str) -> None:
        """The file is deleted."""
        self._sizes_bytes.pop(name, None)

    def _fit(self) -> None:
        while self.size_bytes > self.capacity_bytes:
            self._sizes_bytes.popitem(last=False)
