"""`warmtide sim oracle`: what hindsight would have paid on this traffic, as a bound that no policy can beat.

Where both pools of a service are scaled there is a bound for each, and their sum. Of services on the same nodes, too:
each as if it were alone, which bounds from below what all of them cost, whatever nodes and quota they share.
"""

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace

from simulations.commands.bounds import Hours, bounds_table
from simulations.commands.setting import add_setting, make_setting, setting_of
from simulations.commands.together import checked, together_of
from simulations.errors import UsageError
from simulations.oracle import Demand, demands_of
from simulations.oracle.foresight import with_hindsight
from simulations.policies.base import Pair, Policy
from simulations.policies.static import Static
from simulations.static_fleet import fixed, fleet_name, sized, smallest_static
from simulations.world import ALONE, Setting, simulate, simulate_together
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import StartupTimes

ATTAINMENT_DEFAULT = 0.99
LEAD_TIMES_MAX = 20
INSTANT_S = 0.001


def add(parser: argparse.ArgumentParser) -> None:
    """The objective and the lead times."""
    parser.add_argument(
        "--attainment", type=float, default=ATTAINMENT_DEFAULT, metavar="SHARE", help="on time at least; default 0.99"
    )
    parser.add_argument(
        "--lead-seconds", metavar="A,B", help="start-up times; default 0 and those of the setting, warm and cold"
    )
    add_setting(parser)


def run(options: argparse.Namespace) -> int:
    """One row per lead time, and for each pool or service where there are several; then the smallest static fleet."""
    if not 0 < options.attainment <= 1:
        raise UsageError(f"--attainment: attainment must be in (0, 1], got {options.attainment:g}")
    settings = _settings(options)
    leads_s = {name: sorted(_leads_s(options.lead_seconds, setting)) for name, setting in settings.items()}
    demands = {name: _demands(name, setting) for name, setting in settings.items()}
    _tell_what(settings, options.attainment)
    rows, is_kept = len(next(iter(leads_s.values()))), True
    every = {label: demand for own in demands.values() for label, demand in own.items()}
    with bounds_table(rows, every, options.attainment) as table:
        for row in range(rows):
            at_s = {name: own[row] for name, own in leads_s.items()}
            table.on.tell(_lead_text(at_s), row)
            hours = sum((table.tell(list(demands[name]), lead_s) for name, lead_s in at_s.items()), Hours())
            in_world_hours = _in_world_hours(settings, at_s, options.attainment)
            table.end(_lead_text(at_s), hours, in_world_hours)
            is_kept &= in_world_hours is not None
    if not is_kept:
        sys.stdout.write(_why_not(every))
    if any(isinstance(setting.startup, Phases) for setting in settings.values()):
        sys.stdout.write(
            "every start takes just the lead time here; of starts at once that share a line it takes more\n"
        )
    _tell_static(settings)
    return 0


def _settings(options: argparse.Namespace) -> Mapping[str, Setting]:
    """Services by their names, each with the smallest fixed fleet that would do if it were alone."""
    if (together := together_of(options)) is None:
        return {ALONE: sized(make_setting(options))[0]}
    drawn = {one.name: setting_of(one, options.seed) for one in checked(options, together).services}
    return {name: replace(setting, replicas_at_start=smallest_static(setting)) for name, setting in drawn.items()}


def _demands(name: str, setting: Setting) -> Mapping[str, Demand]:
    """By what they are called: the pool where there are two, else the service."""
    found = demands_of(setting)
    return {(role or name) if len(found) > 1 else name: demand for role, demand in found.items()}


def _tell_what(settings: Mapping[str, Setting], attainment_ratio: float) -> None:
    for name, setting in settings.items():
        span = f"{len(setting.requests):,} requests in {setting.span_s / 3600:.1f} h"
        objective = f"TTFT ≤ {setting.ttft_s:g} s for {attainment_ratio:.2%}"
        if not name:
            sys.stdout.write(f"{span}, {objective}; GPU-hours with hindsight\n")
            return
        sys.stdout.write(f"{name}: {span}, {objective}\n")
    sys.stdout.write(
        "GPU-hours with hindsight, of each as if it were alone: on the nodes and with the quota that they share "
        "they cost no less than all of these\n"
    )


def _in_world_hours(
    settings: Mapping[str, Setting], leads_s: Mapping[str, float], attainment_ratio: float
) -> float | None:
    """What the plans cost when they are carried out, of several services on the nodes that they share; None where the
    objective is not kept there.
    """
    there = {name: _started_in(setting, leads_s[name]) for name, setting in settings.items()}
    services: list[tuple[Setting, Policy]] = []
    for name, setting in there.items():
        found = with_hindsight(setting, lead_time_s=leads_s[name], attainment_ratio=attainment_ratio)
        if found is None:
            return None
        if len(there) == 1 or isinstance(found.policy, Pair):  # that one has no others beside it
            return found.outcome.gpu_hours
        services.append((setting, found.policy))
    shared = simulate_together(services)
    is_kept = all(outcome.attainment_ratio >= attainment_ratio for outcome in shared.outcomes)
    return shared.gpu_hours if is_kept else None


def _why_not(demands: Mapping[str, Demand]) -> str:
    most = "+".join(str(demand.bounds.high) for demand in demands.values())
    where = "there" if len(demands) == 1 else "on the nodes that there are"
    return f"-: not even {most} replicas, ordered then, keep the objective {where}\n"


def _lead_text(leads_s: Mapping[str, float]) -> str:
    return f"{next(iter(leads_s.values())):.4g} s" if len(set(leads_s.values())) == 1 else "each own"


def _tell_static(settings: Mapping[str, Setting]) -> None:
    if ALONE in settings:
        setting = settings[ALONE]
        static = simulate(setting, fixed(setting))
        fleet, hours, attained = fleet_name(setting), static.gpu_hours, f"{static.attainment_ratio:.2%}"
    else:
        shared = simulate_together([(one, Static(one.replicas_at_start)) for one in settings.values()])
        fleet = "static-" + "+".join(str(one.replicas_at_start) for one in settings.values())
        hours, attained = shared.gpu_hours, ", ".join(f"{one.attainment_ratio:.2%}" for one in shared.outcomes)
    sys.stdout.write(f"a fixed fleet of {fleet.removeprefix('static-')} costs {hours:.2f} and attains {attained}\n")


def _started_in(setting: Setting, lead_s: float) -> Setting:
    """Every start takes exactly so long; the world has no start that takes no time."""
    seconds = max(lead_s, INSTANT_S)
    return replace(setting, startup=StartupTimes(cold_s=seconds, warm_s=seconds, log_deviation=0.0))


def _leads_s(given: str | None, setting: Setting) -> tuple[float, ...]:
    if given is None:
        return (0.0, setting.startup.warm_s, setting.startup.cold_s)
    try:
        leads_s = tuple(float(word) for word in given.split(","))
    except ValueError as exc:
        raise UsageError(f"--lead-seconds {given}: numbers separated by commas are expected") from exc
    if len(leads_s) > LEAD_TIMES_MAX or not all(0 <= lead_s < math.inf for lead_s in leads_s):
        raise UsageError(f"--lead-seconds {given}: at most {LEAD_TIMES_MAX} numbers ≥ 0 are expected")
    return leads_s
