"""`warmtide sim run | compare`: policies on recorded or generated traffic, offline."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from simulations.compare import Row, Telling, compare
from simulations.compiled.fleet import request_records
from simulations.compiled.layout import Records
from simulations.errors import TraceError
from simulations.policies import NAMES, Bounds
from simulations.replica import PROFILES, EngineConfig
from simulations.scenarios import SCENARIOS, Scenario
from simulations.trace import read_azure
from simulations.world import Setting
from simulations.world_startup import StartupTimes

RowsOf = Callable[[Setting, Sequence[str], Telling], Iterator[Row]]

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
SEED_DEFAULT = 1
TTFT_DEFAULT_S = 2.0
# vLLM refuses what is longer; the profile's KV cache holds it.
CONFIG = EngineConfig(caches_prefixes=False, num_gpu_blocks=12_000, max_model_len_tokens=32_768)
TRACE_PROFILE = "llama-3.1-8b-l40s"
TRACE_REPLICAS_MAX = 16


def main(arguments: Sequence[str], rows_of: RowsOf = compare) -> int:
    """0: done. 2: called wrongly or a bad trace. 130: interrupted; the rows that were done stand on screen."""
    options = _parser().parse_args(arguments)
    try:
        names = _names(options.policies if options.command == "compare" else options.policy)
        setting, refused = _setting(options)
    except (ValueError, TraceError) as exc:
        sys.stderr.write(f"warmtide sim: {exc}\n")
        return 2
    if refused:
        sys.stderr.write(f"warmtide sim: {refused} requests left out: empty, or longer than max_model_len\n")
    rows: list[Row] = []
    try:
        _fill(rows, setting, names, rows_of)
    except KeyboardInterrupt:
        _print(rows, setting)
        sys.stderr.write("warmtide sim: interrupted; what is above was done\n")
        return INTERRUPTED
    _print(rows, setting)
    if options.command == "run":
        for at_s, replicas in rows[-1].outcome.changes:
            sys.stdout.write(f"{at_s:.0f} s: {replicas} replicas\n")
    return 0


def _fill(rows: list[Row], setting: Setting, names: Sequence[str], rows_of: RowsOf) -> None:
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("static", total=len(names) + 1)

        def tell(name: str, share: float) -> None:
            bar.update(task, description=name, completed=len(rows) + share)

        for row in rows_of(setting, names, tell):
            rows.append(row)
            tell(row.policy, 0.0)


def _print(rows: Sequence[Row], setting: Setting) -> None:
    table = Table(title=f"{len(setting.requests):,} requests in {setting.span_s / 3600:.1f} h", title_justify="left")
    table.add_column("policy")
    for name in (f"TTFT ≤ {setting.ttft_s:g} s", "TTFT p95", "GPU-hours", "cost vs static", "starts"):
        table.add_column(name, justify="right")
    for row in rows:
        outcome = row.outcome
        table.add_row(
            row.policy,
            f"{outcome.attainment_ratio:.2%}",
            f"{outcome.ttft_p95_s:.2f} s",
            f"{outcome.gpu_hours:.1f}",
            f"{row.cost_ratio:.2f}",
            str(outcome.starts),
        )
    Console().print(table)


def _names(given: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ValueError(f"no policy named {', '.join(unknown) or repr(given)}; there are: {', '.join(NAMES)}")
    return names


def _setting(options: argparse.Namespace) -> tuple[Setting, int]:
    scenario: Scenario = SCENARIOS[options.scenario]
    if options.trace is None:
        requests, profile, replicas_max = scenario.make(options.seed), scenario.profile, scenario.replicas_max
    else:
        requests, profile, replicas_max = request_records(read_azure(options.trace)), TRACE_PROFILE, TRACE_REPLICAS_MAX
    requests, refused = _servable(requests)
    bounds = Bounds(
        low=options.replicas_min, high=replicas_max if options.replicas_max is None else options.replicas_max
    )
    setting = Setting(
        requests=requests,
        config=CONFIG,
        times=PROFILES[options.profile or profile],
        bounds=bounds,
        replicas_at_start=bounds.low,
        startup=StartupTimes(cold_s=options.cold_seconds, warm_s=options.warm_seconds),
        ttft_s=options.ttft,
        seed=options.seed,
    )
    return setting, refused


def _servable(requests: Records) -> tuple[Records, int]:
    """Without those that a server would refuse, and how many these are."""
    total_tokens = requests["prompt_tokens"] + requests["output_tokens"]
    fits = (requests["prompt_tokens"] > 0) & (requests["output_tokens"] > 0)
    fits &= total_tokens <= CONFIG.max_model_len_tokens
    return requests[fits], int(len(requests) - fits.sum())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide sim", description="What a policy would have done on this traffic, offline and in seconds."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="one policy beside the static fleet, with every change of its number")
    run.add_argument("--policy", default="warmtide", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    beside = commands.add_parser("compare", help="policies side by side: attainment, latency, GPU-hours")
    beside.add_argument("--policies", default=",".join(NAMES), metavar="A,B", help="default: all")
    for command in (run, beside):
        _add_setting(command)
    return parser


def _add_setting(command: argparse.ArgumentParser) -> None:
    told = "; ".join(f"{scenario.name}: {scenario.says}" for scenario in SCENARIOS.values())
    times = StartupTimes()
    source = command.add_mutually_exclusive_group()
    source.add_argument("--trace", type=Path, metavar="FILE", help="an Azure LLM inference trace (CSV)")
    source.add_argument("--scenario", choices=SCENARIOS, default="chat-hour", help=told)
    command.add_argument("--profile", choices=PROFILES, help="model and GPU; the default is the scenario's")
    command.add_argument("--replicas-min", type=int, default=1, metavar="N")
    command.add_argument("--replicas-max", type=int, metavar="N")
    command.add_argument("--ttft", type=float, default=TTFT_DEFAULT_S, metavar="SECONDS", help="the objective")
    command.add_argument(
        "--cold-seconds", type=float, default=times.cold_s, metavar="SECONDS", help="median start-up, weights to come"
    )
    command.add_argument(
        "--warm-seconds", type=float, default=times.warm_s, metavar="SECONDS", help="median, weights on the node"
    )
    command.add_argument("--seed", type=int, default=SEED_DEFAULT, metavar="N", help="of traffic and start-ups")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
