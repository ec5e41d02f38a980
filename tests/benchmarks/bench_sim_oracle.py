"""The oracle beside every policy on every scenario: nobody is cheaper at his own attainment, and what regret is left.

Start-ups take exactly the lead time, so that the oracle's is the true one; what weights and lines do to it is not
looked at here. Runs are spread over the cores, and a scenario's figures are told once its runs are done.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from figures import Figure
from oracle_runs import (
    BOUND,
    FULL_LEAD_S,
    HINDSIGHT,
    SEARCHED,
    STATIC,
    Made,
    carry_out,
    jobs_of,
    span_s,
)

from simulations.oracle import Bound
from simulations.scenarios import NAMES as SCENARIO_NAMES
from simulations.study import spread_over

GAP_MAX_RATIO = 0.02


def run() -> Iterator[Figure]:
    """Figures, scenario after scenario; last the CPU time of it all."""
    # The shortest first: figures come soon.
    jobs = [job for scenario in sorted(SCENARIO_NAMES, key=span_s) for job in jobs_of(scenario)]
    cpu_s = 0.0
    with spread_over(len(os.sched_getaffinity(0))) as spread:
        told = _tell(spread(carry_out, jobs), len(jobs))
        for scenario, group in groupby(told, key=lambda made: made.job.scenario):
            made = list(group)
            cpu_s += sum(one.cpu_s for one in made)
            yield from _figures(f"oracle_{scenario.replace('-', '_')}", made)
    yield Figure(name="oracle_cpu", value=cpu_s, unit="s", better="lower")


def _tell(all_made: Iterable[Made], jobs: int) -> Iterator[Made]:
    for done, made in enumerate(all_made, start=1):
        job = made.job
        sys.stderr.write(f"sim-oracle {done}/{jobs} {job.scenario} {job.label}: {made.cpu_s:.1f} s of CPU\n")
        yield made


def _figures(key: str, made: Sequence[Made]) -> Iterator[Figure]:
    bounds = [one.bound for one in made if one.bound is not None]
    gap_ratio = max(bound.gap_ratio for bound in bounds)
    yield Figure(name=f"{key}_gap", value=gap_ratio, unit="ratio", bar=GAP_MAX_RATIO, better="lower")
    for bound in bounds:
        yield Figure(name=f"{key}_{bound.lead_time_s:.0f}_s", value=bound.lower_hours, unit="GPU-hours")
    disorder = sum(shorter.lower_hours > longer.lower_hours for shorter, longer in pairwise(bounds))
    yield Figure(name=f"{key}_out_of_order", value=disorder, unit="pairs", bar=0, better="lower")
    runs = [one for one in made if one.job.name not in (BOUND, HINDSIGHT)]
    beaten = sum(one.over_bound_ratio < 1.0 for one in runs)
    yield Figure(name=f"{key}_beaten_by", value=beaten, unit=f"of {len(runs)} runs", bar=0, better="lower")
    nearest = min(runs, key=lambda one: one.over_bound_ratio)
    yield Figure(name=f"{key}_nearest_{nearest.job.label}", value=nearest.over_bound_ratio, unit="x its bound")
    yield from _regrets(key, made, bounds[0])


def _regrets(key: str, made: Sequence[Made], bound: Bound) -> Iterator[Figure]:
    """What is paid at the objective, over the bound: the plan in the world, Warmtide told the future, and not, a fleet.

    The cheapest of some degrees of eagerness; no figure of whom none keeps the objective.
    """
    kept = [one for one in made if one.job.lead_s == FULL_LEAD_S and one.attainment_ratio >= bound.attainment_ratio]
    for name, label in (
        (HINDSIGHT, "hindsight_in_the_world"),
        *((name, f"{name}_at_99") for name in (*SEARCHED, STATIC)),
    ):
        hours = min((one.gpu_hours for one in kept if one.job.name == name), default=None)
        if hours is not None:
            yield Figure(name=f"{key}_{label}", value=hours / bound.lower_hours, unit="x the bound")
