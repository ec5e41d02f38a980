"""The trees of one node by what they are worth, and which of them to take away for room. Pure but for itself.

10,000 trees and as many wishes must be planned within a second, so nothing here looks at all trees for one wish.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cacheops.stock import Cause, HeldTree


@dataclass(frozen=True, slots=True)
class Slot:
    """A held tree, what it is worth, and what protects it."""

    tree: HeldTree
    value_s: float
    is_wanted: bool
    guard: Cause | None = None

    @property
    def density(self) -> float:
        """Replica-seconds per byte."""
        return self.value_s / max(1, self.tree.size_bytes)


def cheapest_first(slots: Iterable[Slot]) -> list[Slot]:
    """By value per byte; the key makes equal ones take turns the same way every time."""
    return sorted(slots, key=lambda slot: (slot.density, slot.tree.key, slot.tree.digest))


class Shelf:
    """Trees that may go, cheapest first. `take` is the only change.

    `_bytes_before` never falls with the index, and only differences within it count: what is spared is put back in
    front of what was not looked at.
    """

    def __init__(self, loose: Iterable[Slot]) -> None:
        self._slots = cheapest_first(loose)
        self._density = [slot.density for slot in self._slots]
        self._bytes_before = [0]
        for slot in self._slots:
            self._bytes_before.append(self._bytes_before[-1] + slot.tree.size_bytes)
        self._start = 0

    def left(self) -> list[Slot]:
        """What stays."""
        return self._slots[self._start :]

    def take(self, need_bytes: int, *, below: float = math.inf, worth_s: float = math.inf) -> list[Slot] | None:
        """The cheapest trees below a density that free so much and are worth less together; None: there are none."""
        end = len(self._slots) if below == math.inf else bisect_left(self._density, below, self._start)
        stop = bisect_left(self._bytes_before, self._bytes_before[self._start] + need_bytes, self._start, end + 1)
        if stop > end:
            return None
        chosen, spared = fewest(self._slots[self._start : stop], need_bytes)
        if chosen and sum(slot.value_s for slot in chosen) >= worth_s:
            return None
        self._put_back(spared, stop)
        return chosen

    def _put_back(self, spared: Sequence[Slot], stop: int) -> None:
        self._start = stop - len(spared)
        for index in range(stop - 1, self._start - 1, -1):
            slot = spared[index - self._start]
            self._slots[index], self._density[index] = slot, slot.density
            self._bytes_before[index] = self._bytes_before[index + 1] - slot.tree.size_bytes


def fewest(slots: Sequence[Slot], need_bytes: int) -> tuple[list[Slot], list[Slot]]:
    """Of trees that free enough together: those that must go, and those that may stay after all, dear ones first."""
    surplus_bytes = sum(slot.tree.size_bytes for slot in slots) - need_bytes
    chosen, spared = [], []
    for slot in reversed(slots):
        if slot.tree.size_bytes <= surplus_bytes:
            spared.append(slot)
            surplus_bytes -= slot.tree.size_bytes
        else:
            chosen.append(slot)
    return chosen[::-1], spared[::-1]


def shed(slots: Sequence[Slot], need_bytes: int) -> tuple[list[Slot], list[Slot]]:
    """Trees that go, cheapest first, until so much is free or all are gone; and those that stay."""
    freed_bytes = 0
    for count, slot in enumerate(slots):
        if freed_bytes >= need_bytes:
            chosen, spared = fewest(slots[:count], need_bytes)
            return chosen, [*spared, *slots[count:]]
        freed_bytes += slot.tree.size_bytes
    if freed_bytes < need_bytes:
        return list(slots), []
    return fewest(slots, need_bytes)
