"""How long the replay of 1,000 requests through a static fleet takes, for a small and a large fleet."""

import random
import time
from dataclasses import dataclass

from figures import Figure

from simulations.fleet import replay_static
from simulations.replica import LLAMA_8B_H100, EngineConfig

REQUESTS = 1000
BAR_S = 3.0  # what the demo may spend on one comparison
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    prompt_tokens: int
    output_tokens: int


def arrivals() -> list[Arrival]:
    """Fifteen requests a second, about 1,000 tokens in and 190 out."""
    rng = random.Random(1)
    at_s, made = 0.0, []
    for _ in range(REQUESTS):
        at_s += rng.expovariate(15.0)
        prompt_tokens = min(6000, 1 + int(rng.lognormvariate(6.5, 0.8)))
        made.append(Arrival(at_s, prompt_tokens, min(1500, 1 + int(rng.lognormvariate(5.0, 0.7)))))
    return made


def run() -> list[Figure]:
    load = arrivals()
    tokens = sum(arrival.output_tokens for arrival in load)
    figures = []
    for replicas in (4, 20):
        used_s = min(cpu_s(load, replicas) for _ in range(ROUNDS))
        figures += [
            Figure(name=f"replay_{replicas}_replicas", value=used_s, unit="s", bar=BAR_S, better="lower"),
            Figure(name=f"replay_{replicas}_replicas_tokens", value=tokens / used_s, unit="tokens/s"),
        ]
    return figures


def cpu_s(load: list[Arrival], replicas: int) -> float:
    started_s = time.process_time()
    result = replay_static(load, replicas, EngineConfig(), LLAMA_8B_H100)
    if len(result.requests) != len(load):
        raise RuntimeError(f"{len(load)} requests went in, {len(result.requests)} came out")
    return time.process_time() - started_s
