"""What the oracle's benchmark simulates and bounds: one job after the other, each known by its name, in any process."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from simulations.commands.setting import add_setting, make_setting
from simulations.oracle import Bound, Demand, Oracle, demand_of
from simulations.oracle.foresight import with_hindsight
from simulations.policies import NAMES, Site, build
from simulations.policies.catalog import FORESIGHT
from simulations.policies.static import Static
from simulations.scenarios import load_scenario
from simulations.scenarios.draw import Generated
from simulations.static_fleet import smallest_static
from simulations.world import Outcome, Setting, simulate
from simulations.world.starts.startup import StartupTimes

LEAD_TIMES_S = (60.0, 180.0, 600.0)
# Policies with their makers' parameters are far from the bound at most lead times: all of them are run at one.
FULL_LEAD_S = LEAD_TIMES_S[0]
ATTAINMENT_RATIO = 0.99
# Degrees of eagerness that are tried; of courses longer than some hours fewer, or this takes the night.
EAGERNESS_RATIOS = (0.7, 1.0, 1.4)
LONG_S = 4 * 3600.0
# Of those whose cost at the objective is a figure.
SEARCHED_RATIOS = (0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0)
SEARCHED = (FORESIGHT, "warmtide")
STATIC, BOUND, HINDSIGHT = "static", "bound", "hindsight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A policy, or the oracle itself, on a scenario at a lead time."""

    scenario: str
    name: str
    degree: float = 1.0  # of eagerness; of static: replicas more than the smallest fleet that holds
    lead_s: float = FULL_LEAD_S

    @property
    def label(self) -> str:
        """For its figure."""
        if self.name == STATIC:
            return f"{STATIC}{self.degree:+g}"
        return f"{self.name}_x{self.degree:g}" if self.lead_s == FULL_LEAD_S else f"{self.name}_{self.lead_s:.0f}_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of a job: of a policy its run, of the bound its hours, of hindsight both where it was possible."""

    job: Job
    cpu_s: float
    bound: Bound | None = None
    gpu_hours: float = 0.0
    attainment_ratio: float = 0.0
    over_bound_ratio: float = 0.0  # GPU-hours ÷ the bound at the same attainment


def jobs_of(scenario: str) -> Iterator[Job]:
    """The oracle, then every policy at one lead time and Warmtide at all of them; what takes longest comes first."""
    is_long = span_s(scenario) > LONG_S
    for lead_s in LEAD_TIMES_S:
        yield Job(scenario=scenario, name=BOUND, lead_s=lead_s)
    yield Job(scenario=scenario, name=HINDSIGHT)
    for name in (*SEARCHED, *(name for name in NAMES if name not in SEARCHED)):
        searched = EAGERNESS_RATIOS if is_long else SEARCHED_RATIOS
        plain = (1.0,) if is_long else EAGERNESS_RATIOS
        for degree in searched if name in SEARCHED else plain:
            yield Job(scenario=scenario, name=name, degree=degree)
    for lead_s in LEAD_TIMES_S[1:]:
        yield Job(scenario=scenario, name="warmtide", lead_s=lead_s)
    for more in (-1, 0, 1):
        yield Job(scenario=scenario, name=STATIC, degree=more)


def span_s(scenario: str) -> float:
    """How long a shipped scenario is, before its traffic is drawn."""
    traffic = load_scenario(scenario).traffic
    if not isinstance(traffic, Generated):
        raise TypeError(f"scenario {scenario}: its traffic is not drawn from rates but {type(traffic).__name__}")
    return traffic.span_s


def carry_out(job: Job) -> Made:
    """Start-ups take exactly the lead time, so that the oracle's is the true one."""
    began_s = time.process_time()
    if job.name == BOUND:
        bound = oracle_of(job.scenario, job.lead_s).bound(objective(demand(job.scenario)))
        return Made(job=job, cpu_s=time.process_time() - began_s, bound=bound)
    outcome = _outcome(job)
    if outcome is None:
        return Made(job=job, cpu_s=time.process_time() - began_s)
    over = over_bound_ratio(oracle_of(job.scenario, job.lead_s), outcome)
    return Made(
        job=job,
        cpu_s=time.process_time() - began_s,
        gpu_hours=outcome.gpu_hours,
        attainment_ratio=outcome.attainment_ratio,
        over_bound_ratio=over,
    )


def _outcome(job: Job) -> Outcome | None:
    """None where not even hindsight keeps the objective."""
    setting = setting_at(job.scenario, job.lead_s)
    if job.name == STATIC:
        replicas = setting.bounds.clamp(setting.replicas_at_start + int(job.degree))
        return simulate(setting, Static(replicas))
    if job.name == HINDSIGHT:
        attained = objective(demand(job.scenario))
        found = with_hindsight(setting, lead_time_s=job.lead_s, attainment_ratio=attained)
        return None if found is None else found.outcome
    site = Site(config=setting.config, times=setting.times, requests=setting.requests, eagerness_ratio=job.degree)
    policy = build(job.name, setting.bounds, ttft_s=setting.ttft_s, lead_time_s=job.lead_s, site=site)
    return simulate(setting, policy)


def over_bound_ratio(oracle: Oracle, outcome: Outcome) -> float:
    """GPU-hours ÷ the bound at the same attainment; 0 where the oracle calls the attainment impossible."""
    try:
        return outcome.gpu_hours / oracle.lower_hours(max(outcome.attainment_ratio, 1e-6))
    except ValueError:
        return 0.0


def objective(demand: Demand) -> float:
    """99 % of the requests that any fleet could serve in time: some prompts alone take longer than the objective."""
    total = int(demand.requests.sum()) + demand.hopeless
    return ATTAINMENT_RATIO * (1.0 - demand.hopeless / total)


def setting_at(scenario: str, lead_s: float) -> Setting:
    """As `warmtide sim compare --scenario NAME` runs it, but for start-ups that take exactly so long."""
    return replace(_setting(scenario), startup=StartupTimes(cold_s=lead_s, warm_s=lead_s, log_deviation=0.0))


# A process works off one scenario after another, so it keeps the last: traffic, and tables of up to 200 MB each.
@lru_cache(maxsize=1)
def _setting(scenario: str) -> Setting:
    parser = argparse.ArgumentParser()
    add_setting(parser)
    setting = make_setting(parser.parse_args(["--scenario", scenario]))
    return replace(setting, replicas_at_start=smallest_static(setting))


@lru_cache(maxsize=1)
def demand(scenario: str) -> Demand:
    """The fluid of a scenario, the same at all lead times."""
    return demand_of(_setting(scenario))


@lru_cache(maxsize=len(LEAD_TIMES_S))
def oracle_of(scenario: str, lead_s: float) -> Oracle:
    """What it finds for one policy's attainment serves the next."""
    return Oracle(demand(scenario), lead_s)
