"""Requests that one core simulates per second: an hour of chat on four replicas, KV blocks and latencies on."""

import random
import statistics
import time
from pathlib import Path

from figures import Figure

from simulations.compiled.fleet import forget_course, replay_compiled, request_records
from simulations.compiled.layout import Records
from simulations.fleet import replay_static
from simulations.replica import LLAMA_8B_H100, EngineConfig
from simulations.trace import Arrival, read_azure
from simulations.traffic import generate, load_figures

TRACE = Path(__file__).parents[2] / ".." / "shared" / "traces" / "AzureLLMInferenceTrace_conv.csv"
REPLICAS = 4
ROUNDS = 15
REFERENCE_REQUESTS = 1000  # the iteration-by-iteration engine is slow
CONFIG = EngineConfig(caches_prefixes=False, max_model_len_tokens=32_768)
SMALL_CACHE = EngineConfig(caches_prefixes=False, max_model_len_tokens=16_384, num_gpu_blocks=1100)


def run() -> list[Figure]:
    arrivals = hour()
    requests = request_records(arrivals)
    replay_compiled(forget_course(requests), REPLICAS, CONFIG, LLAMA_8B_H100)  # compiles, or loads what was compiled
    per_s = {
        "sim_speed": speed(requests, REPLICAS, CONFIG),
        "sim_speed_1_replica": speed(requests, 1, CONFIG),
        "sim_speed_16_replicas": speed(requests, 16, CONFIG),
        "sim_speed_preempting": speed(requests, 1, SMALL_CACHE),
    }
    bars = {"sim_speed": 2e6}
    figures = [Figure(name=name, value=value, unit="requests/s", bar=bars.get(name)) for name, value in per_s.items()]
    reference = reference_speed(arrivals[:REFERENCE_REQUESTS])
    return [*figures, Figure(name="sim_speed_over_reference", value=per_s["sim_speed"] / reference, unit="x")]


def hour() -> list[Arrival]:
    """The real hour where it is at hand, else one generated from its figures."""
    made = list(read_azure(TRACE)) if TRACE.exists() else generate(load_figures(), random.Random(1))
    return [arrival for arrival in made if arrival.prompt_tokens and arrival.output_tokens]


def speed(requests: Records, replicas: int, config: EngineConfig) -> float:
    """Requests per CPU second, the median of some rounds; every request must have ended."""
    used_s = []
    for _ in range(ROUNDS):
        fresh = forget_course(requests)
        started_s = time.process_time()
        fleet = replay_compiled(fresh, replicas, config, LLAMA_8B_H100)
        used_s.append(time.process_time() - started_s)
        if not (fleet.requests["finished_at_s"] > fleet.requests["arrived_at_s"]).all():
            raise RuntimeError("a request was not served to its end")
    return len(requests) / statistics.median(used_s)


def reference_speed(arrivals: list[Arrival]) -> float:
    started_s = time.process_time()
    replay_static(arrivals, REPLICAS, CONFIG, LLAMA_8B_H100)
    return len(arrivals) / (time.process_time() - started_s)
