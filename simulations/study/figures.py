"""From many runs to a statement: paired differences with confidence intervals, and cost at equal attainment.

Policies are compared on the same traffic with the same luck, seed by seed, so what differs between seeds drops out of
the difference; its interval is Student's (1908) over the seeds. A policy that saves by serving worse saves nothing:
where a curve is asked for, each is made more and less eager, and costs are compared where attainment is the same.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .trial import Figures

CONFIDENCE = 0.95
LATE_RATIO_MIN = 1e-5  # attainment of one has no logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A mean over the seeds and its interval; the interval is infinite where one seed is all there is."""

    mean: float
    low: float
    high: float
    seeds: int

    def times(self, factor: float) -> "Paired":
        """In another unit."""
        return replace(self, mean=self.mean * factor, low=self.low * factor, high=self.high * factor)

    def text(self, form: str = ".2f") -> str:
        """For humans."""
        if not math.isfinite(self.low):
            return f"{self.mean:{form}}"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCurve:
    """What more eagerness buys: (attainment, GPU-hours ÷ those of the fixed fleet), means over the seeds."""

    points: tuple[tuple[float, float], ...]

    def at(self, attainment_ratio: float) -> float:
        """The cost at that attainment; infinite where the policy never reaches it."""
        return cost_at(self.points, attainment_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One policy on one scenario, over all seeds."""

    scenario: str
    policy: str
    attainment_ratio: Paired
    cost_ratio: Paired  # GPU-hours ÷ those of the fixed fleet on the same traffic
    ttft_p95_s: float  # mean over the seeds; infinite where it is for one of them
    curve: CostCurve


def paired(values: Sequence[float], *, highest: float = math.inf) -> Paired:
    """Of one value per seed; an interval ends where no value can be: at nothing, and at `highest`."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Paired(mean=mean, low=-math.inf, high=math.inf, seeds=len(values))
    from scipy.stats import t as student  # a second, which only who has intervals is to wait for

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(student.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * error
    return Paired(mean=mean, low=max(0.0, mean - half), high=min(highest, mean + half), seeds=len(values))


def compared(found: Iterable[Figures], static: str) -> list[Comparison]:
    """One line per scenario and policy, in the order in which they first came; `static` is what costs are shares of."""
    grouped: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    for figures in found:
        grouped[figures.key.scenario, figures.key.policy].append(figures)
    fixed = {
        (scenario, one.key.seed): one.gpu_hours
        for (scenario, policy), group in grouped.items()
        if policy == static
        for one in group
        if one.key.is_plain
    }
    return [_comparison(scenario, policy, group, fixed) for (scenario, policy), group in grouped.items()]


def _comparison(
    scenario: str, policy: str, group: Sequence[Figures], fixed: dict[tuple[str, int], float]
) -> Comparison:
    plain = [one for one in group if one.key.is_plain]
    points = []
    for eagerness in sorted({one.key.eagerness_ratio for one in group}):
        same = [one for one in group if one.key.eagerness_ratio == eagerness]
        costs = [one.gpu_hours / fixed[scenario, one.key.seed] for one in same]
        points.append((float(np.mean([one.attainment_ratio for one in same])), float(np.mean(costs))))
    return Comparison(
        scenario=scenario,
        policy=policy,
        attainment_ratio=paired([one.attainment_ratio for one in plain], highest=1.0),
        cost_ratio=paired([one.gpu_hours / fixed[scenario, one.key.seed] for one in plain]),
        ttft_p95_s=float(np.mean([one.ttft_p95_s for one in plain])),
        curve=CostCurve(points=tuple(points)),
    )


def cost_at(points: Sequence[tuple[float, float]], attainment_ratio: float) -> float:
    """The least cost at which the attainment is reached, along the lower edge of the points.

    Between two points the logarithm of what comes too late is taken as linear in the cost, as queues have it.
    """
    best = math.inf
    late = _log_late(attainment_ratio)
    for reached, cost in points:
        if _log_late(reached) <= late:
            best = min(best, cost)
    for one, other in ((a, b) for a in points for b in points):
        below, above = _log_late(one[0]), _log_late(other[0])
        if below > late >= above and one[1] < other[1]:  # dearer and prompter
            best = min(best, one[1] + (other[1] - one[1]) * (below - late) / (below - above))
    return best


def _log_late(attainment_ratio: float) -> float:
    return math.log(max(1.0 - attainment_ratio, LATE_RATIO_MIN))
