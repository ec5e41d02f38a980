"""What reaches a policy of its replicas: pages read at their times, and rates over the last of them."""

import math
from collections.abc import Sequence
from dataclasses import fields
from random import Random
from typing import Protocol

import numpy as np

from autoscaler import rhythm
from metrics.sample import Histogram, PodSignals
from metrics.window import KEEP_S
from simulations.compiled import sight
from simulations.compiled.fleet import CompiledFleet
from simulations.compiled.gaps import GAP_SUM, GAPS_WIDTH, PACE_SUM, PACES
from simulations.compiled.layout import GAP_BOUNDS_S, TTFT_BOUNDS_S
from simulations.compiled.sight import (
    COUNTS,
    KV_USAGE,
    OBSERVED_S,
    REACHED,
    RUNNING,
    SPAN_S,
    STALLED_S,
    SUMMARY_WIDTH,
    TTFT_BUCKETS,
    WAITING,
)
from simulations.policies.base import Cadence, SignalsWithPaces

BOUNDS_S, GAPS_S = (*TTFT_BOUNDS_S, math.inf), (*GAP_BOUNDS_S, math.inf)
NO_EDGES = (math.nan, math.nan, math.nan)


class Sensing(Protocol):
    """What a world needs of its sensors; `Sensors` says more."""

    def __init__(self, fleet: CompiledFleet, cadence: Cadence, random: Random, *, slots: int) -> None: ...
    @property
    def period_s(self) -> float: ...
    @property
    def next_read_s(self) -> float: ...
    @property
    def held(self) -> tuple[float, float | None]: ...
    def move(self, until_s: float) -> tuple[float, bool]: ...
    def begin(self, slot: int, now_s: float) -> None: ...
    def leave(self, slot: int) -> None: ...
    def end(self, slot: int) -> None: ...
    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]: ...
    def left_of(self, before: PodSignals, now_s: float) -> PodSignals | None: ...


class Sensors:
    """Reads the replicas of a fleet at a policy's cadence, and moves the fleet on in between."""

    def __init__(self, fleet: CompiledFleet, cadence: Cadence, random: Random, *, slots: int) -> None:
        self._fleet, self._cadence, self._random = fleet, cadence, random
        self._sight = sight_of(fleet, cadence, slots)
        self._summaries = np.zeros((slots, summary_width(cadence)))
        self._span_s, self._width, self._told = 0.0, SPAN_S, gauges
        if cadence.reads_rates:
            self._span_s, self._told = rhythm.rate_span_s(cadence.scrape_s), _with_own_rates
            self._width = summary_width(cadence)
        self._firsts = NO_EDGES if cadence.events is None else rhythm.edges(cadence.events.targets)
        self._period_s = cadence.scrape_s
        self._round_s = 0.0 if cadence.events is None else rhythm.round_spacing_s(cadence.events.endpoint)
        # Who looks as often as it reads, reads when it looks.
        self._reads_when_asked = cadence.events is None and cadence.scrape_s == cadence.decide_s
        if not self._reads_when_asked:
            self._sight.gate["due_at_s"] = self._phase_s()

    @property
    def period_s(self) -> float:
        """Between two reads of one replica, as things are."""
        return self._period_s

    @property
    def next_read_s(self) -> float:
        """When something is read next, asked or not: for who moves the fleet with other sensors, too."""
        return float(min(self._sight.eyes["due_at_s"].min(), self._sight.gate["due_at_s"][0]))

    @property
    def held(self) -> tuple[float, float | None]:
        """Requests before the replicas, and when they were counted."""
        gate = self._sight.gate[0]
        observed_at_s = float(gate["observed_at_s"])
        return float(gate["held_requests"]), observed_at_s if math.isfinite(observed_at_s) else None

    def move(self, until_s: float) -> tuple[float, bool]:
        """Move the fleet on, until then or until something is news; returns when, and whether it is."""
        periods_s = (self._period_s, self._cadence.scrape_s, self._round_s)
        at_s, why = sight.watch(self._fleet.world, self._sight, until_s, periods_s, self._firsts)
        return at_s, why != REACHED

    def begin(self, slot: int, now_s: float) -> None:
        """A replica became ready: from now on it is read, each at its own times."""
        eye = self._sight.eyes[slot]
        eye["kept"] = eye["has_level"] = eye["is_leaving"] = 0
        eye["observed_at_s"] = -math.inf
        eye["due_at_s"] = math.inf if self._reads_when_asked else now_s + self._phase_s()

    def leave(self, slot: int) -> None:
        """It drains: nobody reads it, but its end is news."""
        eye = self._sight.eyes[slot]
        eye["due_at_s"] = eye["observed_at_s"] = math.inf
        eye["is_leaving"] = 1

    def end(self, slot: int) -> None:
        """It is gone."""
        self.leave(slot)
        self._sight.eyes[slot]["is_leaving"] = 0

    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]:
        """What each of these replicas said."""
        if self._reads_when_asked:
            sight.read_all(self._fleet.world, self._sight, now_s, self._firsts)
        summaries = self._summaries[: len(slots), : self._width]
        sight.summarize(self._sight, np.array(slots, np.int64), self._span_s, summaries)
        signals = [
            self._told(summary) if -math.inf < now_s - summary[OBSERVED_S] <= KEEP_S else None
            for summary in summaries.tolist()
        ]
        self._follow(signals, len(slots))
        return signals

    def left_of(self, before: PodSignals, now_s: float) -> PodSignals | None:
        """What there is when no page could be read since: it says how old it is."""
        return before

    def _follow(self, signals: list[PodSignals | None], pods: int) -> None:
        """Read busy replicas as often as the controller reads them."""
        events = self._cadence.events
        if events is None:
            return
        said = [found for found in signals if found is not None]
        is_busy = not said or any(found.running_requests or found.waiting_requests for found in said)
        self._period_s = rhythm.scrape_period_s(
            events.endpoint, pods, is_busy=is_busy, max_age_s=events.targets.max_age_s
        )

    def _phase_s(self) -> float:
        """Sensors are not in step with the traffic, nor with each other."""
        return self._random.random() * self._period_s


