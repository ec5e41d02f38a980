"""Coefficients from latencies: what was put in comes out, what cannot be told is said, real servers are met."""

from pathlib import Path

import numpy as np
import pytest

from simulations.calibration import (
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
)
from simulations.replica import PROFILES, EngineConfig, StepTimes

PERF = Path(__file__).parents[3] / ".." / "shared" / "perf"
CONFIG = EngineConfig(
    max_num_seqs=64, max_num_batched_tokens=1024, num_gpu_blocks=1500, max_model_len_tokens=4096, caches_prefixes=False
)
LIMITS = Limits(max_num_seqs=64, max_num_batched_tokens=1024, num_gpu_blocks=1500, block_size_tokens=16)


def made(times: StepTimes, *, requests: int = 150, per_s: float = 6.0, overhead_s: float = 0.0) -> MeasuredRun:
    """A run of the model itself, Poisson arrivals."""
    rng = np.random.default_rng(7)
    nothing = np.zeros(requests)
    arrived_at_s = np.cumsum(rng.exponential(1 / per_s, requests))
    run = MeasuredRun(
        name="made",
        path=Path("made.jsonl"),
        arrived_at_s=arrived_at_s - arrived_at_s[0],
        prompt_tokens=rng.integers(20, 1500, requests).astype(np.int32),
        output_tokens=rng.integers(5, 300, requests).astype(np.int32),
        ttft_s=nothing,
        e2e_s=nothing,
        seen_by_client=overhead_s > 0,
        limits=LIMITS,
    )
    latencies = replay(run, CONFIG, times, request_overhead_s=overhead_s)
    return MeasuredRun(
        **{name: getattr(run, name) for name in run.__slots__ if name not in ("ttft_s", "e2e_s")},
        ttft_s=latencies.ttft_s,
        e2e_s=latencies.e2e_s,
    )


@pytest.mark.parametrize("overhead_s", [0.0, 0.03], ids=["engine's clock", "client's clock"])
@pytest.mark.parametrize("slower", [0.7, 6.0])
def test_held_out_requests_of_an_unknown_machine_are_met(slower: float, overhead_s: float) -> None:
    truth = PROFILES["qwen3-8b-h100"].sped_up(1 / slower)
    run = made(truth, overhead_s=overhead_s)

    found = fit([run], CONFIG)

    model = replay(run, CONFIG, found.times, request_overhead_s=found.request_overhead_s)
    held_out = errors(run, model, ~fitted_part(run))
    assert abs(held_out.e2e_mean_ratio) < 0.02, held_out.text()
    assert held_out.e2e_each_ratio < 0.03, held_out.text()
    assert found.times.base_s == pytest.approx(truth.base_s + truth.overhead_s, rel=0.15)


def test_a_machine_that_never_batched_does_not_tell_what_a_decoding_request_costs() -> None:
    alone = made(PROFILES["qwen3-8b-h100"], requests=60, per_s=0.05)

    found = fit([alone], CONFIG)

    assert "decode_sequence_s" in found.untold


def test_what_is_not_known_of_the_server_is_assumed_in_words() -> None:
    run = made(PROFILES["qwen3-8b-h100"], requests=20)

    config, assumed = engine_config(Limits(max_num_seqs=8), [run])

    assert config.max_num_seqs == 8
    assert [remark.split(" ")[0] for remark in assumed] == [
        "max_num_batched_tokens",
        "block_size_tokens",
        "num_gpu_blocks",
    ]
    assert config.kv_capacity_tokens >= 8 * run.total_tokens_max


def test_errors_by_load_add_up_to_all_that_were_judged() -> None:
    run = made(PROFILES["llama-3.1-8b-l40s"])
    model, judged = replay(run, CONFIG, PROFILES["llama-3.1-8b-a100"]), ~fitted_part(run)

    parts = by_regime(run, model, judged, peak=round(outstanding(run).max()))

    assert sum(part.requests for part in parts.values()) == errors(run, model, judged).requests
    assert all(part.e2e_mean_ratio < 0 for part in parts.values())  # an A100 is faster than an L40S


@pytest.mark.skipif(not PERF.is_dir(), reason="../shared/perf is not there: no real GPU runs to compare with")
def test_real_gpu_servers_are_met_on_the_two_thirds_that_were_held_out() -> None:
    for folder in sorted(path for path in PERF.iterdir() if path.is_dir()):
        [run] = read_runs(folder)
        config, _ = engine_config(run.limits, [run])

        model = replay(run, config, fit([run], config).times)

        held_out = errors(run, model, ~fitted_part(run))
        assert abs(held_out.e2e_mean_ratio) <= 0.03, f"{run.name}: {held_out.text()}"
        assert abs(held_out.ttft_mean_ratio) <= 0.06, f"{run.name}: {held_out.text()}"
        assert held_out.e2e_each_ratio <= 0.04, f"{run.name}: {held_out.text()}"
