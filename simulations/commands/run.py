"""`warmtide sim run`: one policy beside the static fleet, with every change of its number."""

import argparse
import sys

from simulations.commands.compare import add_fleet, fleet_of, show
from simulations.commands.imported import add_import, imported_names
from simulations.commands.outputs import add_outputs, leaving
from simulations.commands.reach import add_reach, reach_of
from simulations.commands.setting import add_setting, policy_names, scenario_of, setting_of
from simulations.commands.together import checked, run_together, together_of
from simulations.errors import INTERRUPTED, UsageError
from simulations.outputs import notes_of
from simulations.policies import NAMES
from simulations.scenarios import Together


def add(parser: argparse.ArgumentParser) -> None:
    """The policy by name, or by the file of an object, and what it is set to."""
    parser.add_argument("--policy", default="warmtide", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    add_import(parser)
    add_setting(parser)
    add_fleet(parser)
    add_reach(parser)
    add_outputs(parser)


def run(options: argparse.Namespace) -> int:
    """The table of two rows, then the changes."""
    if (together := together_of(options)) is not None:
        if options.replicas is not None:
            raise UsageError("--replicas is of one service: leave it out")
        return _run_together(options, together)
    scenario = scenario_of(options)
    left, setting = leaving(options, scenario), fleet_of(options, setting_of(scenario, options.seed))
    names = imported_names(options, setting) or policy_names(options.policy)
    rows, is_whole = show(setting, names, reach_of(options), is_sized=options.replicas is not None)
    if not is_whole:
        return INTERRUPTED
    sys.stdout.writelines(f"{note}\n" for note in notes_of(rows[-1].outcome))
    outcome = rows[-1].outcome
    of_pool = {f"{use.role} ": use.changes for use in outcome.pools} or {"": outcome.changes}
    for pool, changes in of_pool.items():
        for at_s, replicas in changes:
            sys.stdout.write(f"{pool}{at_s:.0f} s: {replicas} replicas\n")
    return left.leave(setting, rows)


def _run_together(options: argparse.Namespace, together: Together) -> int:
    """As one service, with the changes of each; an object of the user's is in the policy's place."""
    ran = run_together(options, checked(options, together), () if options.imports else policy_names(options.policy))
    if ran.is_whole:
        for service, outcome in zip(together.services, ran.rows[-1].shared.outcomes, strict=True):
            for at_s, replicas in outcome.changes:
                sys.stdout.write(f"{service.name} {at_s:.0f} s: {replicas} replicas\n")
    return ran.code
