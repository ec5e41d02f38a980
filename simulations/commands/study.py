"""Comparisons over seeds, scenarios and eagerness: the options, and the table with its intervals."""

import argparse
import itertools
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from simulations.commands.counts import count
from simulations.commands.screen import Column, screen
from simulations.commands.table import ALL, measures
from simulations.errors import UsageError
from simulations.outputs import REPORT, check_folder, filling
from simulations.outputs.study import render_study
from simulations.scenarios import Scenario, Together, load_any
from simulations.study import STATIC, Comparison, Engine, Figures, Trial, carry_out_all, compared

EAGERNESS = (0.6, 0.8, 1.0, 1.25, 1.6, 2.0)  # of the curves: from two thirds more load per replica to half of it
ATTAINMENT_RATIO = 0.99  # at which costs are compared
JOBS_MAX = 64


def add_study(parser: argparse.ArgumentParser) -> None:
    """More than one run of each policy."""
    group = parser.add_argument_group("more than one run: paired over seeds, with 95 % intervals")
    group.add_argument("--seeds", type=count, default=1, metavar="N", help="so many, from --seed on")
    group.add_argument("--also", action="append", default=[], metavar="NAME|FILE", help="one more scenario")
    group.add_argument(
        "--curve", action="store_true", help=f"each policy less and more eager: its cost at {ATTAINMENT_RATIO:.0%}%"
    )
    group.add_argument("--jobs", type=count, default=1, metavar="N", help=f"processes; here: {os.cpu_count()} cores")
    group.add_argument("--engine", type=Engine, choices=list(Engine), default=Engine.PROCESS, help="ray: on a cluster")


def is_study(options: argparse.Namespace) -> bool:
    """Whether more than a plain comparison was asked for."""
    return options.seeds > 1 or options.jobs > 1 or options.curve or options.also or options.engine is Engine.RAY


def show_study(options: argparse.Namespace, scenario: Scenario | Together, names: Sequence[str]) -> bool:
    """Run it and print the table; False where it was interrupted, with what was done by then."""
    if options.slo is not None:
        raise UsageError("--slo judges one run: leave out --seeds, --also, --curve and --jobs")
    if options.out is not None:
        check_folder(options.out, may_replace=options.force)
    trials = _trials(options, [scenario, *map(load_any, options.also)], names)
    found, is_whole = _carried_out(options, trials)
    if not found:  # it was interrupted before there was anything to compare
        return is_whole
    lines = compared(found, STATIC)
    _print(lines, has_curve=options.curve)
    if options.out is not None:
        with filling(options.out, may_replace=options.force) as folder:
            _write(folder, found, lines)
            page = render_study(lines, ATTAINMENT_RATIO if options.curve else None)
            (folder / REPORT).write_text(page, encoding="utf-8")
        sys.stdout.write(f"written: {options.out / REPORT}; comparison.json and runs.jsonl beside it\n")
    return is_whole


def _trials(options: argparse.Namespace, scenarios: Sequence[Scenario | Together], names: Sequence[str]) -> list[Trial]:
    """Traffic by traffic, the fixed fleet first, so that an interrupt leaves whole comparisons."""
    seeds = range(options.seed, options.seed + options.seeds)
    eagerness = EAGERNESS if options.curve else (1.0,)
    return [
        Trial(scenario=scenario, seed=seed, policy=policy, eagerness_ratio=ratio)
        for seed, scenario, policy, ratio in itertools.product(seeds, scenarios, (STATIC, *names), eagerness)
    ]


def _carried_out(options: argparse.Namespace, trials: Sequence[Trial]) -> tuple[list[Figures], bool]:
    found: list[Figures] = []
    is_whole = True
    try:
        with screen(len(trials), f"{len(trials)} runs") as on:
            for figures in carry_out_all(trials, jobs=min(options.jobs, JOBS_MAX), engine=options.engine):
                found.append(figures)
                on.tell(f"{len(found)} of {len(trials)} runs", len(found))
    except KeyboardInterrupt:
        sys.stderr.write(f"warmtide sim: interrupted after {len(found)} of {len(trials)} runs\n")
        found, is_whole = _whole_seeds(found), False
    order = {trial.key: number for number, trial in enumerate(trials)}
    return sorted(found, key=lambda one: order[one.key]), is_whole


def _whole_seeds(found: Sequence[Figures]) -> list[Figures]:
    """Those whose fixed fleet is there, too, and of policies that were run as they are: others cannot be compared."""
    plain = [one.key for one in found if one.key.is_plain]
    fixed = {(key.scenario, key.seed) for key in plain if key.policy == STATIC}
    policies = {(key.scenario, key.policy) for key in plain if (key.scenario, key.seed) in fixed}
    return [
        one
        for one in found
        if (one.key.scenario, one.key.seed) in fixed and (one.key.scenario, one.key.policy) in policies
    ]


def _print(lines: Sequence[Comparison], *, has_curve: bool) -> None:
    """Scenario, service where there are several, policy, and what is told of any of the lines."""
    shown = measures(
        has_clients=any(line.requests is not None for line in lines),
        has_prefixes=any(line.prefix_hit_ratio is not None for line in lines),
        has_nodes=any(line.lost_requests is not None for line in lines),
        has_pools=any(line.prefill_gpu_hours is not None for line in lines),
        has_paces=any(line.tpot_p95_s is not None for line in lines),
    )
    table: list[tuple[str, bool, Sequence[str]]] = [("scenario", True, [line.scenario for line in lines])]
    if any(line.service for line in lines):
        table.append(("service", True, [line.service or ALL for line in lines]))
    table.append(("policy", True, [line.policy for line in lines]))
    table += [(measure.heading, False, [measure.of_line(line) for line in lines]) for measure in shown]
    if has_curve:
        table.append((f"cost at {ATTAINMENT_RATIO:.0%}", False, [_at_equal(line) for line in lines]))
    columns = [Column(head, max(map(len, (head, *cells))), is_text=is_text) for head, is_text, cells in table]
    for row in zip(*((head, *cells) for head, _, cells in table), strict=True):
        text = "  ".join(column.place(value) for column, value in zip(columns, row, strict=True))
        sys.stdout.write(text.rstrip() + "\n")


def _at_equal(line: Comparison) -> str:
    cost = line.curve.at(ATTAINMENT_RATIO)
    return f"{cost:.2f}" if math.isfinite(cost) else "not reached"


def _write(path: Path, found: Sequence[Figures], lines: Sequence[Comparison]) -> None:
    """Every run, and the comparison."""
    runs = (_run(one) for whole in found for one in (*whole.services, whole))
    (path / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs), encoding="utf-8")
    text = json.dumps([asdict(line, dict_factory=_known) for line in lines], indent=2, allow_nan=False)
    (path / "comparison.json").write_text(text + "\n", encoding="utf-8")


def _run(figures: Figures) -> dict[str, object]:
    values = {name: value for name, value in asdict(figures).items() if name not in ("key", "services")}
    return asdict(figures.key) | _known(list(values.items()))


def _known(fields: Sequence[tuple[str, object]]) -> dict[str, object]:
    """As JSON: an end of an interval that nobody knows is null."""
    return {name: None if isinstance(value, float) and math.isinf(value) else value for name, value in fields}
