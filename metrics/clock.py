"""Time as a dependency: the only module that reads a real clock.

`now_s` is Unix time in seconds that never jumps: `WallClock` reads the wall clock once and then
counts on the monotonic clock, so an administrator who moves the machine's clock by an hour moves
no window, no cooldown and no lease.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a shell reads the time and waits."""

    def now_s(self) -> float:
        """Unix time in seconds; never goes back."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait for a duration; zero or less only yields."""
        ...


class WallClock:
    """Real time, immune to steps of the machine's clock."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now_s(self) -> float:
        return self._offset_s + time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        import asyncio  # who only reads the time waits 30 ms less for its start

        await asyncio.sleep(max(0.0, duration_s))


class ManualClock:
    """Virtual time for one task: sleeping moves it, nothing else does unless a test says so."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Move time forward by a duration in seconds."""
        if duration_s < 0:
            raise ValueError(f"time cannot go back by {-duration_s} s")
        self._now_s += duration_s

    async def sleep(self, duration_s: float) -> None:
        import asyncio

        self.advance(max(0.0, duration_s))
        await asyncio.sleep(0)
