"""A demand at a lead time: what plans of replicas cost on it, how many they leave late, and the best at a price."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .demand import QUANTA_PER_INTERVAL, Demand, grid_of
from .kernel import Costs, Ints, Steps, Task, best_steps, follow, late_requests


@dataclass(frozen=True, slots=True)
class Corridor:
    """How few and how many replicas a plan may have, interval by interval."""

    fewest: Ints
    most: Ints

    def holds(self, plan: Ints) -> bool:
        """Whether a plan stays within."""
        return bool(((self.fewest <= plan) & (plan <= self.most)).all())

    def parted(self, at: int, replicas: int) -> tuple["Corridor", "Corridor"]:
        """Plans with at most so many in an interval, and plans with more."""
        most, fewest = self.most.copy(), self.fewest.copy()
        most[at], fewest[at] = replicas, replicas + 1
        return Corridor(self.fewest, most), Corridor(fewest, self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """The best plan where a late request costs so much."""

    price_s: float
    value_s: float  # cost + price x counted
    cost_s: float
    counted: float  # late requests as the table has them: work beyond its grid is cut off
    late: float  # those that there are
    plan: Ints


class Course:
    """A demand at a lead time, ready for the kernel; its tables are used again for each price."""

    def __init__(self, demand: Demand, lead_time_s: float) -> None:
        self.demand, self.lead_time_s = demand, lead_time_s
        bounds, intervals = demand.bounds, len(demand.requests)
        lead = math.ceil(lead_time_s / demand.interval_s)  # intervals until the first start-up can be ready
        fewest, most = (np.full(intervals, number, dtype=np.int64) for number in (bounds.low, bounds.high))
        most[:lead] = demand.replicas_at_start
        self.corridor = Corridor(fewest, most)
        # One quantum more may be there: work is rounded down.
        self._allowed = demand.allowed_quanta + 1.0
        grid = grid_of(bounds.high, self._allowed)
        self._values = np.empty((3, bounds.high + 1, grid))
        self._steps: Steps = np.empty((intervals, bounds.high + 1, grid), dtype=np.uint16)

    @property
    def cells(self) -> int:
        """Of the table that each price fills."""
        return self._steps.size

    def priced(self, price_s: float, corridor: Corridor) -> Priced:
        """The best plan within a corridor when a late request costs so many replica-seconds."""
        value_s, plan = self._fill(self._steps, price_s, corridor), self._empty_plan()
        counted = follow(self._task(corridor), self._steps, self._steps, 0, plan)
        return Priced(
            price_s=price_s,
            value_s=value_s,
            cost_s=self.cost_s(plan),
            counted=counted,
            late=self.late(plan),
            plan=plan,
        )

    def switched(self, first_price_s: float, second_price_s: float) -> Callable[[int], Ints]:
        """The plans that go over from one price to another, by the interval in which they do."""
        first, second = np.empty_like(self._steps), np.empty_like(self._steps)
        for steps, price_s in ((first, first_price_s), (second, second_price_s)):
            self._fill(steps, price_s, self.corridor)

        def plan_of(switch: int) -> Ints:
            plan = self._empty_plan()
            follow(self._task(self.corridor), first, second, switch, plan)
            return plan

        return plan_of

    def late(self, plan: Ints) -> float:
        """Requests that a plan leaves late."""
        return late_requests(self._task(self.corridor), plan)

    def cost_s(self, plan: Ints) -> float:
        """Replica-seconds, starts included; the replicas of the start are there."""
        starts = np.maximum(np.diff(plan, prepend=self.demand.replicas_at_start), 0).sum()
        return float(self.demand.interval_s * plan.sum() + self.lead_time_s * starts)

    def _fill(self, steps: Steps, price_s: float, corridor: Corridor) -> float:
        costs = Costs(self.demand.interval_s, self.lead_time_s, price_s)
        return best_steps(self._task(corridor), costs, self._values, steps)

    def _empty_plan(self) -> Ints:
        return np.empty(len(self.demand.requests), dtype=np.int64)

    def _task(self, corridor: Corridor) -> Task:
        return Task(
            requests=self.demand.requests,
            work=self.demand.work_quanta,
            fewest=corridor.fewest,
            most=corridor.most,
            begun=self.demand.replicas_at_start,
            served=QUANTA_PER_INTERVAL,
            allowed=self._allowed,
        )
