"""The bound from below: late requests get a price (Lagrange), and the price that gives the highest bound is found.

For any price, the least of cost + price x lateness, less price x the lateness that is allowed, is no more than what any
plan costs that keeps the objective. That least is concave in the price, and each plan is a line above it. So two plans,
one with too many late and one with no more than are allowed, bound it from above where their lines cross, and that is
the next price to try: either nothing is found below the lines, and the highest bound is there, or the plan that is
found takes the place of one of the two (Handler and Zang, "A dual algorithm for the constrained shortest path problem",
Networks 10, 1980). What was found for one allowance serves the next.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from .course import Corridor, Course, Priced

PRICE_MAX_S = 1e7  # replica-seconds that one late request may cost: none is late then whom replicas can save
PRICE_MIN_S = 1e-3  # below, they might as well cost nothing
PRECISION_RATIO = 1e-9  # what the bound may be short of the highest
CLOSE_RATIO = 1.02  # of two prices, where bounds do not say when they are close enough

_price = attrgetter("price_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Highest:
    """The highest bound for an allowance, and the plans beside it: too many late, and no more than allowed."""

    lower_s: float
    cheap: Priced | None  # None: the cheapest plan of all keeps the objective
    kept: Priced


class Dual:
    """The bounds of all plans in a corridor."""

    def __init__(self, course: Course, corridor: Corridor, known: Iterable[Priced] = ()) -> None:
        self._course, self.corridor = course, corridor
        self._known = {one.price_s: one for one in known if corridor.holds(one.plan)}

    @property
    def known(self) -> tuple[Priced, ...]:
        """The best plans at the prices that were tried, those of low prices first."""
        return tuple(sorted(self._known.values(), key=_price))

    def parted(self, at: int, replicas: int) -> tuple["Dual", "Dual"]:
        """Of the plans with at most so many replicas in an interval, and of those with more."""
        few, many = self.corridor.parted(at, replicas)
        return Dual(self._course, few, self.known), Dual(self._course, many, self.known)

    def highest(
        self, allowed: float, *, first_price_s: float = PRICE_MAX_S, enough_s: float = math.inf
    ) -> Highest | None:
        """The highest bound, or the first that is enough; None where no plan leaves so few late."""
        self._priced(first_price_s)
        kept = next((one for one in self.known if one.counted <= allowed), None) or self._priced(PRICE_MAX_S)
        if kept.counted > allowed:
            return None
        cheap = max((one for one in self.known if one.counted > allowed), key=_price, default=None) or self._priced(0.0)
        while cheap.counted > allowed:
            lower_s = max(one.value_s - one.price_s * allowed for one in self._known.values())
            price_s = (kept.cost_s - cheap.cost_s) / (cheap.counted - kept.counted)
            upper_s = cheap.cost_s + price_s * (cheap.counted - allowed)
            is_between = cheap.price_s < price_s < kept.price_s  # or rounding is all that is left
            if lower_s >= min(enough_s, upper_s * (1.0 - PRECISION_RATIO)) or not is_between:
                return Highest(lower_s=lower_s, cheap=cheap, kept=kept)
            found = self._priced(price_s)
            cheap, kept = (cheap, found) if found.counted <= allowed else (found, kept)
        return Highest(lower_s=cheap.value_s, cheap=None, kept=cheap)

    def beside(self, allowed: float) -> tuple[Priced, Priced] | None:
        """As `Highest` has them, by the late that there are; None where no plan is found that leaves so few.

        Where so much is late that work beyond the table's grid was cut off, there are more than the table counts.
        """
        kept = next((one for one in self.known if one.late <= allowed), None) or self._priced(PRICE_MAX_S)
        if kept.late > allowed:
            return None
        below = [one for one in self.known if one.price_s < kept.price_s]
        cheap = below[-1] if below else self._priced(0.0)
        while kept.price_s > CLOSE_RATIO * max(cheap.price_s, PRICE_MIN_S):
            middle = self._priced(math.sqrt(kept.price_s * max(cheap.price_s, PRICE_MIN_S)))
            cheap, kept = (cheap, middle) if middle.late <= allowed else (middle, kept)
        return cheap, kept

    def _priced(self, price_s: float) -> Priced:
        if price_s not in self._known:
            self._known[price_s] = self._course.priced(price_s, self.corridor)
        return self._known[price_s]
