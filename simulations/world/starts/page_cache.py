"""What of a node's files is in its memory: whole models, the one that was not read for longest goes first."""

from collections import OrderedDict


class PageCache:
    """Least recently used by bytes. A file larger than all of it leaves nothing that a reader from the start finds."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._sizes_bytes: OrderedDict[str, int] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """Of all that is in it."""
        return sum(self._sizes_bytes.values())

    def __contains__(self, name: object) -> bool:
        return name in self._sizes_bytes

    def read(self, name: str, size_bytes: int) -> bool:
        """A file is read from start to end, or written; whether it was in memory."""
        was_there = name in self._sizes_bytes
        self._sizes_bytes[name] = size_bytes
        self._sizes_bytes.move_to_end(name)
        while self.size_bytes > self.capacity_bytes:
            self._sizes_bytes.popitem(last=False)
        return was_there

    def drop(self, name: str) -> None:
        """The file is deleted."""
        self._sizes_bytes.pop(name, None)
