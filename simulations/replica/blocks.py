"""KV blocks of one replica: reference counts, names for prefix reuse, eviction in the order of freeing.

As vLLM's BlockPool (0.32): a free block keeps its name until it is taken for something else; blocks without a name
are taken first, then the others in the order in which they became free, a sequence's tail before its head. Blocks of
equal content may exist side by side, of which the first named one is found.
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
        self._by_name: dict[BlockName, dict[int, None]] = {}  # the blocks of each name, first named first

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
            blocks = self._by_name.get(name)
            if not blocks:
                break
            found.append(next(iter(blocks)))
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
        """Blocks for new content, those without a name first, then the longest free; what they held is forgotten."""
        taken = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._uses[block] = 1
            taken.append(block)
        return taken

    def name(self, block: int, name: BlockName) -> None:
        """Make a full block findable; it must not have a name."""
        self._by_name.setdefault(name, {})[block] = None
        self._names[block] = name

    def release(self, blocks: Sequence[int]) -> None:
        """A sequence is done with its blocks; of those with a name the tail becomes free, and so evictable, first."""
        for block in reversed(blocks):
            self._uses[block] -= 1
            if not self._uses[block]:
                self._free[block] = None
                if self._names[block] is None:
                    self._free.move_to_end(block, last=False)

    def _forget(self, block: int) -> None:
        name = self._names[block]
        if name is not None:
            blocks = self._by_name[name]
            del blocks[block]
            if not blocks:
                del self._by_name[name]
            self._names[block] = None