def sight_of(fleet: CompiledFleet, cadence: Cadence, slots: int) -> sight.Sight:
    """Of what a policy reads; the fleet counts what only some read."""
    if cadence.reads_gaps:
        fleet.count_paces()
    return sight.new_sight(slots, has_gaps=cadence.reads_gaps)


def summary_width(cadence: Cadence) -> int:
    """Columns of what a policy is told of a replica."""
    return SUMMARY_WIDTH + (GAPS_WIDTH if cadence.reads_gaps else 0)


def gauges(summary: Sequence[float]) -> PodSignals:
    """The newest of each."""
    return PodSignals(
        observed_at_s=summary[OBSERVED_S],
        window_s=0.0,
        running_requests=summary[RUNNING],
        waiting_requests=summary[WAITING],
        kv_cache_usage_ratio=summary[KV_USAGE],
        is_awake=True,
    )


def _with_own_rates(summary: Sequence[float]) -> PodSignals:
    """As `metrics.window.Window.signals`."""
    return with_rates(summary, summary[STALLED_S]) if summary[SPAN_S] > 0 else gauges(summary)


def with_rates(summary: Sequence[float], stalled_for_s: float | None) -> PodSignals:
    """The gauges, and what the counters and histograms say of the span."""
    span_s, prompt_per_s, generated_per_s, preemptions_per_s, finished_per_s = summary[SPAN_S:STALLED_S]
    told = PodSignals(
        observed_at_s=summary[OBSERVED_S],
        window_s=span_s,
        running_requests=summary[RUNNING],
        waiting_requests=summary[WAITING],
        kv_cache_usage_ratio=summary[KV_USAGE],
        prompt_tokens_per_s=prompt_per_s,
        computed_prompt_tokens_per_s=prompt_per_s,
        generation_tokens_per_s=generated_per_s,
        preemptions_per_s=preemptions_per_s,
        finished_requests_per_s=finished_per_s,
        ttft_s=Histogram(
            bounds=BOUNDS_S, counts=tuple(summary[COUNTS : COUNTS + TTFT_BUCKETS]), sum=summary[COUNTS + TTFT_BUCKETS]
        ),
        stalled_for_s=stalled_for_s,
        is_awake=True,
    )
    return _with_gaps(told, summary[SUMMARY_WIDTH:]) if len(summary) > SUMMARY_WIDTH else told


def nothing_happened() -> PodSignals:
    """All that can be said of a replica: what is None here is None of each."""
    return with_rates([0.0] * (SUMMARY_WIDTH + GAPS_WIDTH), 0.0)


def _with_gaps(told: PodSignals, found: Sequence[float]) -> SignalsWithPaces:
    known = {field.name: getattr(told, field.name) for field in fields(told)}
    known["itl_s"] = Histogram(bounds=GAPS_S, counts=tuple(found[:GAP_SUM]), sum=found[GAP_SUM])
    tpot_s = Histogram(bounds=GAPS_S, counts=tuple(found[PACES:PACE_SUM]), sum=found[PACE_SUM])
    return SignalsWithPaces(**known, tpot_s=tpot_s)
