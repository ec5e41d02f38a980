"""`warmtide sim run|compare` of several services on the same nodes: a row for each service, and one for all."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simulations.commands.imported import imported_names
from simulations.commands.outputs import Leaving, leaving, told
from simulations.commands.screen import Column, Screen, screen
from simulations.commands.setting import setting_of
from simulations.commands.table import ALL, Measure, measures_of
from simulations.compare import Row
from simulations.compare_together import SharedRow, compare_together
from simulations.errors import INTERRUPTED, UsageError
from simulations.outputs import ServicesPage, Shown, nodes_note, render_services
from simulations.scenarios import Together, load_any
from simulations.study import Figures, Key, figures_of_all
from simulations.world import Setting

# What belongs to one service: the file says it of each.
_OF_ONE = (
    *("trace", "format", "lengths", "profile", "replicas_min", "replicas_max", "ttft", "cold_seconds", "warm_seconds"),
    "caches",
)


def together_of(options: argparse.Namespace) -> Together | None:
    """The scenario, where it is one of several services."""
    if options.scenario is None:
        return None
    found = load_any(options.scenario)
    return found if isinstance(found, Together) else None


def checked(options: argparse.Namespace, together: Together) -> Together:
    """The same; UsageError where an option is given that is for one service."""
    for name in _OF_ONE:
        if getattr(options, name, None) is not None:
            option = f"--{name.replace('_', '-')}"
            count = len(together.services)
            raise UsageError(f"{option}: for one service; {together.name} has {count}, say it in its file")
    return together


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What was done, and the command's exit code."""

    rows: Sequence[SharedRow]
    code: int

    @property
    def is_whole(self) -> bool:
        """Whether nobody interrupted it."""
        return self.code != INTERRUPTED


def run_together(options: argparse.Namespace, together: Together, names: Sequence[str]) -> Ran:
    """The table, with `--out` the folder, with `--slo` the verdict."""
    left = [leaving(options, service) for service in together.services]
    settings = {service.name: setting_of(service, options.seed) for service in together.services}
    rows, is_whole = _show(settings, (*names, *_imported(options, settings)))
    code = _leave(together, left, settings, rows) if rows else 0
    return Ran(rows=rows, code=code if is_whole else INTERRUPTED)


def _imported(options: argparse.Namespace, settings: Mapping[str, Setting]) -> tuple[str, ...]:
    """Objects of users among the policies, refused where one of the services cannot have them."""
    return [imported_names(options, setting) for setting in settings.values()][-1]


def _show(settings: Mapping[str, Setting], names: Sequence[str]) -> tuple[list[SharedRow], bool]:
    """Print the rows of each policy as they come; what was done, and whether that is all."""
    given = list(settings.values())
    for name, setting in settings.items():
        sys.stdout.write(f"{name}: {len(setting.requests):,} requests, TTFT ≤ {setting.ttft_s:g} s\n")
    span_s = max(setting.span_s for setting in given)
    sys.stdout.write(f"{span_s / 3600:.1f} h on nodes: {', '.join(_nodes(given[0]))}\n")
    columns = _columns(settings, names)
    rows: list[SharedRow] = []
    try:
        with screen(len(names) + 1, "static") as on:
            on.head(columns)
            for row in compare_together(given, names, lambda name, share: on.tell(name, len(rows) + share)):
                rows.append(row)
                _print(on, columns, settings, row)
    except KeyboardInterrupt:
        sys.stderr.write("warmtide sim: interrupted; what is above was done\n")
        return rows, False
    return rows, True


def _nodes(setting: Setting) -> Iterator[str]:
    for group in setting.nodes:
        count = f"{group.low} to {group.high}" if group.is_elastic else str(group.high)
        yield f"{count} {group.name} of {group.gpus} GPU{'s' if group.gpus > 1 else ''}"
    if setting.budget_gpus is not None:
        yield f"a quota of {setting.budget_gpus} GPUs"


def _columns(settings: Mapping[str, Setting], names: Sequence[str]) -> tuple[Column, ...]:
    static = len(settings) * 3 + len("static-")
    return (
        Column("policy", max(static, *map(len, names)), is_text=True),
        Column("service", max(7, *map(len, settings)), is_text=True),
        *(measure.column for measure in measures_of(settings.values())),
    )


def _print(on: Screen, columns: Sequence[Column], settings: Mapping[str, Setting], row: SharedRow) -> None:
    """Services, all of them, and what each group of nodes came to."""
    seed = next(iter(settings.values())).seed
    key = Key(scenario="", seed=seed, policy=row.policy, eagerness_ratio=1.0)
    found, shown = figures_of_all(key, settings, row.shared), measures_of(settings.values())
    for number, figures in enumerate(found.services):
        policy = row.policy if number == 0 else ""
        on.row(columns, (policy, figures.key.service, *_cells(shown, figures, row.cost_ratio(number))))
    on.row(columns, ("", ALL, *_cells(shown, found, row.cost_ratio(None))))
    for use in row.shared.nodes:
        on.line(f"{'':{columns[0].width}}  {nodes_note(use)}")


def _cells(shown: Sequence[Measure], figures: Figures, cost_ratio: float) -> Iterator[str]:
    return (measure.of_run(figures, cost_ratio) for measure in shown)


def _leave(
    together: Together, left: Sequence[Leaving], settings: Mapping[str, Setting], rows: Sequence[SharedRow]
) -> int:
    """One folder and one page for all; each service has budgets of its own. 0, or 3 where one missed one."""
    runs, pages = [], []
    for number, (leaves, (name, setting)) in enumerate(zip(left, settings.items(), strict=True)):
        of_service = [
            Row(policy=row.policy, outcome=row.shared.outcomes[number], cost_ratio=row.cost_ratio(number))
            for row in rows
        ]
        own = leaves.runs(setting, of_service, service=name)
        pages.append(leaves.page(setting, of_service, own))
        runs += own
    shown = [
        Shown(number=number, policy=row.policy, outcome=row.shared, cost_ratio=row.cost_ratio(None))
        for number, row in enumerate(rows, start=1)
    ]
    page = ServicesPage(source=together.name, shown=shown, services=pages)
    left[0].write(runs, lambda: render_services(page))
    return max(told(page.checks, of=f"{page.source}: ") for page in pages)
