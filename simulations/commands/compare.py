"""`warmtide sim compare`: policies side by side on the same requests, a row each as soon as it is done."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from simulations.commands.imported import add_import, imported_names
from simulations.commands.outputs import add_outputs, leaving
from simulations.commands.reach import Check, add_reach, reach_of
from simulations.commands.screen import Column, screen
from simulations.commands.setting import add_setting, policy_names, scenario_of, setting_of
from simulations.commands.study import add_study, is_study, show_study
from simulations.commands.table import Measure, measures_of
from simulations.commands.together import checked, run_together, together_of
from simulations.compare import Row, compare
from simulations.errors import INTERRUPTED, UsageError
from simulations.policies import NAMES
from simulations.policies.catalog import FORESIGHT, MENDED
from simulations.scenarios import Together
from simulations.static_fleet import of_size
from simulations.study import Key, figures_of
from simulations.world import Setting


def add(parser: argparse.ArgumentParser) -> None:
    """Policies, and what they are set to."""
    mended = f"{FORESIGHT}, and without known bugs {', '.join(MENDED)}"
    parser.add_argument("--policies", default=",".join(NAMES), metavar="A,B", help=f"default: all; also {mended}")
    add_import(parser)
    add_setting(parser)
    add_fleet(parser)
    add_reach(parser)
    add_study(parser)
    add_outputs(parser)


def run(options: argparse.Namespace) -> int:
    """The table; with `--out` the folder, too, of what was done."""
    names, together = policy_names(options.policies), together_of(options)
    scenario = scenario_of(options) if together is None else checked(options, together)
    if options.replicas is not None and (is_study(options) or together is not None):
        raise UsageError("--replicas is of one run of one service: leave it out")
    if is_study(options):
        return 0 if show_study(options, scenario, (*names, *options.imports)) else INTERRUPTED
    if isinstance(scenario, Together):
        return run_together(options, scenario, names).code
    left, setting = leaving(options, scenario), fleet_of(options, setting_of(scenario, options.seed))
    names = (*names, *imported_names(options, setting))
    rows, is_whole = show(setting, names, reach_of(options), is_sized=options.replicas is not None)
    code = left.leave(setting, rows) if rows else 0
    return code if is_whole else INTERRUPTED


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """The fixed fleet beside the policies."""
    says = "of the fixed fleet, P of prefill and D of decoding where both are scaled; default: the fewest that hold"
    parser.add_argument("--replicas", metavar="N|P+D", help=says)


def fleet_of(options: argparse.Namespace, setting: Setting) -> Setting:
    """The setting with the fleet that was asked for."""
    return setting if options.replicas is None else of_size(setting, options.replicas)


def show(setting: Setting, names: Sequence[str], check: Check, *, is_sized: bool = False) -> tuple[list[Row], bool]:
    """Print each row as it comes and passes the check; the rows that were done, and whether those are all."""
    rows: list[Row] = []
    shown = _measures(setting)
    policy = Column("policy", max(map(len, (*names, "static-99"))), is_text=True)
    columns = (policy, *(measure.column for measure in shown))
    sys.stdout.write(f"{_known(setting)} requests in {setting.span_s / 3600:.1f} h\n")
    try:
        with screen(len(names) + 1, "static") as on:
            on.head(columns)

            def told(name: str, share: float) -> None:
                on.tell(name, len(rows) + share)

            for row in compare(setting, names, told, is_sized=is_sized):
                check(row)
                rows.append(row)
                on.row(columns, _cells(setting, row, shown))
    except KeyboardInterrupt:
        sys.stderr.write("warmtide sim: interrupted; what is above was done\n")
        return rows, False
    return rows, True


def _known(setting: Setting) -> str:
    """How many requests there are, as far as that is known before they are served."""
    more = "more than " if setting.more is not None else "up to " if setting.has_clients else ""
    return f"{more}{len(setting.requests):,}"


def _measures(setting: Setting) -> tuple[Measure, ...]:
    """Those that say something about this setting."""
    of_setting = measures_of([setting])
    return (replace(of_setting[0], heading=f"TTFT ≤ {setting.ttft_s:g} s", width=11), *of_setting[1:])


def _cells(setting: Setting, row: Row, shown: Sequence[Measure]) -> tuple[str, ...]:
    key = Key(scenario="", seed=setting.seed, policy=row.policy, eagerness_ratio=1.0)
    figures = figures_of(key, setting, row.outcome)
    return (row.policy, *(measure.of_run(figures, row.cost_ratio) for measure in shown))
