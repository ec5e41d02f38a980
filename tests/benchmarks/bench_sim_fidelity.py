"""The simulator against real vLLM servers, with coefficients fitted on the first third of each run.

What is compared are the other two thirds: they share the run's queue with the first, so this shows that batching,
blocks and preemption are right, and not that another load is forecast as well. The runs of `perf` are of GPUs
(vLLM 0.19, saturated); those of `vllm/runs` of a small model on one core that it shared with other work: no bars there.
How much slower that core itself had become after the first third is said beside them: no model can know it.
"""

from pathlib import Path

import numpy as np
from figures import Figure, MissingPartError

from simulations.calibration import (
    Errors,
    Limits,
    MeasuredRun,
    by_regime,
    engine_config,
    errors,
    fit,
    fitted_part,
    outstanding,
    read_runs,
    replay,
    worst,
)

SHARED = Path(__file__).parents[2] / ".." / "shared"
GPU_RUNS = SHARED / "perf"
CPU_RUNS = SHARED / "vllm" / "runs"
CPU_LIMITS = Limits(max_num_seqs=8, max_num_batched_tokens=512, num_gpu_blocks=256, block_size_tokens=32)
CPU_REQUESTS_MIN = 40  # a third of fewer fits nothing
FEW_OUTSTANDING = 2  # so little company costs a token next to nothing: what it takes is the machine's speed


def run() -> list[Figure]:
    if not GPU_RUNS.is_dir():
        raise MissingPartError("real runs to compare with (../shared/perf)")
    figures: list[Figure] = []
    found = []
    for folder in sorted(path for path in GPU_RUNS.iterdir() if path.is_dir()):
        [measured] = read_runs(folder)
        judged, _ = judge(measured, measured.limits)
        found.append(judged)
        figures += figures_of(f"sim_fidelity_{measured.name}", judged)
    figures += figures_of("sim_fidelity_worst", worst(found), bars=(0.03, 0.06, 0.04))
    for measured in read_runs(CPU_RUNS) if CPU_RUNS.is_dir() else ():
        # A prefix that requests have in common is not in the file, and cannot be replayed from it.
        if len(measured) >= CPU_REQUESTS_MIN and not measured.name.startswith("prefix"):
            judged, regimes = judge(measured, CPU_LIMITS)
            figures += figures_of(f"sim_fidelity_cpu_{measured.name}", judged)
            figures += slowdown(measured)
            for regime, part in regimes.items() if len(regimes) > 1 else ():
                figures += figures_of(f"sim_fidelity_cpu_{measured.name}_{regime}", part)
    return figures


def judge(measured: MeasuredRun, limits: Limits) -> tuple[Errors, dict[str, Errors]]:
    """Errors on what was held out, over all and by load."""
    config, _ = engine_config(limits, [measured])
    found = fit([measured], config)
    overhead_s = found.request_overhead_s if measured.seen_by_client else 0.0
    model, held_out = replay(measured, config, found.times, request_overhead_s=overhead_s), ~fitted_part(measured)
    return errors(measured, model, held_out), by_regime(
        measured, model, held_out, peak=round(outstanding(measured).max())
    )


def slowdown(measured: MeasuredRun) -> list[Figure]:
    """Seconds per output token of requests that came with hardly any company: held out ÷ fitted on, medians."""
    few = (outstanding(measured) <= FEW_OUTSTANDING) & (measured.output_tokens > 1)
    first = few & fitted_part(measured)
    if not first.any() or not (few & ~first).any():
        return []
    token_s = (measured.e2e_s - measured.ttft_s) / np.maximum(measured.output_tokens - 1, 1)
    ratio = float(np.median(token_s[few & ~first]) / np.median(token_s[first]))
    return [Figure(name=f"sim_fidelity_cpu_{measured.name}_machine_slowed", value=ratio, unit="x")]


def figures_of(name: str, found: Errors, bars: tuple[float, float, float] | None = None) -> list[Figure]:
    e2e, ttft, each = bars or (None, None, None)
    rows = (
        ("e2e_mean_error", abs(found.e2e_mean_ratio), e2e),
        ("ttft_mean_error", abs(found.ttft_mean_ratio), ttft),
        ("e2e_per_request_error", found.e2e_each_ratio, each),
    )
    return [
        Figure(name=f"{name}_{what}", value=value, unit="ratio", bar=bar, better="lower") for what, value, bar in rows
    ]
