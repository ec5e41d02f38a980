"""What can really be had with hindsight: the oracle's plan carried out in the simulated world.

The bound takes replicas to be one pool that always works with a full batch. They are not: so the plan is made for
somewhat more traffic than comes, the least that makes it keep the objective in the world. Traffic in bursts may need
more than the most replicas would serve at once: from there on the plan itself is made larger.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from autoscaler.policy.types import Observation
from simulations.policies.base import Bounds, Cadence, Wish
from simulations.world import Outcome, Setting, simulate

from .bound import Oracle
from .demand import Demand, demand_of

MARGIN_STEP_RATIO = 1.02  # how finely the margin is looked for, and how close to the bound its plans are
# What a replica that goes still costs until its last request has ended: starts that take no time are not free.
DRAIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Orders each replica a lead time before the plan has it serve, and keeps what it would have to start again."""

    plan: tuple[int, ...]
    interval_s: float
    lead_time_s: float
    bounds: Bounds

    @property
    def cadence(self) -> Cadence:
        """It reads nothing."""
        return Cadence(scrape_s=self.interval_s, decide_s=self.interval_s, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """The most that the plan has from now until what is ordered now would serve, and in the interval after."""
        del seen
        first = int(now_s / self.interval_s)
        last = int((now_s + self.lead_time_s) / self.interval_s) + 1
        ahead = self.plan[min(first, len(self.plan) - 1) : last + 1]
        return Wish(replicas=self.bounds.clamp(max(ahead)), reason="planned with hindsight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """The plan that kept the objective, what came of it, and by how much it was made for more traffic."""

    outcome: Outcome
    margin_ratio: float


def with_hindsight(setting: Setting, *, lead_time_s: float, attainment_ratio: float) -> Hindsight | None:
    """The least margin that keeps the objective in the world; None where not even the most replicas do."""
    plans = _Plans(demand_of(setting), max(lead_time_s, DRAIN_S), attainment_ratio)
    if not plans.can_keep(1.0):
        return None
    low, high = 1.0, MARGIN_STEP_RATIO * setting.bounds.high  # of a plan for one replica that makes the most
    best: Hindsight | None = None
    while high > MARGIN_STEP_RATIO * low:
        middle = math.sqrt(low * high)
        plan, interval_s = plans.at(middle), plans.demand.interval_s
        policy = Planned(plan=plan, interval_s=interval_s, lead_time_s=lead_time_s, bounds=setting.bounds)
        outcome = simulate(setting, policy)
        if outcome.attainment_ratio >= attainment_ratio:
            high, best = middle, Hindsight(outcome=outcome, margin_ratio=middle)
        else:
            low = middle
    return best


class _Plans:
    """The oracle's plans for more traffic than comes."""

    def __init__(self, demand: Demand, lead_time_s: float, attainment_ratio: float) -> None:
        self.demand, self._lead_time_s, self._attainment_ratio = demand, lead_time_s, attainment_ratio
        self._possible_ratio = self._most()

    def at(self, margin_ratio: float) -> tuple[int, ...]:
        """For so much traffic; beyond what the most replicas would serve, more replicas in the same measure."""
        within = min(margin_ratio, self._possible_ratio)
        plan = self._oracle(within).bound(self._attainment_ratio, gap_ratio=MARGIN_STEP_RATIO - 1.0).plan
        return tuple(math.ceil(replicas * margin_ratio / within) for replicas in plan)

    def can_keep(self, margin_ratio: float) -> bool:
        """Whether the most replicas would serve so much."""
        return self._oracle(margin_ratio).can_keep(self._attainment_ratio)

    def _most(self) -> float:
        """The most traffic that the most replicas would serve, up to a margin that makes one replica the most."""
        low, high = 1.0, float(self.demand.bounds.high)
        if self.can_keep(high):
            return high
        while high > MARGIN_STEP_RATIO * low:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.can_keep(middle) else (low, middle)
        return low

    def _oracle(self, margin_ratio: float) -> Oracle:
        work = np.floor(np.cumsum(self.demand.work_quanta) * margin_ratio)
        busier = replace(self.demand, work_quanta=np.diff(work, prepend=0.0).astype(np.int64))
        return Oracle(busier, self._lead_time_s)
