"""`warmtide sim calibrate`: what a real server did, as a profile that simulates it."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from metrics.clock import WallClock
from metrics.errors import HistoryError
from metrics.prometheus import History, HistoryConfig
from simulations.calibration import (
    Coverage,
    Errors,
    Fit,
    Limits,
    MachineProfile,
    MeasuredRun,
    by_regime,
    coverage_of_run,
    engine_config,
    errors,
    fit,
    fit_stretches,
    fitted_part,
    outstanding,
    profile_text,
    read_runs,
    replay,
)
from simulations.calibration.history import busiest, read_stretches
from simulations.calibration.series import Stretch
from simulations.commands.counts import count
from simulations.commands.files import check_file, write_file
from simulations.errors import UsageError
from simulations.kv_size import BLOCK_SIZE_TOKENS, kv_size
from simulations.replica import EngineConfig

# Limits of the server, by the names of vLLM's own flags where it has one.
LIMIT_OPTIONS = {
    "max_num_seqs": "--max-num-seqs",
    "max_num_batched_tokens": "--max-num-batched-tokens",
    "num_gpu_blocks": "--num-gpu-blocks",
    "block_size_tokens": "--block-size",
}
SERIES_STEP_S = 60.0  # four scrapes of 15 s
SERIES_HOURS = 24.0
WORDS = {
    "base_s": "base",
    "prefill_token_s": "per prefill token",
    "decode_sequence_s": "per decoding request",
    "kv_token_s": "per KV token read",
    "attention_pair_s": "per pair of prefill tokens",
}


def add(parser: argparse.ArgumentParser) -> None:
    """What was measured, what the server may do, and where the profile goes."""
    parser.add_argument(
        "measured", nargs="*", type=Path, metavar="FILE|FOLDER",
        help="`vllm bench serve --save-detailed` JSON, or JSON lines, one request each; all of one server",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the profile there (YAML)")
    parser.add_argument("--name", default="measured", help="of the profile; default: measured")
    for name, option in LIMIT_OPTIONS.items():
        parser.add_argument(
            option, dest=name, type=count, metavar="N", help="of the server; default: what meta.json says"
        )
    sizes = parser.add_argument_group(
        "KV blocks by vLLM's own code (extra: vllm), where the server's log is not at hand"
    )
    sizes.add_argument("--hf-config", type=Path, metavar="FOLDER", help="with the model's config.json")
    sizes.add_argument(
        "--kv-cache-gib", type=float, metavar="GIB", help="what a server prints as available KV cache memory"
    )
    sizes.add_argument("--tensor-parallel", type=count, default=1, metavar="N")
    series = parser.add_argument_group("from a Prometheus instead of files")
    series.add_argument("--prometheus", metavar="URL", help="a Prometheus that scraped the server")
    series.add_argument(
        "--match", default="", metavar="LABELS", help="""which pods, e.g. 'namespace="ml",pod=~"chat-.*"'"""
    )
    series.add_argument("--hours", type=float, default=SERIES_HOURS, metavar="N", help="back from now; default 24")


def run(options: argparse.Namespace) -> int:
    """Fit, judge on what was held out, print, write."""
    check_file(options.out)
    _size(options)
    if bool(options.measured) == bool(options.prometheus):
        raise UsageError("give files that were measured, or --prometheus URL")
    profile = _from_series(options) if options.prometheus else _from_runs(options)
    if options.out:
        write_file(options.out, profile_text(profile))
        sys.stdout.write(f"\nwritten: {options.out}; use it with `warmtide sim compare --profile {options.out}`\n")
    return 0


def _size(options: argparse.Namespace) -> None:
    """The number of KV blocks, where it is to be worked out."""
    if (options.hf_config is None) != (options.kv_cache_gib is None):
        raise UsageError("--hf-config and --kv-cache-gib go together")
    if options.hf_config is None:
        return
    size = options.block_size_tokens or BLOCK_SIZE_TOKENS
    found = kv_size(
        options.hf_config,
        cache_gib=options.kv_cache_gib,
        tensor_parallel=options.tensor_parallel,
        block_size_tokens=size,
    )
    options.num_gpu_blocks, options.block_size_tokens = found.num_gpu_blocks, found.block_size_tokens
    sys.stdout.write(f"vLLM gives {found.num_gpu_blocks:,} blocks of {found.block_size_tokens} tokens\n")


def _from_runs(options: argparse.Namespace) -> MachineProfile:
    runs = [run for path in options.measured for run in read_runs(path)]
    config, assumed = engine_config(_limits(options, runs), runs)
    with Console(stderr=True).status(f"fitting on the first third of {sum(map(len, runs)):,} requests …"):
        found = fit(runs, config)
    for remark in assumed:
        sys.stdout.write(f"{remark}\n")
    _print_fit(found)
    _print_errors(runs, config, found)
    coverage = coverage_of_run(runs[0])
    for run in runs[1:]:
        coverage = coverage.widest(coverage_of_run(run))
    sys.stdout.write(
        f"\nmeasured up to {coverage.running_requests} running requests, {coverage.kv_tokens:,} KV tokens, prompts of "
        f"{coverage.prompt_tokens:,} tokens; simulations beyond are refused\n"
    )
    return MachineProfile(
        name=options.name,
        config=config,
        times=found.times,
        coverage=coverage,
        request_overhead_s=found.request_overhead_s,
        remarks=(*assumed, *(f"the data cannot tell {WORDS[name]}" for name in found.untold)),
    )


def _limits(options: argparse.Namespace, runs: list[MeasuredRun]) -> Limits:
    limits = Limits(**{name: getattr(options, name) for name in LIMIT_OPTIONS})
    for run in runs:
        limits = limits.over(run.limits)
    return limits


def _print_fit(found: Fit) -> None:
    table = Table(title="one iteration takes", title_justify="left")
    for name in ("", "µs", "± of it"):
        table.add_column(name, justify="left" if not name else "right")
    for name, spread in found.spread_ratios.items():
        said = "the data cannot tell" if name in found.untold else f"{spread:.0%}"
        table.add_row(WORDS[name], f"{getattr(found.times, name) * 1e6:.4g}", said)
    Console().print(table)
    if found.request_overhead_s:
        sys.stdout.write(f"between client and engine: {found.request_overhead_s * 1e3:.1f} ms a request\n")


def _print_errors(runs: list[MeasuredRun], config: EngineConfig, found: Fit) -> None:
    table = Table(title="on the two thirds that were held out", title_justify="left")
    for name in ("run", "load", "requests", "e2e mean", "TTFT mean", "per request"):
        table.add_column(name, justify="left" if name in ("run", "load") else "right")
    peak = round(max(outstanding(run).max() for run in runs))
    for run in runs:
        overhead_s = found.request_overhead_s if run.seen_by_client else 0.0
        model, held_out = replay(run, config, found.times, request_overhead_s=overhead_s), ~fitted_part(run)
        table.add_row(run.name, "all", *_cells(errors(run, model, held_out)))
        for regime, part in by_regime(run, model, held_out, peak=peak).items():
            table.add_row("", regime, *_cells(part))
    Console().print(table)


def _cells(found: Errors) -> tuple[str, ...]:
    means = (f"{found.e2e_mean_ratio:+.1%}", f"{found.ttft_mean_ratio:+.1%}")
    return (f"{found.requests:,}", *means, f"±{found.e2e_each_ratio:.1%}")


def _from_series(options: argparse.Namespace) -> MachineProfile:
    config = _given_config(options)
    stretches = _asked(options, config)
    found = fit_stretches(stretches)
    sys.stdout.write(
        f"fitted on a third of {found.stretches} busy stretches of {SERIES_STEP_S:.0f} s; on the others the time is "
        f"{found.held_out_mean_ratio:+.1%} on average, ±{found.held_out_each_ratio:.1%} each\n"
    )
    for name in WORDS:
        sys.stdout.write(f"{WORDS[name]}: {getattr(found.times, name) * 1e6:.4g} µs\n")
    return MachineProfile(
        name=options.name,
        config=config,
        times=found.times,
        coverage=Coverage(
            prompt_tokens=config.max_model_len_tokens,
            running_requests=config.max_num_seqs,
            kv_tokens=max(1, round(busiest(stretches))),
        ),
        remarks=tuple(f"the series cannot tell {WORDS[name]}" for name in found.untold),
    )


def _given_config(options: argparse.Namespace) -> EngineConfig:
    """No series tells all limits."""
    given = Limits(**{name: getattr(options, name) for name in LIMIT_OPTIONS})
    missing = [option for name, option in LIMIT_OPTIONS.items() if getattr(given, name) is None]
    if missing:
        raise UsageError(f"from Prometheus, the server's limits must be given: {', '.join(missing)}")
    return EngineConfig(
        **{name: getattr(given, name) for name in LIMIT_OPTIONS},
        max_model_len_tokens=(given.num_gpu_blocks - 1) * given.block_size_tokens,  # type: ignore[operator]
        caches_prefixes=False,
    )


def _asked(options: argparse.Namespace, config: EngineConfig) -> Sequence[Stretch]:
    """The busy stretches that Prometheus knows of."""
    end_s = WallClock().now_s()
    asked = {"start_s": end_s - options.hours * 3600.0, "end_s": end_s, "step_s": SERIES_STEP_S}
    source = History(HistoryConfig(url=options.prometheus))
    try:
        return asyncio.run(read_stretches(source, options.match, **asked, kv_capacity_tokens=config.kv_capacity_tokens))
    except HistoryError as exc:
        raise UsageError(str(exc)) from exc
