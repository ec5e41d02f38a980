"""How many requests wait before each service's pods: asked of Prometheus, kept until it is too old.

The last answer stays until it is older than any sample may be, as with pods: one lost query in ten minutes must not
start an idle time anew. What Prometheus does not know is unknown; zero is only what it says is zero.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from autoscaler.kube.budget import backoff_s
from autoscaler.queue import WakeQueue
from autoscaler.settings import UpstreamQuery
from metrics.clock import Clock
from metrics.errors import HistoryError

if TYPE_CHECKING:  # Prometheus' client is a tenth of our memory: only who has a Prometheus loads it
    from metrics.prometheus import InstantResult

# Queries under way at once: each is a thread, and Prometheus evaluates twenty at a time by default.
QUERIES_MAX = 4
# While Prometheus is away it is asked less and less often, and yet soon enough after it comes back.
RETRY_CAP_S = 15.0
# Neither all services in one instant nor, after a stall, all in step.
JITTER_RATIO = 0.1

NOT_ASKED_YET = "Prometheus has not been asked yet"
NO_PROMETHEUS = "the controller has no Prometheus to ask for upstream.query: start it with --prometheus-url"

log = logging.getLogger(__name__)


class Source(Protocol):
    """A Prometheus server."""

    async def query(self, promql: str) -> "InstantResult": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamReading:
    """What is known of the requests before one service."""

    waiting_requests: float | None = None
    observed_at_s: float | None = None
    problem: str = ""  # why the last query gave no number; empty and no number: nobody is asked


NOBODY_ASKED = UpstreamReading()


class Upstream(Protocol):
    """Where the number of requests before a service comes from."""

    def watch(self, key: str, query: UpstreamQuery | None) -> UpstreamReading:
        """What is known now; from now on it is asked for."""
        ...

    def forget(self, key: str) -> None:
        """Ask no more."""
        ...


class NoUpstream:
    """Nobody to ask."""

    def watch(self, key: str, query: UpstreamQuery | None) -> UpstreamReading:
        """Unknown, where somebody wants to know."""
        return UpstreamReading(problem=NO_PROMETHEUS if query else "")

    def forget(self, key: str) -> None:
        """Nothing to forget."""


@dataclass(slots=True)
class _Asked:
    """One service's query and its last answer."""

    query: UpstreamQuery
    reading: UpstreamReading = field(default_factory=lambda: UpstreamReading(problem=NOT_ASKED_YET))
    failures: int = 0


class Poller:
    """Asks each service's query at its period, a few at a time, one per service. `wake(key)` asks for a pass."""

    def __init__(self, source: Source, clock: Clock, *, wake: Callable[[str], None]) -> None:
        self._source = source
        self._clock = clock
        self._wake = wake
        self._asked: dict[str, _Asked] = {}
        self._due = WakeQueue(clock, spacing_s=0.0)
        self._places = asyncio.Semaphore(QUERIES_MAX)
        self._jitter = random.Random(0)

    def watch(self, key: str, query: UpstreamQuery | None) -> UpstreamReading:
        """What is known now; from now on it is asked for."""
        if query is None:
            self.forget(key)
            return NOBODY_ASKED
        asked = self._asked.get(key)
        if asked is None or asked.query != query:
            asked = self._asked[key] = _Asked(query)
            self._due.wake_at(key, self._clock.now_s() + query.period_s * self._jitter.uniform(0.0, JITTER_RATIO))
        return asked.reading

    def forget(self, key: str) -> None:
        """Ask no more."""
        if self._asked.pop(key, None) is not None:
            self._due.forget(key)

    def start_over(self) -> None:
        """Leadership came or went: a standby asks nothing, and what an earlier term heard is old."""
        for key in list(self._asked):
            self.forget(key)

    async def run(self) -> None:
        """Query after query, for ever."""
        async with asyncio.TaskGroup() as queries:
            while (wake := await self._due.take()) is not None:
                await self._places.acquire()
                queries.create_task(self._turn(wake.key))

    async def _turn(self, key: str) -> None:
        asked = self._asked.get(key)
        try:
            if asked is not None:
                await self._ask(key, asked)
        finally:
            self._places.release()
            if self._asked.get(key) is asked is not None:
                self._due.wake_at(key, self._clock.now_s() + self._wait_s(asked))
            self._due.done(key)

    async def _ask(self, key: str, asked: _Asked) -> None:
        at_s = self._clock.now_s()
        waiting, problem = await ask(self._source, asked.query.promql)
        before = asked.reading
        if problem != before.problem and before.problem != NOT_ASKED_YET:
            log.warning("%s: upstream: %s", key, problem or "Prometheus answers again")
        if waiting is None:
            asked.failures += 1
            asked.reading = UpstreamReading(
                waiting_requests=before.waiting_requests, observed_at_s=before.observed_at_s, problem=problem
            )
            return
        asked.failures = 0
        asked.reading = UpstreamReading(waiting_requests=waiting, observed_at_s=at_s)
        if self._asked.get(key) is asked and waiting > (before.waiting_requests or 0.0):
            self._wake(key)

    def _wait_s(self, asked: _Asked) -> float:
        draw, period_s = self._jitter.uniform(0.0, 1.0), asked.query.period_s
        if asked.failures:
            return max(period_s, backoff_s(asked.failures, first_s=period_s, cap_s=RETRY_CAP_S, draw=draw))
        return period_s * (1.0 + JITTER_RATIO * (draw - 0.5))


async def ask(source: Source, promql: str) -> tuple[float | None, str]:
    """How many requests wait; None, and why that is not known."""
    try:
        result = await source.query(promql)
    except HistoryError as exc:
        return None, str(exc)
    if result.value is None:
        said = f"answers {result.said}" if result.said else "knows no such series"
        return None, f"Prometheus {said}: {promql}"
    if result.value < 0:
        return None, f"Prometheus answers {result.said}, which is no number of requests: {promql}"
    if result.is_partial and result.value == 0:
        # The part that is missing may hold requests; those that were seen are there in any case.
        return None, f"Prometheus answers 0 for a part only ({result.notes[0]}): {promql}"
    return result.value, ""
