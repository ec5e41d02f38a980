"""What reaches a policy through Prometheus: the last scrape of each target, rates as PromQL has them, rules' delay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from metrics.sample import PodSignals
from simulations.compiled import scrapes
from simulations.compiled.fleet import CompiledFleet
from simulations.compiled.sight import OBSERVED_S, SPAN_S
from simulations.policies.base import Cadence, Queries

from .sensors import gauges, sight_of, summary_width, with_rates

# Nobody scrapes more often; with fewer than two samples in the look-back a single failure would end every series.
PERIOD_MIN_S, PERIOD_MAX_S = 1.0, scrapes.LOOKBACK_S / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """How often the site's Prometheus scrapes and evaluates rules; None: as each policy's makers have it."""

    scrape_s: float | None = None
    rule_s: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("scrapeSeconds", self.scrape_s), ("ruleSeconds", self.rule_s)):
            if value is not None and not PERIOD_MIN_S <= value <= PERIOD_MAX_S:
                raise ValueError(f"{name} must be between {PERIOD_MIN_S:g} and {PERIOD_MAX_S:g}, got {value:g}")

    def of(self, cadence: Cadence) -> Cadence:
        """A policy's cadence at this site; who reads the pods itself does not depend on it."""
        queries = cadence.queries
        if queries is None:
            return cadence
        if queries.rule_s is not None and self.rule_s is not None:
            queries = replace(queries, rule_s=self.rule_s)
        return replace(cadence, scrape_s=self.scrape_s or cadence.scrape_s, queries=queries)


class PrometheusSensors:
    """Each target is scraped at its own times; a query sees the past, and rules and relays see an older one."""

    def __init__(self, fleet: CompiledFleet, cadence: Cadence, random: Random, *, slots: int) -> None:
        queries = cadence.queries or Queries()
        stages_s = queries.stages_s(cadence.scrape_s)
        self._fleet, self._random, self._queries, self._router = fleet, random, queries, slots
        self._scrape_s, self._window_s = cadence.scrape_s, queries.window_s if cadence.reads_rates else 0.0
        covered_s = self._window_s + sum(stages_s) + cadence.scrape_s
        self._sight = sight_of(fleet, cadence, slots)
        self._scrapes = scrapes.new_scrapes(self._sight, math.ceil(covered_s / cadence.scrape_s) + 1)
        self._summaries = np.zeros((slots, summary_width(cadence)))
        self._scrapes.due_at_s[self._router] = random.random() * cadence.scrape_s
        self._stages = [(period_s, random.random() * period_s) for period_s in stages_s]
        self._held: tuple[float, float | None] = (0.0, None)

    @property
    def period_s(self) -> float:
        """Between two scrapes of one target."""
        return self._scrape_s

    @property
    def next_read_s(self) -> float:
        """When a target is scraped next."""
        return float(self._scrapes.due_at_s.min())

    @property
    def held(self) -> tuple[float, float | None]:
        """Requests before the replicas as of the latest look, and when they were counted."""
        return self._held

    def move(self, until_s: float) -> tuple[float, bool]:
        """Move the fleet on; nothing that is scraped wakes anybody."""
        scrapes.scrape(self._fleet.world, self._sight, self._scrapes, until_s, self._scrape_s)
        return until_s, False

    def begin(self, slot: int, now_s: float) -> None:
        """A new target: its first scrape succeeds within an interval of when it is ready."""
        self._sight.eyes[slot]["kept"] = self._scrapes.kept[slot] = 0
        router_at_s = self._scrapes.due_at_s[self._router]
        phase_s = self._random.random() * self._scrape_s
        self._scrapes.due_at_s[slot] = router_at_s if self._queries.is_of_router else now_s + phase_s

    def leave(self, slot: int) -> None:
        """It drains: policies look at those that serve."""
        self._scrapes.due_at_s[slot] = math.inf

    def end(self, slot: int) -> None:
        """It is gone."""
        self.leave(slot)

    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]:
        """What the queries say of each of these replicas; None: they have no such series."""
        at_s = self._evaluated_at_s(now_s)
        self._held = self._held_at(at_s)
        summaries = self._summaries[: len(slots)]
        scrapes.query(self._scrapes, np.array(slots, np.int64), at_s, self._window_s, summaries)
        return [_told(summary, has_rates=self._window_s > 0) for summary in summaries.tolist()]

    def left_of(self, before: PodSignals, now_s: float) -> PodSignals | None:
        """What there is when no page could be read since: the first scrape that fails marks the series as ended."""
        return before if self._evaluated_at_s(now_s) < before.observed_at_s + self._scrape_s else None

    def _evaluated_at_s(self, now_s: float) -> float:
        """When the pods' series were looked at whose consequence is at hand now."""
        for period_s, phase_s in reversed(self._stages):
            now_s = phase_s + math.floor((now_s - phase_s) / period_s) * period_s
        return now_s

    def _held_at(self, at_s: float) -> tuple[float, float | None]:
        row = scrapes.newest(self._scrapes, self._router, at_s)
        if row < 0:
            return 0.0, None
        page = self._scrapes.pages[self._router, row]
        return float(page[scrapes.GAUGES]), float(page[scrapes.AT_S])


def _told(summary: Sequence[float], *, has_rates: bool) -> PodSignals | None:
    if summary[OBSERVED_S] == -math.inf:
        return None
    return with_rates(summary, None) if has_rates and summary[SPAN_S] > 0 else gauges(summary)
