"""From many runs to a statement: paired differences with confidence intervals, and cost at equal attainment.

Policies are compared on the same traffic with the same luck, seed by seed, so what differs between seeds drops out of
the difference; its interval is Student's (1908) over the seeds. A policy that saves by serving worse saves nothing:
where a curve is asked for, each is made more and less eager, and costs are compared where attainment is the same.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from simulations.compare import cost_ratio

from .trial import Figures

CONFIDENCE = 0.95
LATE_RATIO_MIN = 1e-5  # attainment of one has no logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A mean over the seeds and its interval, which is infinite where the mean is, or one seed is all there is."""

    mean: float
    low: float
    high: float
    seeds: int

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
    """One policy on one scenario, over all seeds; None: there is no such thing in its world."""

    scenario: str
    service: str  # one of several; empty: all of them, or the only one
    policy: str
    attainment_ratio: Paired
    cost_ratio: Paired  # GPU-hours ÷ those of the fixed fleet on the same traffic
    ttft_p95_s: float  # mean over the seeds; infinite where it is for one of them
    gpu_hours: Paired
    starts: Paired
    requests: Paired | None
    prefix_hit_ratio: Paired | None
    lost_requests: Paired | None
    waited_hours: Paired | None
    nodes_cost: Paired | None
    prefill_gpu_hours: Paired | None  # where both pools are scaled
    decode_gpu_hours: Paired | None
    tpot_p95_s: Paired | None
    curve: CostCurve


def paired(values: Sequence[float], *, highest: float = math.inf) -> Paired:
    """Of one value per seed; an interval ends where no value can be: at nothing, and at `highest`."""
    mean = float(np.mean(values))
    if len(values) < 2 or math.isinf(mean):
        return Paired(mean=mean, low=-math.inf, high=math.inf, seeds=len(values))
    from scipy.stats import t as student  # a second, which only who has intervals is to wait for

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(student.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * error
    return Paired(mean=mean, low=max(0.0, mean - half), high=min(highest, mean + half), seeds=len(values))


Group = tuple[str, str, str]  # scenario, service, policy


def compared(found: Iterable[Figures], static: str) -> list[Comparison]:
    """One line per scenario, service and policy, in the order in which they first came; costs are shares of `static`.

    Of several services, each has its line before that of all.
    """
    grouped: dict[Group, list[Figures]] = defaultdict(list)
    for figures in chain.from_iterable((*one.services, one) for one in found):
        grouped[figures.key.scenario, figures.key.service, figures.key.policy].append(figures)
    return [
        _comparison(group, of_group, {one.key.seed: one.gpu_hours for one in _plain(grouped[*group[:2], static])})
        for group, of_group in grouped.items()
    ]


def _plain(group: Iterable[Figures]) -> list[Figures]:
    return [one for one in group if one.key.is_plain]


def _comparison(group: Group, found: Sequence[Figures], fixed: dict[int, float]) -> Comparison:
    """`fixed`: the GPU-hours of the fixed fleet by seed."""
    scenario, service, policy = group
    plain = _plain(found)
    points = []
    for eagerness in sorted({one.key.eagerness_ratio for one in found}):
        same = [one for one in found if one.key.eagerness_ratio == eagerness]
        costs = [cost_ratio(one.gpu_hours, fixed[one.key.seed]) for one in same]
        points.append((float(np.mean([one.attainment_ratio for one in same])), float(np.mean(costs))))
    return Comparison(
        scenario=scenario,
        service=service,
        policy=policy,
        attainment_ratio=paired([one.attainment_ratio for one in plain], highest=1.0),
        cost_ratio=paired([cost_ratio(one.gpu_hours, fixed[one.key.seed]) for one in plain]),
        ttft_p95_s=float(np.mean([one.ttft_p95_s for one in plain])),
        gpu_hours=paired([one.gpu_hours for one in plain]),
        starts=paired([one.starts for one in plain]),
        requests=_paired_known([one.requests for one in plain]),
        prefix_hit_ratio=_paired_known([one.prefix_hit_ratio for one in plain]),
        lost_requests=_paired_known([one.lost_requests for one in plain]),
        waited_hours=_paired_known([one.waited_hours for one in plain]),
        nodes_cost=_paired_known([one.nodes_cost for one in plain]),
        prefill_gpu_hours=_paired_known([one.prefill_gpu_hours for one in plain]),
        decode_gpu_hours=_paired_known([one.decode_gpu_hours for one in plain]),
        tpot_p95_s=_paired_known([one.tpot_p95_s for one in plain]),
        curve=CostCurve(points=tuple(points)),
    )


def _paired_known(values: Sequence[float | None]) -> Paired | None:
    """None where a seed has no such thing."""
    known = [value for value in values if value is not None]
    return paired(known) if len(known) == len(values) else None


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
