"""`warmtide sim replay`: what a policy would have done with the past of a service, beside what was done."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from autoscaler.timestamps import unix_s
from metrics.clock import WallClock
from metrics.errors import HistoryError
from metrics.prometheus import History as Prometheus
from metrics.prometheus import HistoryConfig
from simulations.commands.files import check_file, write_file
from simulations.commands.screen import Column, Screen, screen
from simulations.commands.setting import add_setting, policy_names, scenario_of, setting_of
from simulations.errors import INTERRUPTED, ReplayError, UsageError
from simulations.imports.choose import chosen
from simulations.policies import NAMES, Bounds
from simulations.replays import Change, Course, Drawn, History, Past, Service, read_decisions, read_past
from simulations.traces.chunk import Longs
from simulations.world import Outcome, Setting, simulate
from simulations.world.starts.startup import StartupTimes

HOURS_DEFAULT, STEP_DEFAULT_S = 24.0, 60.0
STEPS_MAX = 100_000  # ten weeks of minutes
ROWS = 24  # of the course
AT_ONCE = StartupTimes(cold_s=1e-3, warm_s=1e-3, hot_s=1e-3, log_deviation=0.0)  # what was ready then is ready then
COLUMNS = (
    Column("", 24, is_text=True),
    Column("TTFT in time", 12),
    Column("TTFT p95", 9),
    Column("replica-hours", 13),
    Column("changes", 7),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the past: when it began, who did what, and how it went where that was measured."""

    says: str
    begin_s: float | None  # Unix time; None: a trace, whose clock is its own
    course: Course | None
    measured_ratio: float | None = None


