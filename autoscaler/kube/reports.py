"""What passes found out, told to the API behind them: a slow write holds up no decision.

Of each service only the newest is told, one at a time, and not again at once: ten pods that get ready one after
another are a few writes.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from autoscaler.errors import NotLeadingError, RetryLaterError
from autoscaler.kube.budget import backoff_s
from autoscaler.queue import WakeQueue
from metrics.clock import Clock

# What comes alone is told at once; what follows within this time is told together at its end.
SPACING_S = 2.0
# Told at once. Each waits for a few requests; a server that takes half a second for each still hears 30 per second.
TELLING_MAX = 16
# The slowest request is cut at 10 s, and the first report of a service takes three.
DEADLINE_S = 30.0
RETRY_FIRST_S = 1.0
RETRY_CAP_S = 60.0

Tell = Callable[[], Awaitable[None]]
log = logging.getLogger(__name__)


class Reports:
    """The newest of each service that is not yet told. `tell` may raise RetryLaterError: it is told again later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue = WakeQueue(clock, spacing_s=SPACING_S)
        self._untold: dict[str, Tell] = {}
        self._failures: dict[str, int] = {}
        self._places = asyncio.Semaphore(TELLING_MAX)
        self._jitter = random.Random(0)

    def put(self, key: str, tell: Tell) -> None:
        """Tell this of a service; what it replaces is not told any more."""
        self._untold[key] = tell
        if key not in self._failures:  # else its time is set already
            self._queue.wake(key)

    def clear(self) -> None:
        """Tell nothing of what is known so far."""
        for key in self._untold.keys() | self._failures.keys():
            self._queue.forget(key)
        self._untold.clear()
        self._failures.clear()

    async def run(self) -> None:
        """Tell what there is to tell, for ever."""
        async with asyncio.TaskGroup() as telling:
            while (wake := await self._queue.take()) is not None:
                await self._places.acquire()
                telling.create_task(self._turn(wake.key))

    async def _turn(self, key: str) -> None:
        tell = self._untold.pop(key, None)
        try:
            if tell is not None:
                async with asyncio.timeout(DEADLINE_S):
                    await tell()
            self._failures.pop(key, None)
        except NotLeadingError:
            self._failures.pop(key, None)  # another replica tells its own
        except (RetryLaterError, TimeoutError) as exc:
            self._failed(key, tell, str(exc) or type(exc).__name__)
        except Exception:  # a task's top: a bug in one service must not silence the others
            log.exception("%s: report failed", key)
            self._failures.pop(key, None)
        finally:
            self._places.release()
            self._queue.done(key)
            if key in self._untold and key not in self._failures:
                self._queue.wake(key)

    def _failed(self, key: str, tell: Tell | None, problem: str) -> None:
        """Later and later, by itself; something newer is told instead."""
        if tell is not None:
            self._untold.setdefault(key, tell)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if failures in (1, 10, 100):
            log.warning("%s: status not written: %s; trying again", key, problem)
        wait_s = backoff_s(failures, first_s=RETRY_FIRST_S, cap_s=RETRY_CAP_S, draw=self._jitter.uniform(0.0, 1.0))
        self._queue.wake_at(key, self._clock.now_s() + wait_s)
