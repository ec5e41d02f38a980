"""What can really be had with hindsight: the oracle's plan carried out in the simulated world.

The bound takes replicas to be one pool that always works with a full batch. They are not: so the plan is made for
somewhat more traffic than comes, the least that makes it keep the objective in the world.
"""

from dataclasses import dataclass, replace

import numpy as np

from autoscaler.policy.types import Observation
from simulations.policies.base import Bounds, Cadence, Wish
from simulations.world import Outcome, Setting, simulate

from .bound import cheapest
from .demand import Demand, demand_of

MARGIN_MAX_RATIO = 3.0
MARGIN_STEP_RATIO = 0.02  # how finely the margin is looked for
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
    """The least margin that keeps the objective in the world; None where none does."""
    demand = demand_of(setting)
    low, high = 1.0, MARGIN_MAX_RATIO
    best: Hindsight | None = None
    while high - low > MARGIN_STEP_RATIO:
        middle = (low + high) / 2
        outcome = _carried_out(setting, demand, middle, lead_time_s, attainment_ratio)
        if outcome is None or outcome.attainment_ratio >= attainment_ratio:
            high = middle
            best = best if outcome is None else Hindsight(outcome=outcome, margin_ratio=middle)
        else:
            low = middle
    return best


def _carried_out(
    setting: Setting, demand: Demand, margin_ratio: float, lead_time_s: float, attainment_ratio: float
) -> Outcome | None:
    """None where not even the most replicas would do for so much traffic."""
    work = np.floor(np.cumsum(demand.work_quanta) * margin_ratio)
    busier = replace(demand, work_quanta=np.diff(work, prepend=0.0).astype(np.int64))
    try:
        bound = cheapest(busier, lead_time_s=max(lead_time_s, DRAIN_S), attainment_ratio=attainment_ratio)
    except ValueError:
        return None
    policy = Planned(plan=bound.plan, interval_s=bound.interval_s, lead_time_s=lead_time_s, bounds=setting.bounds)
    return simulate(setting, policy)
