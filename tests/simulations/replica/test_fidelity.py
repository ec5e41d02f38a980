"""The model against real vLLM 0.32 runs: same requests in, how far off are its latencies and throughput?

The runs were measured on one CPU core (27M-parameter model, 8 sequences, 512 tokens per step, 255 blocks of
32). The coefficients are those fitted on the sweeps with c=1 to 16: decode step = 7.12 ms + 0.251 ms per
sequence + 1.17 ms per 1,000 KV tokens; prefill = 148 ms per 1,000 tokens + 80.5 ms per 1,000² tokens; what a
request costs before the engine sees it is 8.3 ms (15.4 ms constant TTFT less one step's 7.12 ms). So this
is a check of the batching, and no forecast for other hardware.
"""

import heapq
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulations.replica import Engine, EngineConfig, Finished, Request, StepTimes

RUNS = Path(__file__).parents[3] / ".." / "shared" / "vllm" / "runs"
SERVER = EngineConfig(
    max_num_seqs=8, max_num_batched_tokens=512, num_gpu_blocks=256, block_size_tokens=32, max_model_len_tokens=2048
)
MEASURED = StepTimes(
    base_s=7.12e-3, prefill_token_s=148e-6, decode_sequence_s=0.251e-3, kv_token_s=1.17e-6, attention_pair_s=161e-9
)
REQUEST_OVERHEAD_S = 8.3e-3
SWEEPS = sorted(path.name.split(".")[0] for path in RUNS.glob("sweep_*.requests.jsonl"))

pytestmark = pytest.mark.skipif(not SWEEPS, reason="../shared/vllm/runs is not there: no real run to compare with")


@dataclass(frozen=True, slots=True)
class Latencies:
    """Medians of one run, and its output tokens per second."""

    ttft_s: float
    tpot_s: float
    e2e_s: float
    tokens_per_s: float

    def errors(self, real: "Latencies") -> dict[str, float]:
        """(model - real) ÷ real."""
        return {name: getattr(self, name) / getattr(real, name) - 1.0 for name in self.__slots__}


def load(run: str) -> tuple[dict[str, int | None], list[dict[str, float]]]:
    head, *rows = (RUNS / f"{run}.requests.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(head)["meta"], sorted(map(json.loads, rows), key=lambda row: row["send"])


def real_latencies(rows: list[dict[str, float]]) -> Latencies:
    return Latencies(
        ttft_s=statistics.median(row["first"] - row["send"] for row in rows),
        tpot_s=statistics.median((row["end"] - row["first"]) / (row["output_len"] - 1) for row in rows),
        e2e_s=statistics.median(row["end"] - row["send"] for row in rows),
        tokens_per_s=sum(row["output_len"] for row in rows) / (max(row["end"] for row in rows) - rows[0]["send"]),
    )


def modelled_latencies(rows: list[dict[str, float]], concurrency: int | None) -> Latencies:
    """Open loop: at the real send times. Closed loop: the next request when one of `concurrency` ended."""
    engine = Engine(SERVER, MEASURED)
    first = len(rows) if concurrency is None else concurrency
    arrivals = [(row["send"] + REQUEST_OVERHEAD_S, number) for number, row in enumerate(rows[:first])]
    heapq.heapify(arrivals)
    following = iter(range(first, len(rows)))
    done: list[Finished] = []
    now_s = 0.0
    while arrivals or engine.outstanding_requests:
        if not engine.outstanding_requests:
            now_s = max(now_s, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now_s:
            arrived_at_s, number = heapq.heappop(arrivals)
            engine.submit(request_of(rows[number], number, arrived_at_s))
        engine.start_step(now_s)
        result = engine.finish_step()
        now_s = result.ended_at_s
        done += result.finished
        for _, number in zip(result.finished, following, strict=False):
            heapq.heappush(arrivals, (now_s + REQUEST_OVERHEAD_S, number))
    return Latencies(
        ttft_s=statistics.median(one.ttft_s + REQUEST_OVERHEAD_S for one in done),
        tpot_s=statistics.median(one.tpot_s for one in done),
        e2e_s=statistics.median(one.e2e_s + REQUEST_OVERHEAD_S for one in done),
        tokens_per_s=sum(one.request.output_tokens for one in done)
        / (max(one.finished_at_s for one in done) - rows[0]["send"]),
    )


def request_of(row: dict[str, float], number: int, arrived_at_s: float) -> Request:
    return Request(
        id=str(number),
        prompt_tokens=int(row["prompt_len"]),
        output_tokens=int(row["output_len"]),
        arrived_at_s=arrived_at_s,
    )


def errors_of(run: str) -> dict[str, float]:
    meta, rows = load(run)
    errors = modelled_latencies(rows, meta["conc"]).errors(real_latencies(rows))
    print(run, " ".join(f"{name} {error:+.1%}" for name, error in errors.items()))
    return errors


def test_sweeps_are_reproduced_within_a_tenth_in_the_median() -> None:
    errors = [errors_of(run) for run in SWEEPS]

    medians = {name: statistics.median(abs(one[name]) for one in errors) for name in errors[0]}
    print("median", " ".join(f"{name} {error:.1%}" for name, error in medians.items()))
    assert medians["tpot_s"] < 0.06
    assert medians["tokens_per_s"] < 0.06
    assert medians["ttft_s"] < 0.10
    assert medians["e2e_s"] < 0.06


def test_a_run_with_bursts_is_reproduced_within_a_fifth() -> None:
    errors = errors_of("burst_a")  # its own arrivals, nothing of it went into the coefficients

    assert abs(errors["tpot_s"]) < 0.20
    assert abs(errors["ttft_s"]) < 0.25
    assert abs(errors["tokens_per_s"]) < 0.05


def test_a_shared_prefix_is_hit_as_often_as_on_the_real_server() -> None:
    _, rows = load("prefix512x4_p64_o32_c4")
    samples = [
        json.loads(line)
        for line in (RUNS / "prefix512x4_p64_o32_c4.metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    real_ratio = (samples[-1]["pch"] - samples[0]["pch"]) / (samples[-1]["pcq"] - samples[0]["pcq"])
    engine = Engine(SERVER, MEASURED)
    for number, row in enumerate(rows):  # four groups, each with 512 tokens in common: 16 blocks
        group = int(row["id"]) % 4
        shared = tuple(f"{group}/{block}" for block in range(512 // SERVER.block_size_tokens))
        engine.submit(
            Request(
                id=str(number),
                prompt_tokens=int(row["prompt_len"]),
                output_tokens=int(row["output_len"]),
                prefix_block_ids=shared,
            )
        )
    while engine.start_step(0.0) is not None:
        engine.finish_step()

    ratio = engine.counters.prefix_hit_tokens / engine.counters.prefix_queried_tokens
    print(f"prefix hits: real {real_ratio:.3f}, model {ratio:.3f}")
    assert ratio == pytest.approx(real_ratio, abs=0.02)
