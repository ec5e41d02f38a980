"""Scrapes thousands of targets, each at its own period: one heap, a fixed set of workers.

The schedule is spread by a hash of the key, where a target names no place of its own, so that it is
the same after a restart and pods of one service are not hit at once. A target has one scrape under way
at most; what it misses meanwhile is skipped. A target whose last scrape ran into its deadline waits in
a lane of its own: however many hang, they never take the workers of those that answer. Where more is
due than there is time for, pods are read later, and nothing else of the process is: what is started
between two turns of the event loop is bounded, and what somebody waits for comes first.
"""

import asyncio
import heapq
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from metrics.clock import Clock
from metrics.errors import ScrapeError, ScrapeFailure
from metrics.sample import EngineSample
from metrics.target import ScrapeTarget, TimedTarget

WORKERS = 224  # scrapes at once of targets that answer
HANGING_WORKERS = 32  # and of those that did not, last time
FIRST_SCRAPE_WITHIN_S = 1.0  # a new pod is read soon, whatever its period
TICK_S = 0.005  # what is due within a tick starts together: fewer wake-ups, no visible delay
# A page costs a millisecond of a core. Hundreds at once keep the event loop busy for a second where other programs
# want the machine, and a lease that takes ten turns of the loop to renew is lost. As many as this are 3,200 per second.
STARTED_PER_TICK_MAX = 16
AT_ONCE_S = -math.inf  # due before all that is overdue

OnResult = Callable[[str, EngineSample | ScrapeError], None]


class Scrapes(Protocol):
    """Reads one target, raising ScrapeError only."""

    async def scrape(self, target: ScrapeTarget) -> EngineSample: ...


@dataclass(slots=True, eq=False)
class _Plan:
    """Where one target stands."""

    key: str
    timed: TimedTarget
    phase: float  # 0..1: its place within a period
    due_s: float = math.inf
    is_under_way: bool = False
    is_wanted_again: bool = False
    hung_last_time: bool = False

    def next_due_s(self, now_s: float) -> float:
        """The next point after now of the grid that key and period define."""
        period_s = self.timed.period_s
        offset_s = self.phase * period_s
        return (math.floor((now_s - offset_s) / period_s) + 1) * period_s + offset_s


class ScrapeLoop:
    """Keeps scraping what `set_targets` last named; `on_result` is called in the loop's own thread."""

    def __init__(self, scraper: Scrapes, clock: Clock, on_result: OnResult) -> None:
        self._scraper = scraper
        self._clock = clock
        self._on_result = on_result
        self._plans: dict[str, _Plan] = {}
        self._heap: list[tuple[float, str]] = []
        self._changed = asyncio.Event()
        self._answering: asyncio.Queue[_Plan] = asyncio.Queue()  # bounded: a plan is queued once
        self._hanging: asyncio.Queue[_Plan] = asyncio.Queue()

    def set_targets(self, targets: Mapping[str, TimedTarget]) -> None:
        """Scrape exactly these from now on. New ones start soon, changed ones take their new period or address."""
        now_s = self._clock.now_s()
        for key in self._plans.keys() - targets.keys():
            del self._plans[key]
        for key, timed in targets.items():
            plan = self._plans.get(key)
            if plan is None:
                phase = zlib.crc32(key.encode()) / 2**32 if timed.phase is None else timed.phase
                plan = self._plans[key] = _Plan(key, timed, phase=phase)
                self._schedule(plan, now_s + plan.phase * min(timed.period_s, FIRST_SCRAPE_WITHIN_S))
            elif plan.timed is not timed and plan.timed != timed:
                self._change(plan, timed, now_s)

    def wake(self, key: str) -> None:
        """Scrape this target now, or again at once when it is being scraped."""
        if plan := self._plans.get(key):
            self._want_now(plan)

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(self._answering))
            for _ in range(HANGING_WORKERS):
                group.create_task(self._work(self._hanging))
            await self._dispatch()

    def _change(self, plan: _Plan, timed: TimedTarget, now_s: float) -> None:
        moved = plan.timed.target != timed.target
        plan.timed = timed
        if moved:
            plan.hung_last_time = False
            self._want_now(plan)
        elif not plan.is_under_way:
            self._schedule(plan, plan.next_due_s(now_s))

    def _want_now(self, plan: _Plan) -> None:
        if plan.is_under_way:
            plan.is_wanted_again = True
        else:
            self._schedule(plan, AT_ONCE_S)

    def _schedule(self, plan: _Plan, due_s: float) -> None:
        plan.due_s = due_s
        heapq.heappush(self._heap, (due_s, plan.key))
        if self._heap[0][0] == due_s:
            self._changed.set()

    async def _dispatch(self) -> None:
        while True:
            now_s = self._clock.now_s()
            self._start_due(now_s)
            delay_s = max(TICK_S, self._heap[0][0] - now_s) if self._heap else None
            self._changed.clear()
            try:
                async with asyncio.timeout(delay_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _start_due(self, now_s: float) -> None:
        started = 0
        while started < STARTED_PER_TICK_MAX and self._heap and self._heap[0][0] <= now_s:
            due_s, key = heapq.heappop(self._heap)
            plan = self._plans.get(key)
            if plan is None or plan.is_under_way or plan.due_s != due_s:
                continue  # an entry that a later schedule replaced
            plan.is_under_way = True
            (self._hanging if plan.hung_last_time else self._answering).put_nowait(plan)
            started += 1

    async def _work(self, lane: "asyncio.Queue[_Plan]") -> None:
        while True:
            plan = await lane.get()
            if self._is_current(plan):
                await self._scrape(plan)

    async def _scrape(self, plan: _Plan) -> None:
        target = plan.timed.target
        result: EngineSample | ScrapeError
        try:
            result = await self._scraper.scrape(target)
        except ScrapeError as exc:
            result = exc
        plan.is_under_way = False
        if not self._is_current(plan):
            return
        now_s = self._clock.now_s()
        again, plan.is_wanted_again = plan.is_wanted_again, False
        self._schedule(plan, AT_ONCE_S if again else plan.next_due_s(now_s))
        if plan.timed.target == target:  # else it speaks of an address that is no longer this key's
            plan.hung_last_time = isinstance(result, ScrapeError) and result.kind is ScrapeFailure.TIMEOUT
            self._on_result(plan.key, result)

    def _is_current(self, plan: _Plan) -> bool:
        return self._plans.get(plan.key) is plan
