"""The search: differential evolution over the knobs, then Nelder and Mead from the best; any trial may be the last."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, differential_evolution, minimize

from simulations.study.engines import Spread
from simulations.tuning.courses import Course
from simulations.tuning.knobs import DEFAULT_PLACES, KNOBS, document, policy_of
from simulations.world import simulate

PENALTY = 20.0  # a point of attainment that is missing costs as much as a fifth of the fleet
EVOLUTION_RATIO = 0.65  # of all trials; the rest walks downhill from the best
POPULATION = 3  # per knob: small, since a trial takes a second
STEP_PLACES = 0.08  # of the first simplex
GAIN_MIN = 0.005  # of the score: less is luck

BOUNDS = Bounds([0.0] * len(KNOBS), [1.0] * len(KNOBS))

Places = NDArray[np.float64]


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

    def score(self, attainment_ratio: float, cost_ratio: float) -> float:
        """Less is better."""
        if self.cost_ratio is None:
            return cost_ratio + PENALTY * max(0.0, self.attainment_ratio - attainment_ratio)
        return PENALTY * (1.0 - attainment_ratio) + PENALTY * max(0.0, cost_ratio / self.cost_ratio - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a policy made of some courses: all requests and all GPU-hours of them together."""

    attainment_ratio: float
    gpu_hours: float
    cost_ratio: float
    score: float


def judge(found: dict[str, Any], courses: Sequence[Course], goal: Goal, spread: Spread = map) -> Judged:
    """What a ScalingPolicy would have made of these courses."""
    requests, met, gpu_hours = 0, 0.0, 0.0
    for course, (attained, hours) in zip(courses, spread(partial(_served, found), courses), strict=True):
        requests += len(course.setting.requests)
        met += attained * len(course.setting.requests)
        gpu_hours += hours
    attainment_ratio = met / requests
    cost_ratio = gpu_hours / sum(course.static_gpu_hours for course in courses)
    score = goal.score(attainment_ratio, cost_ratio)
    return Judged(attainment_ratio=attainment_ratio, gpu_hours=gpu_hours, cost_ratio=cost_ratio, score=score)


def _served(found: dict[str, Any], course: Course) -> tuple[float, float]:
    """Attainment and GPU-hours."""
    outcome = simulate(course.setting, policy_of(found))
    return outcome.attainment_ratio, outcome.gpu_hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A position of the knobs, as the object that it is."""

    number: int
    document: dict[str, Any]
    judged: Judged


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
    _places: Places = field(default_factory=lambda: np.array(DEFAULT_PLACES))

    def run(self) -> Trial:
        """Spend the trials; an interrupt leaves `best`."""
        self._limit = max(2, round(self.trials_max * EVOLUTION_RATIO))
        with suppress(_SpentError):
            differential_evolution(
                self._score,
                BOUNDS,
                x0=np.array(DEFAULT_PLACES),
                popsize=POPULATION,
                maxiter=self.trials_max,
                tol=0.0,
                polish=False,
                rng=self.seed,
            )
        self._limit = self.trials_max
        best = self._places
        with suppress(_SpentError):
            minimize(
                self._score,
                best,
                method="Nelder-Mead",
                bounds=BOUNDS,
                options={"initial_simplex": _simplex(best), "maxfev": self.trials_max, "xatol": 0.01, "fatol": 1e-4},
            )
        if self.best is None:
            raise RuntimeError("a search has at least its first trial")
        return self.best

    def _score(self, places: Places) -> float:
        if self.best is None:
            places = np.array(DEFAULT_PLACES)
        found = document(self.name, self.courses[0].setting, self.goal.attainment_ratio, places.tolist())
        key = json.dumps(found)
        if key not in self._known:
            if self._trials >= self._limit:
                raise _SpentError
            self._trials += 1
            self._known[key] = judge(found, self.courses, self.goal, self.spread)
            self._keep(found, self._known[key], places)
        return self._known[key].score

    def _keep(self, found: dict[str, Any], judged: Judged, places: Places) -> None:
        trial = Trial(number=self._trials, document=found, judged=judged)
        is_best = self.best is None or judged.score < self.best.judged.score
        if is_best:
            self.best, self._places = trial, places.copy()
        self.tell(trial, is_best)


def _simplex(begin: Places) -> Places:
    """The best, and a step from it along each knob, inwards where it stands at the edge."""
    steps = np.where(begin > 1 - STEP_PLACES, -STEP_PLACES, STEP_PLACES)
    simplex: Places = np.vstack([begin, begin + np.diag(steps)])
    return simplex
