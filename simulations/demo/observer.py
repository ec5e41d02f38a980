"""Looks at the running demo a few times a second: builds frames for the view and rows for the timeline."""

from collections.abc import Sequence
from typing import Protocol

from autoscaler.policy.types import PodPhase
from metrics.clock import Clock
from simulations.cluster.loadgen import LoadGenerator, Outcome, RequestRecord
from simulations.demo.frame import Frame, Moment, View
from simulations.demo.sensors import Gauges
from simulations.demo.setting import TTFT_OBJECTIVE_S, Setting
from simulations.demo.verdict import percentile
from simulations.demo.watching import Watched
from simulations.trace import Arrival

PERIOD_S = 0.5
RECENT_S = 5.0  # what "now" means for rates and quantiles of single requests
STARTING = (PodPhase.STARTING, PodPhase.UNSCHEDULABLE, PodPhase.GATED)


class Asked(Protocol):
    """All requests, or those so far, in the order in which they are sent."""

    @property
    def arrivals(self) -> Sequence[Arrival]: ...


class Observer:
    """Gathers what is known at one moment. Without a setting there is no end to be seen, and no objective."""

    def __init__(
        self, setting: Setting | None, traffic: Asked, load: LoadGenerator, watched: Watched, clock: Clock
    ) -> None:
        self.watched = watched
        self.gauges = Gauges()
        self.history: list[Moment] = []
        self._setting = setting
        self._traffic = traffic
        self._load = load
        self._clock = clock
        self._served = 0
        self._lost = 0
        self._recent: list[RequestRecord] = []

    def take(self, record: RequestRecord) -> None:
        """A request ended."""
        if record.outcome is Outcome.SERVED:
            self._served += 1
        else:
            self._lost += 1
        self._recent.append(record)

    async def run(self, view: View) -> None:
        """Show a frame every period, for ever."""
        while True:
            self.look()
            view.show(self.frame())
            await self._clock.sleep(PERIOD_S)

    def look(self) -> None:
        """Add this moment to the timeline."""
        at_s = self._clock.now_s() - (self._load.started_at_s or self._clock.now_s())
        phases = self.watched.phases
        self._recent = [record for record in self._recent if record.end_s > at_s - RECENT_S]
        self.history.append(
            Moment(
                at_s=round(at_s, 2),
                demand_tokens_per_s=round(self._demand(at_s), 1),
                outstanding_requests=self._load.outstanding,
                waiting_requests=self.gauges.waiting_requests,
                kv_cache_usage_ratio=round(self.gauges.kv_cache_usage_ratio, 4),
                ready=phases[PodPhase.READY],
                starting=sum(phases[phase] for phase in STARTING),
                terminating=phases[PodPhase.TERMINATING],
                desired=self.watched.desired or 0,
                served=self._served,
                lost=self._lost,
            )
        )

    def frame(self) -> Frame:
        """What a view shows now."""
        ttfts = [ttft for record in self._recent if (ttft := record.ttft_s) is not None]
        setting = self._setting
        return Frame(
            seconds=setting.seconds if setting else None,
            requests=len(self._traffic.arrivals) if setting else None,
            history=self.history,
            decisions=self.watched.decisions,
            ttft_p95_s=percentile(ttfts, 0.95),
            ttft_objective_s=TTFT_OBJECTIVE_S if setting else None,
        )

    def _demand(self, at_s: float) -> float:
        recent = self._traffic.arrivals[: self._load.sent]
        tokens = 0
        for arrival in reversed(recent):
            if arrival.at_s <= at_s - RECENT_S:
                break
            tokens += arrival.prompt_tokens + arrival.output_tokens
        return tokens / min(RECENT_S, max(at_s, PERIOD_S))
