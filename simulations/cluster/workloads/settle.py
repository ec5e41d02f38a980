"""Run stand-in controllers for the length of a block, and wait until they have nothing left to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from metrics.clock import Clock
from simulations.cluster.api import ObjectApi

STARTED_AT_S = 1_750_000_000.0  # when virtual clusters begin: any time a certificate and a cron expression may see
_LOOK_S = 0.01
_CALM_LOOKS = 3  # an event may just be on its way from one controller to the next


class Controllers(Protocol):
    """A set of controllers that can be run and asked whether it is at rest."""

    @property
    def is_idle(self) -> bool: ...

    async def run(self) -> None: ...


class LoopClock:
    """Time as the event loop has it: real time, or virtual time on a virtual loop (looptime)."""

    def __init__(self, started_at_s: float = 0.0) -> None:
        self._started_at_s = started_at_s

    def now_s(self) -> float:
        return self._started_at_s + asyncio.get_running_loop().time()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(max(0.0, duration_s))  # noqa: TID251 - this is a Clock


@asynccontextmanager
async def running(*controllers: Controllers) -> AsyncIterator[None]:
    """Run controllers inside the block; an error of theirs ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run()) for one in controllers]
        yield
        for task in tasks:
            task.cancel()


async def settle(clock: Clock, *controllers: Controllers, patience_s: float = 30.0) -> None:
    """Return once all controllers have been idle for a moment; TimeoutError when they never are.

    Sleeping pods (image pulls, loads, back-off) count as idle: only time, not work, brings them on.
    """
    due_s = clock.now_s() + patience_s
    calm_looks = 0
    while calm_looks < _CALM_LOOKS:
        if clock.now_s() > due_s:
            raise TimeoutError(f"controllers were still at work after {patience_s} s")
        await clock.sleep(_LOOK_S)
        calm_looks = calm_looks + 1 if all(one.is_idle for one in controllers) else 0


class Stage:
    """An API, and the controllers that work on it."""

    def __init__(self, api: ObjectApi, clock: Clock, *controllers: Controllers) -> None:
        self.api = api
        self.clock = clock
        self._controllers = controllers

    def run(self) -> AbstractAsyncContextManager[None]:
        """The controllers work within the block."""
        return running(*self._controllers)

    async def settle(self) -> None:
        """Until they have nothing left to do."""
        await settle(self.clock, *self._controllers)