def add(parser: argparse.ArgumentParser) -> None:
    """Where the past is kept, which part of it, and who is asked what they would have done."""
    past = parser.add_argument_group("the past")
    past.add_argument("--prometheus", metavar="URL", help="a Prometheus that scraped the service")
    past.add_argument("--token-file", type=Path, metavar="FILE", help="bearer token for it")
    past.add_argument("--ca-file", type=Path, metavar="FILE", help="CA of its certificate (default: the system's)")
    past.add_argument("--namespace", metavar="NAME", help="of the service")
    past.add_argument("--pods", metavar="REGEX", help="names of its pods, such as 'llama-predictor-.*'")
    past.add_argument("--hours", type=float, default=HOURS_DEFAULT, metavar="N", help="so far back (default 24)")
    past.add_argument("--end", metavar="TIME", help="such as 2026-11-21T10:00:00Z (default: now)")
    past.add_argument("--step", type=float, default=STEP_DEFAULT_S, metavar="SECONDS", help="default 60")
    past.add_argument(
        "--decisions", type=Path, metavar="FILE", help="a controller's log (UTC), or kubectl get scaledservice -o json"
    )
    past.add_argument("--begin", metavar="TIME", help="when the trace began (default: with the first decision)")
    past.add_argument("--service", metavar="NAMESPACE/NAME", help="whose decisions, where FILE has several")
    parser.add_argument("--policies", default="warmtide", metavar="A,B", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the whole course there")
    add_setting(parser)


def run(options: argparse.Namespace) -> int:
    """Read, simulate what was and what would have been, print them side by side."""
    names = policy_names(options.policies)
    check_file(options.csv)
    history = _history(options) if options.prometheus else None
    scenario = scenario_of(options)
    if history is not None:
        scenario = replace(scenario, name="the past", says="", traffic=Drawn(history=history))
    elif options.decisions is None:
        raise UsageError("give --prometheus URL, or --decisions FILE with the --trace that was served")
    setting = _over(setting_of(scenario, options.seed), history)
    known = _known(options, history)
    if options.replicas_max is None and known.course is not None:
        bounds = Bounds(low=setting.bounds.low, high=max(setting.bounds.high, known.course.most))
        setting = replace(setting, bounds=bounds)
    begun = setting.bounds.clamp(known.course.at(0.0)) if known.course else setting.bounds.low
    setting = replace(setting, replicas_at_start=begun)
    sys.stdout.write(f"{known.says}\nsimulated on {scenario.profile}: {_counts(setting, 1)[0]:,} requests\n\n")
    return _beside(options, setting, known, names)


def _beside(options: argparse.Namespace, setting: Setting, known: Known, names: Sequence[str]) -> int:
    outcomes: dict[str, Outcome] = {}
    try:
        with screen(len(names) + 1, "as it was") as on:
            on.head(COLUMNS)
            if known.course is not None:
                _tell_past(on, setting, known, known.course, outcomes)
            for name in names:
                on.tell(name, len(outcomes))
                outcomes[name] = simulate(setting, chosen(name, setting))
                on.row(COLUMNS, _values(f"{name}, simulated", outcomes[name], setting))
    except KeyboardInterrupt:
        sys.stderr.write("warmtide sim: interrupted; what is above was done\n")
        return INTERRUPTED
    courses = {name: _course(outcome) for name, outcome in outcomes.items()}
    _print_course(setting, known, courses)
    if options.csv is not None:
        _write(options.csv, options.step, setting, courses)
    return 0


def _tell_past(on: Screen, setting: Setting, known: Known, course: Course, outcomes: dict[str, Outcome]) -> None:
    """What was measured, and what the engine makes of the same replicas: as far as they agree it is to be trusted."""
    hours = f"{course.replica_hours(0.0, setting.span_s):.1f}"
    if known.measured_ratio is not None:
        on.row(COLUMNS, ("as it was, measured", f"{known.measured_ratio:.2%}", "", hours, ""))
    past = replace(setting, startup=AT_ONCE)
    outcomes["as it was"] = simulate(past, Past(course=course, bounds=setting.bounds))
    on.row(COLUMNS, _values("as it was, simulated", outcomes["as it was"], setting))


def _values(name: str, outcome: Outcome, setting: Setting) -> tuple[str, ...]:
    hours = _course(outcome).replica_hours(0.0, setting.span_s)
    changes = str(len(outcome.changes) - 1)
    return (name, f"{outcome.attainment_ratio:.2%}", f"{outcome.ttft_p95_s:.2f} s", f"{hours:.1f}", changes)


def _course(outcome: Outcome) -> Course:
    return Course(changes=tuple(Change(at_s=at_s, replicas=replicas) for at_s, replicas in outcome.changes))


def _print_course(setting: Setting, known: Known, courses: dict[str, Course]) -> None:
    """Mean replicas over time."""
    step_s = setting.span_s / ROWS
    counts = _counts(setting, ROWS)
    columns = [
        Column("from", 16, is_text=True),
        Column("requests/s", 10),
        *(Column(n, max(9, len(n))) for n in courses),
    ]
    lines = [[column.heading for column in columns]]
    for row in range(ROWS):
        begin_s = row * step_s
        means = [course.replica_hours(begin_s, begin_s + step_s) * 3600 / step_s for course in courses.values()]
        values = [_when(known, begin_s), f"{counts[row] / step_s:.2f}", *(f"{mean:.1f}" for mean in means)]
        lines.append(values)
    sys.stdout.write("\nreplicas wanted, mean\n")
    for line in lines:
        text = "  ".join(column.place(value) for column, value in zip(columns, line, strict=True))
        sys.stdout.write(text.rstrip() + "\n")


def _counts(setting: Setting, bins: int) -> Longs:
    """Requests in equal parts of the span."""
    counts = np.zeros(bins, np.int64)
    for part in (setting.requests, *(() if setting.more is None else setting.more())):
        counts += np.histogram(part["arrived_at_s"], bins=bins, range=(0.0, setting.span_s))[0]
    return counts


def _when(known: Known, at_s: float) -> str:
    if known.begin_s is None:
        return f"{at_s / 60:.0f} min"
    return f"{datetime.fromtimestamp(known.begin_s + at_s, UTC):%Y-%m-%d %H:%M}"


def _write(path: Path, step_s: float, setting: Setting, courses: dict[str, Course]) -> None:
    steps = max(1, round(setting.span_s / step_s))
    counts = _counts(setting, steps)
    rows = [",".join(("at_s", "requests_per_s", *courses))]
    for at_s, count in zip((np.arange(steps) * step_s).tolist(), counts.tolist(), strict=True):
        rows.append(",".join(map(str, (at_s, round(count / step_s, 4), *(one.at(at_s) for one in courses.values())))))
    write_file(path, "\n".join(rows) + "\n")
    sys.stdout.write(f"written: {path}\n")


def _over(setting: Setting, history: History | None) -> Setting:
    """What is paid for is the whole past, also after its last request."""
    return setting if history is None else replace(setting, ends_at_s=history.span_s)


def _known(options: argparse.Namespace, history: History | None) -> Known:
    course = None if history is None else history.replicas
    begin_s = None if history is None else history.begin_s
    says = "" if history is None else _told(options, history)
    if options.decisions is not None:
        service, decided = read_decisions(options.decisions, options.service)
        if begin_s is None:
            begin_s = decided.changes[1].at_s if options.begin is None else _unix_s("--begin", options.begin)
        course = Course(changes=tuple(replace(one, at_s=one.at_s - begin_s) for one in decided.changes))
        reasons = ", ".join(sorted({one.reason for one in decided.changes[1:]}))
        says += f"{len(decided.changes) - 1} decisions of {service}: {reasons}"
    measured = None if history is None else history.ttft_ratio
    return Known(says=says.rstrip("\n"), begin_s=begin_s, course=course, measured_ratio=measured)


def _told(options: argparse.Namespace, history: History) -> str:
    begin, end = (datetime.fromtimestamp(at_s, UTC) for at_s in (history.begin_s, history.begin_s + history.span_s))
    unknown = f"; {history.unknown_steps} of {len(history.requests_per_s)} steps without data: as their neighbours"
    return (
        f"{options.namespace}/{options.pods}, {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: "
        f"{history.requests_per_s.mean():.2f} requests/s"
        f"{unknown if history.unknown_steps else ''}\n"
    )


def _history(options: argparse.Namespace) -> History:
    if not options.namespace or not options.pods:
        raise UsageError("--prometheus needs --namespace NAME and --pods REGEX")
    if options.trace is not None:
        raise UsageError("--prometheus brings its own traffic: leave out --trace")
    if not options.step > 0 or not 1 <= options.hours * 3600 / options.step <= STEPS_MAX:
        given = f"--hours {options.hours:g} and --step {options.step:g}"
        raise UsageError(f"{given} must give 1 to {STEPS_MAX:,} steps")
    end_s = WallClock().now_s() if options.end is None else _unix_s("--end", options.end)
    try:
        config = HistoryConfig(url=options.prometheus, bearer_token_file=options.token_file, ca_file=options.ca_file)
        return asyncio.run(_ask(options, Prometheus(config), end_s))
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    except HistoryError as exc:
        raise ReplayError(str(exc)) from exc


def _unix_s(option: str, text: str) -> float:
    at_s = unix_s(text)
    if at_s is None:
        raise UsageError(f"{option} must be a time such as 2026-11-21T10:00:00Z, got {text!r}")
    return at_s


async def _ask(options: argparse.Namespace, source: Prometheus, end_s: float) -> History:
    ttft_s = scenario_of(options).ttft_s
    with screen(5, "asking") as on:
        asked: list[str] = []

        def tell(name: str) -> None:
            asked.append(name)
            on.tell(name, len(asked))

        return await read_past(
            source,
            Service(namespace=options.namespace, pods=options.pods),
            begin_s=end_s - options.hours * 3600,
            end_s=end_s,
            step_s=options.step,
            ttft_s=ttft_s,
            tell=tell,
        )
