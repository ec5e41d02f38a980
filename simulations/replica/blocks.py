"""KV blocks of one replica: reference counts, names for prefix reuse, eviction in the order of freeing.

As vLLM's BlockPool: a free block keeps its name until it is taken for something else, free blocks are
taken in the order in which they became free, and a sequence's tail is freed before its head.
One difference: where two live blocks would have the same name, only the older one has it.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

BlockName = Hashable


class BlockPool:
    """A fixed number of blocks; every block is either free or used by at least one sequence."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(total))
        self._uses = [0] * total
        self._names: list[BlockName | None] = [None] * total
        self._by_name: dict[BlockName, int] = {}

    @property
    def free(self) -> int:
        """Blocks that no sequence uses; some still have a name."""
        return len(self._free)

    @property
    def usage_ratio(self) -> float:
        """Used blocks ÷ all blocks."""
        return 1.0 - len(self._free) / self.total

    def find(self, names: Iterable[BlockName]) -> list[int]:
        """The blocks that hold the longest known beginning of these names."""
        found: list[int] = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def free_among(self, blocks: Iterable[int]) -> int:
        """How many of these no sequence uses now: taking them lowers `free`."""
        return sum(1 for block in blocks if not self._uses[block])

    def share(self, blocks: Iterable[int]) -> None:
        """One more sequence uses these blocks."""
        for block in blocks:
            if not self._uses[block]:
                del self._free[block]
            self._uses[block] += 1

    def take(self, count: int) -> list[int]:
        """Blocks for new content, the longest free first; what they held is forgotten."""
        taken = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._uses[block] = 1
            taken.append(block)
        return taken

    def name(self, block: int, name: BlockName) -> None:
        """Make a full block findable."""
        if name not in self._by_name:
            self._by_name[name] = block
            self._names[block] = name

    def release(self, blocks: Sequence[int]) -> None:
        """A sequence is done with its blocks: the tail becomes free, and thus evictable, first."""
        for block in reversed(blocks):
            self._uses[block] -= 1
            if not self._uses[block]:
                self._free[block] = None

    def _forget(self, block: int) -> None:
        name = self._names[block]
        if name is not None:
            del self._by_name[name]
            self._names[block] = None
