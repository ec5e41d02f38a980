"""The least that a share of on-time requests costs with hindsight, at a lead time: from below and from above.

Late requests get a price (Lagrange). For any price the optimum of cost plus price x lateness, less price x the
lateness that is allowed, is no more than any plan that keeps the objective costs: the bound from below is the largest
of these. The bound from above is a plan that keeps it, put together from those of the price just too low and of the
price just high enough, and trimmed while some lateness is left to spend.
"""

import math
from dataclasses import dataclass

import numpy as np

from .demand import QUANTA_PER_INTERVAL, Demand, grid_of
from .kernel import Ints, Steps, best_steps, follow, late_requests

SECONDS_PER_HOUR = 3600.0
# Prices are tried until two neighbours differ by no more than this; the gap between both bounds is then far smaller.
PRICE_RATIO = 1.02
# By how many intervals a plan is trimmed at a time, the largest first, and how often at one place.
TRIMS, TRIMS_EACH = (64, 16, 4, 1, 1), 32
PRICE_MIN_S, PRICE_MAX_S = 1e-3, 1e7  # replica-seconds that one late request may cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """GPU-hours at an attainment and a lead time; `plan` keeps the objective at the cost of `feasible_hours`."""

    attainment_ratio: float
    lead_time_s: float
    lower_hours: float
    feasible_hours: float
    interval_s: float
    plan: tuple[int, ...]  # ready replicas per interval

    @property
    def gap_ratio(self) -> float:
        """How far both bounds are apart."""
        return self.feasible_hours / self.lower_hours - 1.0


@dataclass(frozen=True, slots=True)
class _Priced:
    """The best plan at a price."""

    price_s: float
    value_s: float  # cost + price x lateness
    steps: Steps
    late: float


def cheapest(demand: Demand, *, lead_time_s: float, attainment_ratio: float) -> Bound:
    """Both bounds; ValueError where not even the most replicas keep the objective."""
    if not 0 < attainment_ratio <= 1 or not 0 <= lead_time_s < math.inf:
        raise ValueError(
            f"attainment must be in (0, 1] and the lead time ≥ 0 s, got {attainment_ratio} and {lead_time_s}"
        )
    course = _Course(demand, lead_time_s)
    allowed = _allowed(demand, attainment_ratio)
    free = course.priced(0.0)
    if free.late <= allowed:
        return _bound(course, (free, free), free.value_s, attainment_ratio)
    low, high = course.priced(PRICE_MIN_S), course.priced(PRICE_MAX_S)
    if low.late <= allowed:
        low, high = free, low
    if high.late > allowed:
        late = (high.late + demand.hopeless) / float(demand.requests.sum() + demand.hopeless)
        raise ValueError(
            f"{late:.2%} of the requests are late with the most replicas ({demand.bounds.high}), "
            f"{demand.hopeless} of them by their own prompt; at most {1 - attainment_ratio:.2%} may be"
        )
    lower_s = max(one.value_s - one.price_s * allowed for one in (low, high))
    while high.price_s > PRICE_RATIO * low.price_s and high.late < low.late:
        middle = course.priced(math.sqrt(max(low.price_s, PRICE_MIN_S / 2) * high.price_s))
        lower_s = max(lower_s, middle.value_s - middle.price_s * allowed)
        low, high = (low, middle) if middle.late <= allowed else (middle, high)
    return _bound(course, (low, high), lower_s, attainment_ratio)


def _allowed(demand: Demand, attainment_ratio: float) -> float:
    """How many of those that can be on time may be late."""
    return (1.0 - attainment_ratio) * float(demand.requests.sum() + demand.hopeless) - demand.hopeless


def _bound(course: "_Course", pair: tuple[_Priced, _Priced], lower_s: float, attainment_ratio: float) -> Bound:
    demand = course.demand
    allowed = _allowed(demand, attainment_ratio)
    plan = course.trimmed(course.mixed(*pair, allowed), allowed)
    gpu_hours_per_s = demand.gpus_per_replica / SECONDS_PER_HOUR  # of a replica
    return Bound(
        attainment_ratio=attainment_ratio,
        lead_time_s=course.lead_time_s,
        lower_hours=lower_s * gpu_hours_per_s,
        feasible_hours=course.cost_s(plan) * gpu_hours_per_s,
        interval_s=demand.interval_s,
        plan=tuple(int(replicas) for replicas in plan),
    )


