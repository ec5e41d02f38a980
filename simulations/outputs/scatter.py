"""Cost against promptness: numbered points, where asked for with their intervals and the curves they lie on."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

LATE_RATIO_MIN = 1e-4  # at the top: nearly none
RULES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)  # of requests that came too late
EDGE_RATIO = 0.08  # of the width, left and right of the outermost points
NEAR = 5.0  # per cent of its width or height: closer points would hide each other on a phone
SINGLE_POINT = 50.0  # per cent; where all cost the same
TOP = 96.0  # per cent from the bottom, of the best

Place = tuple[float, float]  # what it cost, and the share of first tokens that came in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One policy."""

    number: int
    policy: str
    cost: float
    attainment_ratio: float
    is_focus: bool = False
    ends: tuple[tuple[Place, Place], ...] = ()  # of each interval
    curve: tuple[Place, ...] = ()  # the same policy, less and more eager


def badge(number: int, policy: str, *, is_focus: bool) -> str:
    """A policy's number, which stands for it."""
    return f'<span class="badge{" focus" if is_focus else ""}" title="{escape(policy)}">{number}</span>'


def scatter(points: Sequence[Point], axis: str, form: str) -> str:
    """Those that would hide each other stand side by side; `form` is that of the costs."""
    scale = _Scale(points)
    rules = (
        f'<div class="rule" style="bottom:{scale.height(1 - late):.1f}%"><span>{100 * (1 - late):g} %</span></div>'
        for late in RULES
        if late < scale.late_max
    )
    ends = (
        f'<span class="x" style="left:{scale.across(cost):.1f}%">{cost:{form}}</span>'
        for cost in sorted({scale.low, scale.high})
    )
    parts = "".join((*rules, _lines(points, scale), *_badges(points, scale), *ends))
    return f'<div class="pareto">{parts}</div><p class="axis">{axis}</p>'


class _Scale:
    """Costs from left to right; on a logarithmic scale what came too late, from top to bottom."""

    def __init__(self, points: Sequence[Point]) -> None:
        places = [(one.cost, one.attainment_ratio) for one in points] + [at for one in points for at in one.curve]
        costs = [cost for cost, _ in places]
        self.low, self.high = min(costs), max(costs)
        self.late_max = min(1.0, 1.3 * max(LATE_RATIO_MIN * 10, *(1 - reached for _, reached in places)))

    def across(self, cost: float) -> float:
        """Per cent from the left; intervals end at the edges."""
        if self.high <= self.low:
            return SINGLE_POINT
        edge = EDGE_RATIO * (self.high - self.low)
        return min(100.0, max(0.0, 100 * (cost - self.low + edge) / (self.high - self.low + 2 * edge)))

    def height(self, attainment_ratio: float) -> float:
        """Per cent from the bottom."""
        late = max(1 - attainment_ratio, LATE_RATIO_MIN)
        share = math.log(self.late_max / late) / math.log(self.late_max / LATE_RATIO_MIN)
        return TOP * min(1.0, max(0.0, share))

    def at(self, place: Place) -> str:
        """In a drawing of 100 by 100."""
        return f"{self.across(place[0]):.1f},{100 - self.height(place[1]):.1f}"


def _badges(points: Sequence[Point], scale: _Scale) -> Iterable[str]:
    places: dict[tuple[float, float], list[Point]] = {}
    for one in points:
        at = (scale.across(one.cost), scale.height(one.attainment_ratio))
        near = next((place for place in places if math.dist(place, at) < NEAR), at)
        places.setdefault(near, []).append(one)
    return (
        f'<span class="at" style="left:{x:.1f}%;bottom:{y:.1f}%">'
        f"{' '.join(badge(one.number, one.policy, is_focus=one.is_focus) for one in group)}</span>"
        for (x, y), group in places.items()
    )


def _lines(points: Sequence[Point], scale: _Scale) -> str:
    """Curves and intervals, behind the points."""
    shapes = [
        f'<polyline class="{kind}{" focus" if one.is_focus else ""}" points="{" ".join(map(scale.at, places))}"/>'
        for one in points
        for kind, places in (*(("interval", ends) for ends in one.ends), *([("curve", one.curve)] if one.curve else ()))
    ]
    if not shapes:
        return ""
    return f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{"".join(shapes)}</svg>'
