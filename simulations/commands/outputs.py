"""The options that say what is left behind, and the leaving: a folder, and budgets as an exit code."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulations.compare import Row
from simulations.outputs import (
    REPORT,
    Check,
    Page,
    PolicyRun,
    Prices,
    Shown,
    check_folder,
    gate,
    meta_of,
    prices_of,
    read_budgets,
    read_prices,
    render,
    summarise,
    watts_of,
    write_folder,
)
from simulations.scenarios import Scenario
from simulations.world import Setting

BUDGET_MISSED = 3  # as kserve-vllm-mini's gate: pipelines tell it from a failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """What is to be left behind; all that can be wrong with it is found before the work begins."""

    scenario: Scenario
    prices: Prices
    budgets: Mapping[str, float]
    out: Path | None
    may_replace: bool = False

    def leave(self, setting: Setting, rows: Sequence[Row]) -> int:
        """Write the folder, judge the policy that the page is about; 0, or 3 where it missed a budget."""
        runs = self.runs(setting, rows)
        page = self.page(setting, rows, runs)
        self.write(runs, lambda: render(page))
        return told(page.checks)

    def write(self, runs: Sequence[PolicyRun], rendered: Callable[[], str]) -> None:
        """The folder, of this service or of several."""
        if self.out is not None:
            write_folder(self.out, runs, rendered(), may_replace=self.may_replace)
            sys.stdout.write(f"written: {self.out / REPORT}\n")

    def runs(self, setting: Setting, rows: Sequence[Row], *, service: str = "") -> list[PolicyRun]:
        """Each policy's part of a folder."""
        watts = watts_of(self.scenario.profile)
        meta = meta_of(setting, source=self.scenario.name, profile=self.scenario.profile)
        return [
            PolicyRun(
                policy=row.policy.strip("/").replace("/", "_"),
                outcome=row.outcome,
                results=summarise(row.policy, row.outcome, setting, self.prices, watts),
                meta=meta,
                service=service,
            )
            for row in rows
        ]

    def page(self, setting: Setting, rows: Sequence[Row], runs: Sequence[PolicyRun]) -> Page:
        """What there is to show, with what became of the budgets."""
        shown = [
            Shown(number=number, policy=row.policy, outcome=row.outcome, cost_ratio=row.cost_ratio)
            for number, row in enumerate(rows, start=1)
        ]
        page = Page(source=self.scenario.name, profile=self.scenario.profile, setting=setting, shown=shown)
        judged = runs[page.focus.number - 1].results
        return replace(page, checks=gate(self.budgets, judged.results, judged.energy))


def told(checks: Sequence[Check], *, of: str = "") -> int:
    """Say what became of each budget; 0, or 3 where one was missed."""
    for check in checks:
        sys.stdout.write(f"{'kept' if check.holds else 'MISSED'}: {of}{check.line()}\n")
    return 0 if all(check.holds for check in checks) else BUDGET_MISSED


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Folder, prices, budgets."""
    group = parser.add_argument_group("what is left behind")
    group.add_argument("--out", type=Path, metavar="FOLDER", help="requests, course, decisions, report.html")
    group.add_argument("--force", action="store_true", help="replace what is in that folder")
    group.add_argument(
        "--cost", type=Path, metavar="cost.yaml", help="prices per GPU-hour, as kserve-vllm-mini has them"
    )
    group.add_argument(
        "--slo", type=Path, metavar="slo.json", help=f"budgets; exit code {BUDGET_MISSED} where one is missed"
    )


def leaving(options: argparse.Namespace, scenario: Scenario) -> Leaving:
    """From the options; OutputError where a file or the folder is not what it must be."""
    if options.out is not None:
        check_folder(options.out, may_replace=options.force)
    prices = prices_of(scenario.profile) if options.cost is None else read_prices(options.cost, scenario.profile)
    budgets = {} if options.slo is None else read_budgets(options.slo)
    return Leaving(scenario=scenario, prices=prices, budgets=budgets, out=options.out, may_replace=options.force)
