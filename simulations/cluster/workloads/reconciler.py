"""A level-based reconcile loop: events only wake keys; each key is worked on by one worker at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from metrics.clock import Clock
from simulations.cluster.api import ApiError
from simulations.cluster.workloads.mirror import Key

log = logging.getLogger(__name__)

Reconcile = Callable[[Key], Awaitable[float | None]]  # answers in how many seconds to come again, or None

_WORKERS = 4  # hides the latency of an API over HTTP; in process they cost nothing
_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 30.0
_PATIENCE = 6  # failures of a key in a row that still count as being at work


class Reconciler:
    """Brings every key that was woken to its desired state, again after errors, later when asked to."""

    def __init__(self, name: str, reconcile: Reconcile, clock: Clock) -> None:
        self.name = name
        self._reconcile = reconcile
        self._clock = clock
        self._queue: asyncio.Queue[Key] = asyncio.Queue()  # bounded by the number of objects: a key waits once
        self._waiting: set[Key] = set()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._due_s: dict[Key, float] = {}
        self._timers: asyncio.TaskGroup | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing to do but wait for events and timers."""
        is_failing = any(count <= _PATIENCE for count in self._failures.values())
        return not (self._waiting or self._running or is_failing)

    def wake(self, key: Key) -> None:
        """Look at this object soon."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._queue.put_nowait(key)

    async def run(self) -> None:
        """Work, for ever."""
        async with asyncio.TaskGroup() as group:
            self._timers = group
            for _ in range(_WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                again_s = await self._attempt(key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.wake(key)
            if again_s is not None:
                self._wake_later(key, again_s)
            await self._clock.sleep(0)  # an in-process API never waits: let the others run

    async def _attempt(self, key: Key) -> float | None:
        try:
            again_s = await self._reconcile(key)
        except (ApiError, OSError, TimeoutError) as error:
            return self._back_off(key, error)
        self._failures.pop(key, None)
        return again_s

    def _back_off(self, key: Key, error: Exception) -> float:
        count = self._failures.get(key, 0) + 1
        self._failures[key] = count
        is_race = isinstance(error, ApiError) and error.code in (404, 409)  # seen too late; not worth a word
        level = logging.DEBUG if is_race and count <= _PATIENCE else logging.WARNING
        log.log(level, "%s/%s: %s failed, attempt %d: %s", *key, self.name, count, error)
        return min(_FIRST_BACKOFF_S * 2.0 ** min(count - 1, 16), _LONGEST_BACKOFF_S)

    def _wake_later(self, key: Key, duration_s: float) -> None:
        due_s = self._clock.now_s() + duration_s
        if self._timers is None or self._due_s.get(key, float("inf")) <= due_s:
            return
        self._due_s[key] = due_s
        self._timers.create_task(self._sleep_and_wake(key, due_s))

    async def _sleep_and_wake(self, key: Key, due_s: float) -> None:
        await self._clock.sleep(due_s - self._clock.now_s())
        if self._due_s.get(key) == due_s:  # else an earlier timer took over
            del self._due_s[key]
            self.wake(key)
