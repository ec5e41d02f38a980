"""The search: differential evolution over the knobs, then Nelder and Mead from the best; any trial may be the last.

Several parts, as the two pools of a service or services on the same nodes, first have all knobs in common: of these
there are few. Then the knobs of one part after the other are turned, while those of the others stay as is best.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, differential_evolution, minimize

from simulations.study.engines import Spread
from simulations.tuning.course import Course, Served
from simulations.tuning.knobs import DEFAULT_PLACES, KNOBS, document, named, policy_of

PENALTY = 20.0  # a point of attainment that is missing costs as much as a fifth of the fleet
EVOLUTION_RATIO = 0.65  # of all trials; the rest walks downhill from the best
POPULATION = 3  # per knob: small, since a trial takes a second
STEP_PLACES = 0.08  # of the first simplex
GAIN_MIN = 0.005  # of the score: less is luck

BOUNDS = Bounds([0.0] * len(KNOBS), [1.0] * len(KNOBS))

Places = NDArray[np.float64]
Documents = Mapping[str, dict[str, Any]]  # the ScalingPolicy of each part


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Either this attainment at the least cost, or the most attainment at this cost; a cost is a share of a fixed
    fleet's that would do.
    """

    attainment_ratio: float = 0.99
    cost_ratio: float | None = None

    def __post_init__(self) -> None:
        if not 0.5 <= self.attainment_ratio < 1:
            raise ValueError(f"attainment must be in [0.5, 1), got {self.attainment_ratio:g}")
        if self.cost_ratio is not None and not 0 < self.cost_ratio < math.inf:
            raise ValueError(f"cost must be > 0 and finite, got {self.cost_ratio:g}")

    def score(self, attained_ratios: Sequence[float], cost_ratio: float) -> float:
        """Less is better. Each service is to attain its objective: what one has too much does not help another."""
        if self.cost_ratio is None:
            short_ratio = sum(max(0.0, self.attainment_ratio - attained) for attained in attained_ratios)
            return cost_ratio + PENALTY * short_ratio
        missed_ratio = sum(1.0 - attained for attained in attained_ratios)
        return PENALTY * missed_ratio + PENALTY * max(0.0, cost_ratio / self.cost_ratio - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What policies made of some courses: all of them together, and of each service."""

    whole: Served
    services: Mapping[str, Served]
    score: float


def judge(found: Documents, courses: Sequence[Course], goal: Goal, spread: Spread = map) -> Judged:
    """What ScalingPolicies would have made of these courses."""
    served = [reduce(add, each) for each in zip(*spread(partial(_served, found), courses), strict=True)]
    whole = reduce(add, served)
    return Judged(
        whole=whole,
        services=dict(zip(courses[0].services, served, strict=True)),
        score=goal.score([one.attainment_ratio for one in served], whole.cost_ratio),
    )


def _served(found: Documents, course: Course) -> tuple[Served, ...]:
    return course.serve({part: policy_of(one) for part, one in found.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A position of the knobs, as the objects that it is."""

    number: int
    documents: Documents
    judged: Judged


def documents_at(name: str, course: Course, goal: Goal, places: Mapping[str, Sequence[float]]) -> Documents:
    """The ScalingPolicies of a position."""
    return {
        part: document(named(name, part), setting, goal.attainment_ratio, places.get(part, DEFAULT_PLACES))
        for part, setting in course.parts.items()
    }


class _SpentError(Exception):
    """No trial is left."""


@dataclass(slots=True, kw_only=True)
class Search:
    """Trials on some courses. `best` is always the best so far; the first trial is the default."""

    name: str
    courses: Sequence[Course]
    goal: Goal
    trials_max: int
    seed: int
    tell: Callable[[Trial, bool], None]  # every trial, and whether it is the best so far
    spread: Spread = map  # over the courses of a trial
    best: Trial | None = None
    _known: dict[str, Judged] = field(default_factory=dict)
    _trials: int = 0
    _limit: int = 0
    _places: dict[str, Places] = field(default_factory=dict)  # the best, of each part

    def run(self) -> Trial:
        """Spend the trials; an interrupt leaves `best`."""
        self._places = {part: np.array(DEFAULT_PLACES) for part in self.courses[0].parts}
        for parts, limit in self._stages():
            self._limit = limit
            with suppress(_SpentError):
                if self._trials == 0:
                    self._evolve(parts)
                else:
                    self._descend(parts)
        if self.best is None:
            raise RuntimeError("a search has at least its first trial")
        return self.best

    def _stages(self) -> Iterator[tuple[Sequence[str], int]]:
        """Which parts have their knobs turned together, until so many trials are spent."""
        parts, first = list(self._places), max(2, round(self.trials_max * EVOLUTION_RATIO))
        yield parts, first
        for number, part in enumerate(parts, start=1):
            yield [part], first + (self.trials_max - first) * number // len(parts)

    def _evolve(self, parts: Sequence[str]) -> None:
        differential_evolution(
            self._score,
            BOUNDS,
            args=(parts,),
            x0=np.array(DEFAULT_PLACES),
            popsize=POPULATION,
            maxiter=self.trials_max,
            tol=0.0,
            polish=False,
            rng=self.seed,
        )

    def _descend(self, parts: Sequence[str]) -> None:
        best = self._places[parts[0]]
        minimize(
            self._score,
            best,
            args=(parts,),
            method="Nelder-Mead",
            bounds=BOUNDS,
            options={"initial_simplex": _simplex(best), "maxfev": self.trials_max, "xatol": 0.01, "fatol": 1e-4},
        )

    def _score(self, turned: Places, parts: Sequence[str]) -> float:
        if self.best is None:
            turned = np.array(DEFAULT_PLACES)
        places = self._places | {part: turned.copy() for part in parts}
        found = documents_at(self.name, self.courses[0], self.goal, {part: at.tolist() for part, at in places.items()})
        key = json.dumps(found)
        if key not in self._known:
            if self._trials >= self._limit:
                raise _SpentError
            self._trials += 1
            self._known[key] = judge(found, self.courses, self.goal, self.spread)
            self._keep(found, self._known[key], places)
        return self._known[key].score

    def _keep(self, found: Documents, judged: Judged, places: dict[str, Places]) -> None:
        trial = Trial(number=self._trials, documents=found, judged=judged)
        is_best = self.best is None or judged.score < self.best.judged.score
        if is_best:
            self.best, self._places = trial, places
        self.tell(trial, is_best)


def _simplex(begin: Places) -> Places:
    """The best, and a step from it along each knob, inwards where it stands at the edge."""
    steps = np.where(begin > 1 - STEP_PLACES, -STEP_PLACES, STEP_PLACES)
    simplex: Places = np.vstack([begin, begin + np.diag(steps)])
    return simplex
