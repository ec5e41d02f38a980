"""`warmtide sim oracle`: what hindsight would have paid on this traffic, as a bound that no policy can beat."""

import argparse
import math
import sys
from dataclasses import replace

from simulations.commands.screen import Column, screen
from simulations.commands.setting import add_setting, make_setting
from simulations.errors import UsageError
from simulations.oracle import Bound, Demand, cheapest, demand_of
from simulations.oracle.foresight import with_hindsight
from simulations.policies.static import Static
from simulations.static_fleet import smallest_static
from simulations.world import Setting, simulate
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import StartupTimes

ATTAINMENT_DEFAULT = 0.99
LEAD_TIMES_MAX = 20
INSTANT_S = 0.001
COLUMNS = (
    Column("lead time", 10, is_text=True),
    Column("at least", 10),
    Column("plan", 10),
    Column("gap", 6),
    Column("in the world", 12),
)


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
    """One row per lead time, then the smallest static fleet."""
    setting = make_setting(options)
    setting = replace(setting, replicas_at_start=smallest_static(setting))
    leads_s, demand = sorted(_leads_s(options.lead_seconds, setting)), demand_of(setting)
    least_hours, is_kept = 0.0, True
    sys.stdout.write(
        f"{len(setting.requests):,} requests in {setting.span_s / 3600:.1f} h, TTFT ≤ {setting.ttft_s:g} s for "
        f"{options.attainment:.2%}; GPU-hours with hindsight\n"
    )
    with screen(len(leads_s), "oracle") as on:
        on.head(COLUMNS)
        for done, lead_s in enumerate(leads_s):
            on.tell(f"{lead_s:.4g} s", done)
            bound = _bound(demand, lead_s, options.attainment)
            # A plan for this lead time would do at any shorter one, so it costs no less than what is bounded there.
            least_hours = max(least_hours, bound.lower_hours)
            bound = replace(bound, lower_hours=least_hours)
            there = _started_in(setting, lead_s)
            found = with_hindsight(there, lead_time_s=lead_s, attainment_ratio=options.attainment)
            on.row(COLUMNS, (*_values(bound), "-" if found is None else f"{found.outcome.gpu_hours:.2f}"))
            is_kept &= found is not None
    if not is_kept:
        sys.stdout.write(f"-: not even {setting.bounds.high} replicas, ordered then, keep the objective there\n")
    if isinstance(setting.startup, Phases):
        sys.stdout.write(
            "every start takes just the lead time here; of starts at once that share a line it takes more\n"
        )
    fixed = simulate(setting, Static(setting.replicas_at_start))
    sys.stdout.write(
        f"a fixed fleet of {setting.replicas_at_start} costs {fixed.gpu_hours:.2f} and attains "
        f"{fixed.attainment_ratio:.2%}\n"
    )
    return 0


def _bound(demand: Demand, lead_s: float, attainment_ratio: float) -> Bound:
    try:
        return cheapest(demand, lead_time_s=lead_s, attainment_ratio=attainment_ratio)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _values(bound: Bound) -> tuple[str, ...]:
    return (
        f"{bound.lead_time_s:.4g} s",
        f"{bound.lower_hours:.2f}",
        f"{bound.feasible_hours:.2f}",
        f"{bound.gap_ratio:.1%}",
    )


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
