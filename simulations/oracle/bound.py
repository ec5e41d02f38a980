"""The least that a share of on-time requests costs with hindsight, at a lead time: from below and from above."""

import math
from dataclasses import dataclass

from .branch import search
from .course import Course, Priced
from .demand import Demand
from .dual import PRICE_MAX_S, Dual
from .kernel import Ints

SECONDS_PER_HOUR = 3600.0
# A plan is looked for until it costs so little more than the bound from below.
GAP_RATIO = 0.005
# A share of requests is a number of them again up to rounding: none is late by a millionth.
ROUNDING_REQUESTS = 1e-6


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


def cheapest(demand: Demand, *, lead_time_s: float, attainment_ratio: float, gap_ratio: float = GAP_RATIO) -> Bound:
    """Both bounds; ValueError where not even the most replicas keep the objective."""
    return Oracle(demand, lead_time_s).bound(attainment_ratio, gap_ratio=gap_ratio)


class Oracle:
    """Bounds on a demand at a lead time; what one attainment needed is not looked for again for the next."""

    def __init__(self, demand: Demand, lead_time_s: float) -> None:
        if not 0 <= lead_time_s < math.inf:
            raise ValueError(f"the lead time must be ≥ 0 s and finite, got {lead_time_s}")
        self._demand, self._course = demand, Course(demand, lead_time_s)
        self._dual = Dual(self._course, self._course.corridor)

    def lower_hours(self, attainment_ratio: float) -> float:
        """The bound from below alone; ValueError as `bound`."""
        highest = self._dual.highest(self._allowed(attainment_ratio))
        if highest is None:
            raise self._too_few(attainment_ratio)
        return self._gpu_hours(highest.lower_s)

    def bound(self, attainment_ratio: float, *, gap_ratio: float = GAP_RATIO) -> Bound:
        """Both bounds; ValueError where not even the most replicas keep the objective."""
        found = search(self._course, self._dual, self._allowed(attainment_ratio), gap_ratio=gap_ratio)
        if found is None:
            raise self._too_few(attainment_ratio)
        return Bound(
            attainment_ratio=attainment_ratio,
            lead_time_s=self._course.lead_time_s,
            lower_hours=self._gpu_hours(found.lower_s),
            feasible_hours=self._gpu_hours(found.cost_s),
            interval_s=self._demand.interval_s,
            plan=_plain(found.plan),
        )

    def can_keep(self, attainment_ratio: float) -> bool:
        """Whether the most replicas would do."""
        return self._fewest_late().late <= self._allowed(attainment_ratio)

    def _gpu_hours(self, replica_s: float) -> float:
        return replica_s * self._demand.gpus_per_replica / SECONDS_PER_HOUR + self._demand.fixed_gpu_hours

    def _allowed(self, attainment_ratio: float) -> float:
        """How many of those that can be on time may be late."""
        if not 0 < attainment_ratio <= 1:
            raise ValueError(f"attainment must be in (0, 1], got {attainment_ratio}")
        demand = self._demand
        late = (1.0 - attainment_ratio) * float(demand.requests.sum() + demand.hopeless) - demand.hopeless
        return 0.0 if abs(late) < ROUNDING_REQUESTS else late

    def _too_few(self, attainment_ratio: float) -> ValueError:
        demand = self._demand
        late_ratio = (self._fewest_late().late + demand.hopeless) / float(demand.requests.sum() + demand.hopeless)
        return ValueError(
            f"{late_ratio:.2%} of the requests are late with the most replicas ({demand.bounds.high}), "
            f"{demand.hopeless} of them by their own prompt; at most {1 - attainment_ratio:.2%} may be"
        )

    def _fewest_late(self) -> Priced:
        return self._course.priced(PRICE_MAX_S, self._course.corridor)


def _plain(plan: Ints) -> tuple[int, ...]:
    return tuple(int(replicas) for replicas in plan)
