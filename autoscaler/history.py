"""Demand of the past from Prometheus, asked for once per service after a start. Without it, it is learned again."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from autoscaler.kube.budget import backoff_s
from metrics.clock import Clock
from metrics.errors import HistoryError
from metrics.prometheus import HistoryResult, demand_query

SPAN_S = 2 * 86_400.0  # the same time yesterday, and the day before
STEP_S = 60.0
RETRY_FIRST_S = 5.0
RETRY_CAP_S = 300.0

Points = tuple[tuple[float, float], ...]
log = logging.getLogger(__name__)


class Source(Protocol):
    """A Prometheus server."""

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult: ...


class Backfill:
    """Fetches each service's history once, one query at a time, and hands it out once."""

    def __init__(self, source: Source, clock: Clock, *, ready: Callable[[str], None]) -> None:
        self._source = source
        self._clock = clock
        self._ready = ready  # called with the service's key when its history is there
        self._wanted: deque[tuple[str, str, str]] = deque()  # key, namespace, deployment
        self._asked: set[str] = set()
        self._found: dict[str, Points] = {}
        self._changed = asyncio.Event()
        self.problem = ""  # why there is none, in words

    def take(self, key: str, namespace: str, deployment: str) -> Points:
        """The history, the first time it is asked for after it came; asks for it when nobody did."""
        if key not in self._asked:
            self._asked.add(key)
            self._wanted.append((key, namespace, deployment))
            self._changed.set()
        return self._found.pop(key, ())

    def start_over(self) -> None:
        """A new term as leader: memories are new, so they need their history."""
        self._asked.clear()
        self._found.clear()
        self._wanted.clear()

    async def run(self) -> None:
        """Work off what is wanted, for ever."""
        failures = 0
        while True:
            while not self._wanted:
                self._changed.clear()
                await self._changed.wait()
            key, namespace, deployment = self._wanted[0]
            try:
                points = await self._fetch(namespace, deployment)
            except HistoryError as exc:
                failures += 1
                self._note(str(exc))
                await self._clock.sleep(backoff_s(failures, first_s=RETRY_FIRST_S, cap_s=RETRY_CAP_S, draw=1.0))
                continue
            failures = 0
            self._note("")
            if self._wanted and self._wanted[0][0] == key:
                self._wanted.popleft()
            if points:
                self._found[key] = points
                self._ready(key)

    async def _fetch(self, namespace: str, deployment: str) -> Points:
        now_s = self._clock.now_s()
        query = demand_query(namespace, f"{deployment}-[a-z0-9]+-[a-z0-9]+")
        result = await self._source.query_range(query, start_s=now_s - SPAN_S, end_s=now_s, step_s=STEP_S)
        return tuple(point for series in result.series[:1] for point in series.points)

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("history: %s", problem or "Prometheus answers again")
        self.problem = problem
