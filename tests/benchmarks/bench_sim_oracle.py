"""The oracle beside every policy on every scenario: nobody is cheaper at his own attainment, and what regret is left.

Start-ups take exactly the lead time, so that the oracle's is the true one.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from figures import Figure

from simulations.commands.setting import add_setting, make_setting
from simulations.oracle import Bound, Demand, cheapest, demand_of
from simulations.oracle.foresight import with_hindsight
from simulations.policies import NAMES, Site, build
from simulations.policies.catalog import FORESIGHT
from simulations.policies.static import Static
from simulations.scenarios import NAMES as SCENARIO_NAMES
from simulations.static_fleet import smallest_static
from simulations.world import Outcome, Setting, simulate
from simulations.world.starts.startup import StartupTimes

LEAD_TIMES_S = (60.0, 180.0, 600.0)
ATTAINMENT_RATIO = 0.99
GAP_MAX_RATIO = 0.02
# Degrees of eagerness that are tried; of courses longer than some hours fewer, or this takes the night.
EAGERNESS_RATIOS = (0.7, 1.0, 1.4)
LONG_S = 4 * 3600.0
SEARCHED_RATIOS = (0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0)
# Policies with their makers' parameters are far from the bound at most lead times: all of them are run at one.
FULL_LEAD_S = 60.0


def run() -> list[Figure]:
    return [figure for name in SCENARIO_NAMES for figure in scenario_figures(name)]


def scenario_figures(name: str) -> Iterator[Figure]:
    setting = setting_of(name)
    demand = demand_of(setting)
    attained = objective(demand)
    bounds = [cheapest(demand, lead_time_s=lead_s, attainment_ratio=attained) for lead_s in LEAD_TIMES_S]
    key = f"oracle_{name.replace('-', '_')}"
    yield Figure(
        name=f"{key}_gap", value=max(b.gap_ratio for b in bounds), unit="ratio", bar=GAP_MAX_RATIO, better="lower"
    )
    for bound in bounds:
        yield Figure(name=f"{key}_{bound.lead_time_s:.0f}_s", value=bound.lower_hours, unit="replica-hours")
    disorder = sum(shorter.lower_hours > longer.lower_hours for shorter, longer in pairwise(bounds))
    yield Figure(name=f"{key}_out_of_order", value=disorder, unit="pairs", bar=0, better="lower")
    ratios = {label: outcome_ratio(demand, lead_s, outcome) for label, lead_s, outcome in outcomes(setting)}
    beaten = sum(ratio < 1.0 for ratio in ratios.values())
    yield Figure(name=f"{key}_beaten_by", value=beaten, unit=f"of {len(ratios)} runs", bar=0, better="lower")
    nearest = min(ratios, key=ratios.__getitem__)
    yield Figure(name=f"{key}_nearest_{nearest}", value=ratios[nearest], unit="x its bound")
    yield from regrets(key, setting, bounds[0])


def objective(demand: Demand) -> float:
    """99 % of the requests that any fleet could serve in time: some prompts alone take longer than the objective."""
    total = int(demand.requests.sum()) + demand.hopeless
    return ATTAINMENT_RATIO * (1.0 - demand.hopeless / total)


def setting_of(name: str) -> Setting:
    """As `warmtide sim compare --scenario NAME` runs it."""
    parser = argparse.ArgumentParser()
    add_setting(parser)
    setting = make_setting(parser.parse_args(["--scenario", name]))
    return with_lead(replace(setting, replicas_at_start=smallest_static(setting)), FULL_LEAD_S)


def with_lead(setting: Setting, lead_s: float) -> Setting:
    return replace(setting, startup=StartupTimes(cold_s=lead_s, warm_s=lead_s, log_deviation=0.0))


def outcomes(setting: Setting) -> Iterator[tuple[str, float, Outcome]]:
    """Every policy at one lead time, Warmtide at all of them, each with several degrees of eagerness."""
    start = setting.replicas_at_start
    for replicas in {max(setting.bounds.low, start - 1), start, min(setting.bounds.high, start + 1)}:
        yield f"static-{replicas}", FULL_LEAD_S, simulate(setting, Static(replicas))
    for name in (*NAMES, FORESIGHT):
        for eagerness in EAGERNESS_RATIOS if setting.span_s <= LONG_S else (1.0,):
            yield f"{name}_x{eagerness:g}", FULL_LEAD_S, outcome_of(setting, name, eagerness, FULL_LEAD_S)
    for lead_s in LEAD_TIMES_S[1:]:
        yield f"warmtide_{lead_s:.0f}_s", lead_s, outcome_of(with_lead(setting, lead_s), "warmtide", 1.0, lead_s)


def outcome_of(setting: Setting, name: str, eagerness: float, lead_s: float) -> Outcome:
    site = Site(config=setting.config, times=setting.times, requests=setting.requests, eagerness_ratio=eagerness)
    policy = build(name, setting.bounds, ttft_s=setting.ttft_s, lead_time_s=lead_s, site=site)
    return simulate(setting, policy)


def outcome_ratio(demand: Demand, lead_s: float, outcome: Outcome) -> float:
    """GPU-hours ÷ the bound at the same attainment; 0 where the oracle calls the attainment impossible."""
    attained = max(outcome.attainment_ratio, 1e-6)
    try:
        bound = cheapest(demand, lead_time_s=lead_s, attainment_ratio=attained)
    except ValueError:
        return 0.0
    return outcome.gpu_hours / bound.lower_hours


def regrets(key: str, setting: Setting, bound: Bound) -> Iterator[Figure]:
    """What is paid at the objective, over the bound: the plan in the world, Warmtide told the future, Warmtide."""
    found = with_hindsight(setting, lead_time_s=FULL_LEAD_S, attainment_ratio=bound.attainment_ratio)
    if found is not None:
        ratio = found.outcome.gpu_hours / bound.lower_hours
        yield Figure(name=f"{key}_hindsight_in_the_world", value=ratio, unit="x the bound")
    for name in (FORESIGHT, "warmtide", "static"):
        hours = cheapest_at(setting, name, bound.attainment_ratio)
        if hours is not None:
            yield Figure(name=f"{key}_{name}_at_99", value=hours / bound.lower_hours, unit="x the bound")


def cheapest_at(setting: Setting, name: str, attainment_ratio: float) -> float | None:
    """GPU-hours at the objective, the cheapest of some degrees of eagerness; None where none keeps it."""
    if name == "static":
        fixed = simulate(setting, Static(setting.replicas_at_start))
        return fixed.gpu_hours if fixed.attainment_ratio >= attainment_ratio else None
    ratios = SEARCHED_RATIOS if setting.span_s <= LONG_S else EAGERNESS_RATIOS
    runs = [outcome_of(setting, name, eagerness, FULL_LEAD_S) for eagerness in ratios]
    kept = [run.gpu_hours for run in runs if run.attainment_ratio >= attainment_ratio]
    return min(kept, default=None)
