"""When each service gets its next pass: load first, then the earliest deadline; each key once, never twice at a time.

Wakes are level-triggered: a key that is woken a hundred times before its turn gets one pass, and one that is woken
during its pass gets exactly one more. Where more is due than can be done, load that came up overtakes what only time
or other events ask for, and yet nobody starves: of so many turns in a row, one goes to who has waited longest.
"""

import asyncio
import heapq
from dataclasses import dataclass

from autoscaler.rhythm import SPACING_S
from metrics.clock import Clock

# Most of the turns for those who hurry, and enough for the others that a status grows old by little.
HURRIED_IN_A_ROW_MAX = 4


@dataclass(frozen=True, slots=True)
class Wake:
    """A key whose turn has come. `signalled_at_s` is when something first asked for this pass; None: time alone."""

    key: str
    signalled_at_s: float | None


class WakeQueue:
    """Deadlines by key. One task takes; any code of the same event loop adds."""

    def __init__(self, clock: Clock, *, spacing_s: float = SPACING_S) -> None:
        self._clock = clock
        self._spacing_s = spacing_s
        self._heap: list[tuple[float, str]] = []
        self._hurry_heap: list[tuple[float, str]] = []
        self._hurried: set[str] = set()
        self._hurried_in_a_row = 0
        self._due: dict[str, float] = {}
        self._signalled: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._held: set[str] = set()
        self._changed = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._due)

    def wake(self, key: str) -> None:
        """Something happened: a pass as soon as the spacing allows."""
        now_s = self._clock.now_s()
        self._signalled.setdefault(key, now_s)
        self._add(key, now_s)

    def hurry(self, key: str) -> None:
        """Load came up: as `wake`, ahead of whatever waits for other reasons."""
        is_new = key not in self._hurried
        self._hurried.add(key)
        self.wake(key)
        if is_new:
            self._push(key)

    def wake_at(self, key: str, at_s: float) -> None:
        """A pass at a time, unless one comes earlier."""
        self._add(key, at_s)

    def forget(self, key: str) -> None:
        """No more passes for a key; one that runs ends as it will."""
        for table in (self._due, self._signalled, self._started):
            table.pop(key, None)
        self._hurried.discard(key)

    def close(self) -> None:
        """Hand out nothing more: `take` returns None."""
        self._is_closed = True
        self._changed.set()

    async def take(self) -> Wake | None:
        """The next key whose time has come; hold it until `done`. None: the queue is closed."""
        while not self._is_closed and (wake := self._pop()) is None:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._wait_s()):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return None if self._is_closed else wake

    def done(self, key: str) -> None:
        """The pass over this key is over; wakes that came meanwhile count from now."""
        self._held.discard(key)
        if key in self._due:
            self._push(key)

    def _add(self, key: str, at_s: float) -> None:
        due_s = max(at_s, self._started.get(key, at_s - self._spacing_s) + self._spacing_s)
        if due_s < self._due.get(key, float("inf")):
            self._due[key] = due_s
            self._push(key)

    def _push(self, key: str) -> None:
        if key not in self._held:
            heapq.heappush(self._hurry_heap if key in self._hurried else self._heap, (self._due[key], key))
            self._changed.set()

    def _pop(self) -> Wake | None:
        now_s = self._clock.now_s()
        is_others_turn = self._hurried_in_a_row >= HURRIED_IN_A_ROW_MAX
        heaps = (self._heap, self._hurry_heap) if is_others_turn else (self._hurry_heap, self._heap)
        key = next((key for heap in heaps if (key := self._due_in(heap, now_s)) is not None), None)
        if key is None:
            return None
        self._hurried_in_a_row = self._hurried_in_a_row + 1 if key in self._hurried else 0
        self._hurried.discard(key)
        del self._due[key]
        self._held.add(key)
        self._started[key] = now_s
        return Wake(key, self._signalled.pop(key, None))

    def _due_in(self, heap: list[tuple[float, str]], now_s: float) -> str | None:
        while heap and heap[0][0] <= now_s:
            due_s, key = heapq.heappop(heap)
            # Entries are not removed when a key is forgotten or gets an earlier deadline: they are skipped here.
            if key not in self._held and self._due.get(key) == due_s:
                return key
        return None

    def _wait_s(self) -> float | None:
        heads = [heap[0][0] for heap in (self._heap, self._hurry_heap) if heap]
        return max(0.0, min(heads) - self._clock.now_s()) if heads else None
