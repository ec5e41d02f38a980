"""The bound from above: a plan that keeps the objective, looked for until it is close to the bound from below.

Prices find plans with somewhat fewer late than are allowed, or somewhat more; where starts are dear the plans between
are missing, and so both bounds are apart. Then plans are told apart by how many replicas they have in the interval in
which the two plans beside the allowance differ most: each half has a bound of its own, and the lower of them is the
bound of all (branch and bound; Fisher, "The Lagrangian relaxation method for solving integer programming problems",
Management Science 27, 1981).
"""

import heapq
import math
from dataclasses import dataclass
from itertools import count

import numpy as np

from .course import Course
from .dual import PRICE_MAX_S, Dual, Highest
from .kernel import Ints
from .mix import mixed
from .trim import trimmed

# How often plans are told apart, and that times the cells of a table: each time a dozen prices are tried, all in all
# for ten seconds. Most of the shipped settings need none of it at 99 %, the worst some dozens with a small table.
BRANCHES_MAX, BRANCHED_CELLS_MAX = 500, 450_000_000
# Plans that cost so much more than the best may still be the better ones once they are trimmed.
TRIMMED_RATIO = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A plan that keeps the objective, and what no such plan costs less than."""

    lower_s: float
    cost_s: float
    plan: Ints


def search(course: Course, root: Dual, allowed: float, *, gap_ratio: float) -> Found | None:
    """A plan within a gap of the bound from below, or the best of so many branches; None where none was found."""
    tree = _Tree(course, allowed, gap_ratio)
    tree.add(root)
    if not tree.is_closed:
        tree.mix(root)
    for _ in range(min(BRANCHES_MAX, BRANCHED_CELLS_MAX // course.cells)):
        if tree.is_closed or not tree.can_branch:
            break
        tree.branch()
    return tree.found


class _Tree:
    """The best plan so far, and kinds of plans that may hold a better one, the lowest bound first."""

    def __init__(self, course: Course, allowed: float, gap_ratio: float) -> None:
        self._course, self._allowed, self._gap_ratio = course, allowed, gap_ratio
        self._plan: Ints | None = None
        self._cost_s = math.inf
        self._open: list[tuple[float, int, Dual, Highest]] = []
        self._serial = count()

    @property
    def found(self) -> Found | None:
        """The best plan, and the bound of all."""
        lower_s = min(self._open[0][0] if self._open else math.inf, self._cost_s)
        return None if self._plan is None else Found(lower_s=lower_s, cost_s=self._cost_s, plan=self._plan)

    @property
    def is_closed(self) -> bool:
        """Whether the best plan is as close to the bound as asked."""
        return not self._open or self._open[0][0] >= self._enough_s

    @property
    def can_branch(self) -> bool:
        """Not where the bound is what work beyond the grid, which is cut off, lets it be."""
        highest = self._open[0][3]
        return highest.cheap is not None and highest.kept.late <= self._allowed

    @property
    def _enough_s(self) -> float:
        return self._cost_s / (1.0 + self._gap_ratio)

    def add(self, dual: Dual, lower_s: float = 0.0, first_price_s: float = PRICE_MAX_S) -> None:
        """Bound a kind of plans whose bound is no lower than `lower_s`, and look at those that this finds."""
        highest = dual.highest(self._allowed, first_price_s=first_price_s, enough_s=self._enough_s)
        if highest is None:
            return
        lower_s = max(lower_s, highest.lower_s)
        heapq.heappush(self._open, (lower_s, next(self._serial), dual, highest))
        for one in dual.known:
            if lower_s < self._enough_s:
                self._take(one.plan)

    def mix(self, dual: Dual) -> None:
        """Look at plans that go over from one price to another."""
        pair = dual.beside(self._allowed)
        if pair is not None:
            for plan in (pair[1].plan, *mixed(self._course, *pair, self._allowed)):
                self._take(plan)

    def branch(self) -> None:
        """Two kinds instead of the one with the lowest bound."""
        lower_s, _, dual, highest = heapq.heappop(self._open)
        if highest.cheap is not None:
            for part in dual.parted(*_where(highest.cheap.plan, highest.kept.plan)):
                self.add(part, lower_s, highest.kept.price_s)

    def _take(self, plan: Ints) -> None:
        cost_s = self._course.cost_s(plan)
        if cost_s >= TRIMMED_RATIO * self._cost_s or self._course.late(plan) > self._allowed:
            return
        plan = trimmed(self._course, plan, self._allowed)
        if (cost_s := self._course.cost_s(plan)) < self._cost_s:
            self._plan, self._cost_s = plan, cost_s


def _where(cheap: Ints, kept: Ints) -> tuple[int, int]:
    """The interval in the middle of the longest stretch in which two plans differ most, and a number between them."""
    apart = np.abs(kept - cheap)
    most = np.flatnonzero(apart == apart.max())
    longest = max(np.split(most, np.flatnonzero(np.diff(most) > 1) + 1), key=len)
    at = int(longest[len(longest) // 2])
    return at, int(cheap[at] + kept[at]) // 2
