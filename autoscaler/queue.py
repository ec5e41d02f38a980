"""When each service gets its next pass: earliest deadline first, each key once, never twice at a time.

Wakes are level-triggered: a key that is woken a hundred times before its turn gets one pass, and one that is woken
during its pass gets exactly one more.
"""

import asyncio
import heapq
from dataclasses import dataclass

from metrics.clock import Clock

# Two passes over one service start at least this far apart, however many events come: an HPA looks every 15 s.
SPACING_S = 0.5


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

    def wake_at(self, key: str, at_s: float) -> None:
        """A pass at a time, unless one comes earlier."""
        self._add(key, at_s)

    def forget(self, key: str) -> None:
        """No more passes for a key; one that runs ends as it will."""
        for table in (self._due, self._signalled, self._started):
            table.pop(key, None)

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
            heapq.heappush(self._heap, (self._due[key], key))
            self._changed.set()

    def _add(self, key: str, at_s: float) -> None:
        due_s = max(at_s, self._started.get(key, at_s - self._spacing_s) + self._spacing_s)
        if due_s >= self._due.get(key, float("inf")):
            return
        self._due[key] = due_s
        if key not in self._held:
            heapq.heappush(self._heap, (due_s, key))
            self._changed.set()

    def _pop(self) -> Wake | None:
        now_s = self._clock.now_s()
        while self._heap and self._heap[0][0] <= now_s:
            due_s, key = heapq.heappop(self._heap)
            # Entries are not removed when a key is forgotten or gets an earlier deadline: they are skipped here.
            if key in self._held or self._due.get(key) != due_s:
                continue
            del self._due[key]
            self._held.add(key)
            self._started[key] = now_s
            return Wake(key, self._signalled.pop(key, None))
        return None

    def _wait_s(self) -> float | None:
        return max(0.0, self._heap[0][0] - self._clock.now_s()) if self._heap else None
