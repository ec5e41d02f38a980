"""A binary heap in a stretch of integers, from `first` on; its length is the caller's."""

from .jit import inner
from .layout import Rows


@inner
def heap_push(rows: Rows, first: int, length: int, key: int) -> None:
    """Add a key to a heap of so many."""
    place = length
    while place and rows[first + ((place - 1) >> 1)] > key:
        rows[first + place] = rows[first + ((place - 1) >> 1)]
        place = (place - 1) >> 1
    rows[first + place] = key


@inner
def heap_pop(rows: Rows, first: int, length: int) -> None:
    """Take the smallest key out of a heap of so many."""
    _sink(rows, first, 0, length - 1, rows[first + length - 1])


@inner
def heap_remove(rows: Rows, first: int, length: int, key: int) -> None:
    """Take out a key that is in a heap of so many: a search, for the rare preemption."""
    place = 0
    while rows[first + place] != key:
        place += 1
    last = rows[first + length - 1]
    if place == length - 1:
        return
    while place and rows[first + ((place - 1) >> 1)] > last:
        rows[first + place] = rows[first + ((place - 1) >> 1)]
        place = (place - 1) >> 1
    _sink(rows, first, place, length - 1, last)


@inner
def _sink(rows: Rows, first: int, place: int, length: int, key: int) -> None:
    """Put a key in at a place of a heap of `length`, below which smaller ones come up."""
    child = 2 * place + 1
    while child < length:
        if child + 1 < length and rows[first + child + 1] < rows[first + child]:
            child += 1
        if rows[first + child] >= key:
            break
        rows[first + place] = rows[first + child]
        place, child = child, 2 * child + 1
    rows[first + place] = key
