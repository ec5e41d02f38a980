"""What can really be had with hindsight: the oracle's plan carried out in the simulated world.

The bound takes replicas to be one pool that always works with a full batch. They are not: so the plan is made for
somewhat more traffic than comes, the least that makes it keep the objective in the world. Traffic in bursts may need
more than the most replicas would serve at once: from there on the plan itself is made larger. Of two pools that are
both scaled each has a plan: both for as much more at first, then for as little more as each for itself needs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoscaler.policy.types import Observation
from simulations.policies.base import Bounds, Cadence, Pair, Role, Wish
from simulations.world import Outcome, Setting, simulate

from .bound import Oracle
from .demand import Demand, demands_of

MARGIN_STEP_RATIO = 1.02  # how finely the margin is looked for, and how close to the bound its plans are
# What a replica that goes still costs until its last request has ended: starts that take no time are not free.
DRAIN_S = 30.0

Margins = Mapping[Role | None, float]


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

    policy: Planned | Pair
    outcome: Outcome
    margin_ratios: Margins  # of each plan


def with_hindsight(setting: Setting, *, lead_time_s: float, attainment_ratio: float) -> Hindsight | None:
    """The least margin that keeps the objective in the world; None where not even the most replicas do."""
    plans = {
        role: _Plans(demand, max(lead_time_s, DRAIN_S), attainment_ratio)
        for role, demand in demands_of(setting).items()
    }
    if not all(each.can_keep(1.0) for each in plans.values()):
        return None

    def kept(margins: Margins) -> Hindsight | None:
        policy = _policy({role: plans[role].planned(margin, lead_time_s) for role, margin in margins.items()})
        outcome = simulate(setting, policy)
        is_kept = outcome.attainment_ratio >= attainment_ratio
        return Hindsight(policy=policy, outcome=outcome, margin_ratios=margins) if is_kept else None

    most = max(each.demand.bounds.high for each in plans.values())
    # The largest is that of a plan for one replica that makes the most.
    best = _least(kept, dict.fromkeys(plans, MARGIN_STEP_RATIO * most), tuple(plans))
    for role in plans if len(plans) > 1 else ():
        best = best and (_least(kept, best.margin_ratios, (role,)) or best)
    return best


def _least(
    kept: Callable[[Margins], Hindsight | None], most: Margins, turned: Sequence[Role | None]
) -> Hindsight | None:
    """What keeps the objective with the least margin of these plans, below the most that is given."""
    low, high, best = 1.0, max(most[role] for role in turned), None
    while high > MARGIN_STEP_RATIO * low:
        middle = math.sqrt(low * high)
        if (found := kept({**most, **dict.fromkeys(turned, middle)})) is not None:
            high, best = middle, found
        else:
            low = middle
    return best


def _policy(planned: Mapping[Role | None, Planned]) -> Planned | Pair:
    if len(planned) > 1:
        return Pair(prefill=planned[Role.PREFILL], decode=planned[Role.DECODE])
    return next(iter(planned.values()))


class _Plans:
    """The oracle's plans for more traffic than comes."""

    def __init__(self, demand: Demand, lead_time_s: float, attainment_ratio: float) -> None:
        self.demand, self._lead_time_s, self._attainment_ratio = demand, lead_time_s, attainment_ratio
        self._possible_ratio = self._most()

    def planned(self, margin_ratio: float, lead_time_s: float) -> Planned:
        """Who carries it out."""
        demand = self.demand
        return Planned(
            plan=self.at(margin_ratio),
            interval_s=demand.interval_s,
            lead_time_s=lead_time_s,
            bounds=demand.bounds,
        )

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