class _Course:
    """A demand at a lead time, ready for the kernel."""

    def __init__(self, demand: Demand, lead_time_s: float) -> None:
        self.demand, self.lead_time_s = demand, lead_time_s
        bounds = demand.bounds
        lead = math.ceil(lead_time_s / demand.interval_s)
        self._limits = np.array(
            [bounds.low, bounds.high, demand.replicas_at_start, lead, QUANTA_PER_INTERVAL], dtype=np.int64
        )
        # One quantum more may be there: work is rounded down.
        self._allowed = demand.allowed_quanta + 1.0
        self._grid = grid_of(bounds.high, self._allowed)

    def priced(self, price_s: float) -> _Priced:
        """The best plan when a late request costs so much."""
        demand = self.demand
        steps = np.zeros((len(demand.requests), demand.bounds.high + 1, self._grid), dtype=np.uint16)
        costs = np.array([demand.interval_s, self.lead_time_s, price_s])
        value_s = best_steps(
            demand.requests,
            demand.work_quanta,
            self._allowed,
            self._limits,
            costs,
            np.zeros((3, *steps.shape[1:])),
            steps,
        )
        priced = _Priced(price_s, value_s, steps, 0.0)
        _, late = self.walked(priced, priced, 0)
        return _Priced(price_s, value_s, steps, late)

    def walked(self, first: _Priced, second: _Priced, switch: int) -> tuple[Ints, float]:
        """The plan that goes over from one table to the other at an interval, and its late requests."""
        plan = np.zeros(len(self.demand.requests), dtype=np.int64)
        late = follow(
            self.demand.requests,
            self.demand.work_quanta,
            self._allowed,
            self._limits,
            first.steps,
            second.steps,
            switch,
            plan,
        )
        return plan, late

    def mixed(self, cheap: _Priced, kept: _Priced, allowed: float) -> Ints:
        """The cheapest plan that keeps the objective and goes over at most once from one table to another.

        What is not done when the traffic ends is nobody's cost: at a lax objective it pays to stop caring near the end.
        """
        best, _ = self.walked(kept, kept, 0)
        for other in (cheap, self.priced(0.0)):
            for first, second, is_later_laxer in ((other, kept, True), (kept, other, False)):
                best = self._switched(first, second, allowed, best, is_later_laxer)
        return best

    def _switched(self, first: _Priced, second: _Priced, allowed: float, best: Ints, is_later_laxer: bool) -> Ints:
        low, high = 0, len(self.demand.requests)
        while low < high:
            middle = (low + high + is_later_laxer) // 2
            plan, late = self.walked(first, second, middle)
            best = self._better(best, plan, late <= allowed)
            if (late <= allowed) == is_later_laxer:
                low = middle if is_later_laxer else middle + 1
            else:
                high = middle - 1 if is_later_laxer else middle
        return best

    def trimmed(self, plan: Ints, allowed: float) -> Ints:
        """The same plan with replicas that come later, go earlier or stay away, as long as the objective is kept."""
        for span in TRIMS:
            for at in np.flatnonzero(np.diff(plan)) + 1:
                plan = self._trimmed_at(plan, int(at), span, allowed)
        return plan

    def _trimmed_at(self, plan: Ints, at: int, span: int, allowed: float) -> Ints:
        """At a step of the plan: up, it comes a span later; down, a span earlier; again while that helps."""
        for _ in range(TRIMS_EACH):
            shorter = plan.copy()
            if plan[at] > plan[at - 1]:
                shorter[at : at + span] = np.minimum(plan[at : at + span], plan[at - 1])
                moved = at + span
            else:
                first = max(0, at - span)
                shorter[first:at] = np.minimum(plan[first:at], plan[at])
                moved = first
            if self.cost_s(shorter) >= self.cost_s(plan) or self._late(shorter) > allowed:
                return plan
            plan, at = shorter, moved
            if not 0 < at < len(plan):
                return plan
        return plan

    def _late(self, plan: Ints) -> float:
        demand = self.demand
        return late_requests(demand.requests, demand.work_quanta, self._allowed, self._limits, plan)

    def _better(self, best: Ints, plan: Ints, keeps: bool) -> Ints:
        return plan if keeps and self.cost_s(plan) < self.cost_s(best) else best

    def cost_s(self, plan: Ints) -> float:
        """Replica-seconds, starts included; the replicas of the start are there."""
        starts = np.maximum(np.diff(plan, prepend=self.demand.replicas_at_start), 0).sum()
        return float(self.demand.interval_s * plan.sum() + self.lead_time_s * starts)
