"""`warmtide sim compare`: policies side by side on the same requests, a row each as soon as it is done."""

import argparse
import sys
from collections.abc import Sequence

from simulations.commands.imported import add_import, imported_names
from simulations.commands.outputs import add_outputs, leaving
from simulations.commands.reach import Check, add_reach, reach_of
from simulations.commands.screen import Column, screen
from simulations.commands.setting import add_setting, policy_names, scenario_of, setting_of
from simulations.commands.study import add_study, is_study, show_study
from simulations.commands.together import (
    for_one_service,
    imported_for_all,
    settings_of,
    show_together,
    together_of,
)
from simulations.compare import Row, compare
from simulations.errors import INTERRUPTED
from simulations.policies import NAMES
from simulations.scenarios import Together
from simulations.world import Setting


def add(parser: argparse.ArgumentParser) -> None:
    """Policies, and what they are set to."""
    parser.add_argument("--policies", default=",".join(NAMES), metavar="A,B", help="default: all")
    add_import(parser)
    add_setting(parser)
    add_reach(parser)
    add_study(parser)
    add_outputs(parser)


def run(options: argparse.Namespace) -> int:
    """The table; with `--out` the folder, too, of what was done."""
    if (together := together_of(options)) is not None:
        return _run_together(options, together)
    names, scenario = policy_names(options.policies), scenario_of(options)
    if is_study(options):
        return 0 if show_study(options, scenario, (*names, *options.imports)) else INTERRUPTED
    left, setting = leaving(options, scenario), setting_of(scenario, options.seed)
    rows, is_whole = show(setting, (*names, *imported_names(options, setting)), reach_of(options))
    code = left.leave(setting, rows) if rows else 0
    return code if is_whole else INTERRUPTED


def _run_together(options: argparse.Namespace, together: Together) -> int:
    if is_study(options):
        raise for_one_service("--seeds, --also, --curve, --jobs and --engine", together)
    settings = settings_of(options, together)
    names = (*policy_names(options.policies), *imported_for_all(options, settings))
    _, is_whole = show_together(together, settings, names)
    return 0 if is_whole else INTERRUPTED


def show(setting: Setting, names: Sequence[str], check: Check) -> tuple[list[Row], bool]:
    """Print each row as it comes and passes the check; the rows that were done, and whether those are all."""
    rows: list[Row] = []
    columns = _columns(setting, names)
    more = "" if setting.more is None else "more than "
    sys.stdout.write(f"{more}{len(setting.requests):,} requests in {setting.span_s / 3600:.1f} h\n")
    try:
        with screen(len(names) + 1, "static") as on:
            on.head(columns)
            for row in compare(setting, names, lambda name, share: on.tell(name, len(rows) + share)):
                check(row)
                rows.append(row)
                on.row(columns, _values(row)[: len(columns)])
    except KeyboardInterrupt:
        sys.stderr.write("warmtide sim: interrupted; what is above was done\n")
        return rows, False
    return rows, True


def _columns(setting: Setting, names: Sequence[str]) -> tuple[Column, ...]:
    columns = (
        Column("policy", max(map(len, (*names, "static-99"))), is_text=True),
        Column(f"TTFT ≤ {setting.ttft_s:g} s", 11),
        Column("TTFT p95", 9),
        Column("GPU-hours", 9),
        Column("cost vs static", 14),
        Column("starts", 6),
    )
    on_nodes = (Column("lost", 6), Column("waited", 8), Column("nodes cost", 10))
    return columns + on_nodes if setting.nodes else columns


def _values(row: Row) -> tuple[str, ...]:
    """The last three where nodes are given: requests that went with them, replica-hours without one, what they cost."""
    outcome = row.outcome
    return (
        row.policy,
        f"{outcome.attainment_ratio:.2%}",
        f"{outcome.ttft_p95_s:.2f} s",
        f"{outcome.gpu_hours:.1f}",
        f"{row.cost_ratio:.2f}",
        str(outcome.starts),
        str(outcome.lost_requests),
        f"{outcome.waited_hours:.1f} h",
        f"${sum(use.cost for use in outcome.nodes):.2f}",
    )
