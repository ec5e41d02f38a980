"""`warmtide sim compare`: policies side by side on the same requests, a row each as soon as it is done."""

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np

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
    table = _table(setting, names)
    columns = [column for column, _ in table]
    sys.stdout.write(f"{_known(setting)} requests in {setting.span_s / 3600:.1f} h\n")
    try:
        with screen(len(names) + 1, "static") as on:
            on.head(columns)
            for row in compare(setting, names, lambda name, share: on.tell(name, len(rows) + share)):
                check(row)
                rows.append(row)
                on.row(columns, [value(row) for _, value in table])
    except KeyboardInterrupt:
        sys.stderr.write("warmtide sim: interrupted; what is above was done\n")
        return rows, False
    return rows, True


def _known(setting: Setting) -> str:
    """How many requests there are, as far as that is known before they are served."""
    more = "more than " if setting.more is not None else "up to " if _some_wait(setting) else ""
    return f"{more}{len(setting.requests):,}"


def _some_wait(setting: Setting) -> bool:
    """Whether some come only when others were answered: how many do so is up to the policy."""
    return bool(np.isinf(setting.requests["arrived_at_s"]).any())


def _table(setting: Setting, names: Sequence[str]) -> list[tuple[Column, Callable[[Row], str]]]:
    """Columns, and what a row has there; those that say nothing about this setting are missing."""
    table: list[tuple[Column, Callable[[Row], str]]] = [
        (Column("policy", max(map(len, (*names, "static-99"))), is_text=True), lambda row: row.policy),
        (Column(f"TTFT ≤ {setting.ttft_s:g} s", 11), lambda row: f"{row.outcome.attainment_ratio:.2%}"),
        (Column("TTFT p95", 9), lambda row: f"{row.outcome.ttft_p95_s:.2f} s"),
        (Column("GPU-hours", 9), lambda row: f"{row.outcome.gpu_hours:.1f}"),
        (Column("cost vs static", 14), lambda row: f"{row.cost_ratio:.2f}"),
        (Column("starts", 6), lambda row: str(row.outcome.starts)),
    ]
    if _some_wait(setting):
        table.append((Column("requests", 9), lambda row: f"{len(row.outcome.requests):,}"))
    if setting.config.caches_prefixes:  # of the prompt tokens, those that a replica had
        table.append((Column("from cache", 10), lambda row: f"{row.outcome.prefix_hit_ratio or 0.0:.1%}"))
    if setting.nodes:  # requests that went with them, replica-hours without one, what they cost
        table += [
            (Column("lost", 6), lambda row: str(row.outcome.lost_requests)),
            (Column("waited", 8), lambda row: f"{row.outcome.waited_hours:.1f} h"),
            (Column("nodes cost", 10), lambda row: f"${sum(use.cost for use in row.outcome.nodes):.2f}"),
        ]
    return table
