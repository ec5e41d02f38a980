"""Requests that one core simulates per second: an hour of chat on four replicas, KV blocks and latencies on.

With the prefix cache, `prompts` begin with one of some system prompts; `chats` go on with an earlier request of the
hour where one fits, and every block of prompt and answer can be found by the next.
"""

import random
import statistics
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figure

from simulations.compiled.fleet import forget_course, replay_compiled, request_records
from simulations.compiled.layout import Records
from simulations.compiled.names import BlockNames, names_of_streams
from simulations.fleet import replay_static
from simulations.policies import Bounds, build
from simulations.replica import LLAMA_8B_H100, PROFILES, EngineConfig
from simulations.scenarios import load_scenario
from simulations.trace import Arrival
from simulations.traces import read_arrivals
from simulations.traffic import generate, load_figures
from simulations.world import Setting, simulate

TRACE = Path(__file__).parents[2] / ".." / "shared" / "traces" / "AzureLLMInferenceTrace_conv.csv"
REPLICAS = 4
ROUNDS = 15
AUTOSCALED_ROUNDS = 3
# Warmtide reads every replica each 2 s and has no bar of its own here.
AUTOSCALED_BARS = {"hpa-queue": 1e6, "keda-prodstack": 1e6, "keda-epp-queue": 1e6, "kpa": 1e6, "warmtide": None}
LLAMA_8B_L40S = PROFILES["llama-3.1-8b-l40s"]
SYSTEM_PROMPTS, SYSTEM_PROMPT_BLOCKS_MAX = 20, 60
THINKS_AT_LEAST_S, THINKS_AT_MOST_S = 20.0, 300.0
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
    caching = replace(CONFIG, caches_prefixes=True)
    per_s["sim_speed_prefix_prompts"] = speed(requests, REPLICAS, caching, system_prompts(requests))
    per_s["sim_speed_prefix_chats"] = speed(requests, REPLICAS, caching, chats(requests))
    bars = {"sim_speed": 2e6, "sim_speed_prefix_prompts": 1e6}
    figures = [Figure(name=name, value=value, unit="requests/s", bar=bars.get(name)) for name, value in per_s.items()]
    busy_hour = load_scenario("chat-hour").make(1)
    figures += [
        Figure(name=f"sim_speed_{name}", value=autoscaled_speed(busy_hour, name), unit="requests/s", bar=bar)
        for name, bar in AUTOSCALED_BARS.items()
    ]
    reference = reference_speed(arrivals[:REFERENCE_REQUESTS])
    return [*figures, Figure(name="sim_speed_over_reference", value=per_s["sim_speed"] / reference, unit="x")]


def hour() -> list[Arrival]:
    """The real hour where it is at hand, else one generated from its figures."""
    made = list(read_arrivals(TRACE)) if TRACE.exists() else generate(load_figures(), random.Random(1))
    return [arrival for arrival in made if arrival.prompt_tokens and arrival.output_tokens]


def system_prompts(requests: Records) -> BlockNames:
    """Each request begins with one of some prompts, of up to a thousand tokens."""
    chosen = np.random.default_rng(1).integers(0, SYSTEM_PROMPTS, len(requests))
    blocks = requests["prompt_tokens"].astype(np.int64) // CONFIG.block_size_tokens
    return names_of_streams(chosen, np.minimum(blocks, SYSTEM_PROMPT_BLOCKS_MAX))


def chats(requests: Records) -> BlockNames:
    """Each request goes on with the longest earlier one that fits into its prompt, after a while."""
    at_s, prompts = requests["arrived_at_s"].tolist(), requests["prompt_tokens"].tolist()
    totals = (requests["prompt_tokens"] + requests["output_tokens"]).tolist()
    streams, open_turns = np.arange(len(requests)), deque[int]()
    for number, now_s in enumerate(at_s):
        while open_turns and at_s[open_turns[0]] < now_s - THINKS_AT_MOST_S:
            open_turns.popleft()
        fitting = [
            turn for turn in open_turns if at_s[turn] <= now_s - THINKS_AT_LEAST_S and totals[turn] <= prompts[number]
        ]
        if fitting:
            before = max(fitting, key=totals.__getitem__)
            streams[number] = streams[before]
            open_turns.remove(before)
        open_turns.append(number)
    return names_of_streams(streams, (np.array(totals, np.int64) - 1) // CONFIG.block_size_tokens)


def speed(requests: Records, replicas: int, config: EngineConfig, names: BlockNames | None = None) -> float:
    """Requests per CPU second, the median of some rounds; every request must have ended."""
    used_s = []
    for _ in range(ROUNDS):
        fresh = forget_course(requests)
        started_s = time.process_time()
        fleet = replay_compiled(fresh, replicas, config, LLAMA_8B_H100, names=names)
        used_s.append(time.process_time() - started_s)
        if not (fleet.requests["finished_at_s"] > fleet.requests["arrived_at_s"]).all():
            raise RuntimeError("a request was not served to its end")
    return len(requests) / statistics.median(used_s)


def autoscaled_speed(requests: Records, name: str) -> float:
    """The same per CPU second with a policy that scales the fleet, sensors and observations included."""
    setting = Setting(
        requests=requests, config=CONFIG, times=LLAMA_8B_L40S, bounds=Bounds(high=16), replicas_at_start=6
    )
    used_s = []
    for _ in range(AUTOSCALED_ROUNDS):
        policy = build(name, setting.bounds, ttft_s=setting.ttft_s, lead_time_s=setting.startup.cold_s)
        started_s = time.process_time()
        simulate(setting, policy)
        used_s.append(time.process_time() - started_s)
    return len(requests) / statistics.median(used_s)


def reference_speed(arrivals: list[Arrival]) -> float:
    started_s = time.process_time()
    replay_static(arrivals, REPLICAS, CONFIG, LLAMA_8B_H100)
    return len(arrivals) / (time.process_time() - started_s)
