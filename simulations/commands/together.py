"""`warmtide sim run|compare` of several services on the same nodes: a row for each service, and one for all."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from simulations.commands.imported import imported_names
from simulations.commands.screen import Column, Screen, screen
from simulations.commands.setting import setting_of
from simulations.compare_together import SharedRow, compare_together
from simulations.errors import UsageError
from simulations.outputs import nodes_note
from simulations.scenarios import Together, load_any
from simulations.world import Outcome, Setting

# What belongs to one service, or to one run of one service.
_NOT_FOR_SEVERAL = (
    *("trace", "format", "lengths", "profile", "replicas_min", "replicas_max", "ttft", "cold_seconds", "warm_seconds"),
    *("caches", "out", "cost", "slo"),
)
ALL = "all"


def together_of(options: argparse.Namespace) -> Together | None:
    """The scenario, where it is one of several services."""
    if options.scenario is None:
        return None
    found = load_any(options.scenario)
    return found if isinstance(found, Together) else None


def settings_of(options: argparse.Namespace, together: Together) -> list[Setting]:
    """Of each service; UsageError where an option is given that is for one service."""
    given = [name for name in _NOT_FOR_SEVERAL if getattr(options, name, None) is not None]
    if given:
        raise for_one_service(f"--{given[0].replace('_', '-')}", together)
    return [setting_of(service, options.seed) for service in together.services]


def for_one_service(option: str, together: Together) -> UsageError:
    """What is said to who gives such an option."""
    return UsageError(f"{option}: for one service; {together.name} has {len(together.services)}, say it in its file")


def imported_for_all(options: argparse.Namespace, settings: Sequence[Setting]) -> tuple[str, ...]:
    """Objects of users among the policies, refused where one of the services cannot have them."""
    names: tuple[str, ...] = ()
    for setting in settings:
        names = imported_names(options, setting)
    return names


def show_together(
    together: Together, settings: Sequence[Setting], names: Sequence[str]
) -> tuple[list[SharedRow], bool]:
    """Print the rows of each policy as they come; what was done, and whether that is all."""
    span_s = max(setting.span_s for setting in settings)
    for service, setting in zip(together.services, settings, strict=True):
        sys.stdout.write(f"{service.name}: {len(setting.requests):,} requests, TTFT ≤ {setting.ttft_s:g} s\n")
    sys.stdout.write(f"{span_s / 3600:.1f} h on nodes: {', '.join(_nodes(settings[0]))}\n")
    columns = _columns(together, names)
    rows: list[SharedRow] = []
    try:
        with screen(len(names) + 1, "static") as on:
            on.head(columns)
            for row in compare_together(settings, names, lambda name, share: on.tell(name, len(rows) + share)):
                rows.append(row)
                _print(on, columns, together, row)
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


def _columns(together: Together, names: Sequence[str]) -> tuple[Column, ...]:
    static = len(together.services) * 3 + len("static-")
    return (
        Column("policy", max(static, *map(len, names)), is_text=True),
        Column("service", max(7, *(len(service.name) for service in together.services)), is_text=True),
        Column("TTFT in time", 12),
        Column("TTFT p95", 9),
        Column("GPU-hours", 9),
        Column("vs static", 9),
        Column("starts", 6),
        Column("lost", 6),
        Column("waited", 8),
    )


def _print(on: Screen, columns: Sequence[Column], together: Together, row: SharedRow) -> None:
    """Services, all of them, and what the nodes came to; `waited`: replica-hours without a node."""
    outcomes = row.shared.outcomes
    for number, (service, outcome) in enumerate(zip(together.services, outcomes, strict=True)):
        policy = row.policy if number == 0 else ""
        on.row(columns, (policy, service.name, *_values(outcome, row.cost_ratio(number))))
    on.row(
        columns,
        (
            *("", ALL, f"{row.shared.attainment_ratio:.2%}", ""),
            *(f"{row.shared.gpu_hours:.1f}", f"{row.cost_ratio(None):.2f}"),
            *(str(sum(one.starts for one in outcomes)), str(sum(one.lost_requests for one in outcomes))),
            f"{sum(one.waited_hours for one in outcomes):.1f} h",
        ),
    )
    for use in row.shared.nodes:
        on.line(f"{'':{columns[0].width}}  {nodes_note(use)}")


def _values(outcome: Outcome, cost_ratio: float) -> tuple[str, ...]:
    return (
        f"{outcome.attainment_ratio:.2%}",
        f"{outcome.ttft_p95_s:.2f} s",
        f"{outcome.gpu_hours:.1f}",
        f"{cost_ratio:.2f}",
        str(outcome.starts),
        str(outcome.lost_requests),
        f"{outcome.waited_hours:.1f} h",
    )
