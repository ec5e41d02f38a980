"""A week of 44 million requests, autoscaled by Warmtide every 15 s and on events, on one core and streamed.

Its rates are those of Azure's 2024 week of conversations (AzurePublicDataset, CC-BY-4.0), scaled to the requests of
that dataset's two weeks together; waves within the hours and lengths are those of its 2023 hour.
"""

import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from figures import Figure

from simulations.compiled.layout import Records
from simulations.compiled.records import requests_of
from simulations.policies import Bounds
from simulations.policies.catalog import warmtide_spec
from simulations.policies.warmtide import Warmtide
from simulations.replica import LLAMA_8B_H100, EngineConfig
from simulations.scenarios import load_scenario
from simulations.scenarios.draw import Generated
from simulations.world import Outcome, Setting, simulate

WEEK_S = 7 * 86_400.0
REQUESTS = 27_303_999 + 16_803_695  # conversation and code
CONFIG = EngineConfig(caches_prefixes=False, max_model_len_tokens=32_768)
BOUNDS = Bounds(low=2, high=16)
TTFT_S, LEAD_TIME_S, REGULAR_S = 2.0, 110.0, 15.0
ROUNDS = 3


def run() -> list[Figure]:
    simulate(replace(week(), more=lambda: iter(()), ends_at_s=600.0), policy())  # compiles, or loads what was compiled
    took_s, outcome, asked = [], None, None
    for _ in range(ROUNDS):
        started_s = time.process_time()
        asked = policy()
        outcome = simulate(week(), asked)
        took_s.append(time.process_time() - started_s)
    if outcome is None or asked is None:
        raise RuntimeError("no round was run")
    return [
        Figure(name="sim_week", value=statistics.median(took_s), unit="CPU-s", bar=30.0, better="lower"),
        Figure(name="sim_week_peak_memory", value=peak_bytes() / 1e9, unit="GB", bar=1.5, better="lower"),
        *told(outcome, asked),
    ]


def told(outcome: Outcome, asked: Warmtide) -> list[Figure]:
    """What the week was like, so that nobody has to believe that it was one."""
    values = {
        "sim_week_requests": float(outcome.series["arrived_requests"].sum()),
        "sim_week_decisions": float(asked.decisions),
        "sim_week_changes": float(len(outcome.decisions)),
        "sim_week_mean_replicas": float(outcome.series["ready"].mean()),
        "sim_week_attainment": outcome.attainment_ratio,
    }
    if values["sim_week_decisions"] < WEEK_S / REGULAR_S:
        raise RuntimeError(f"{asked.decisions} decisions are fewer than one every {REGULAR_S:g} s")
    return [Figure(name=name, value=value, unit="") for name, value in values.items()]


def policy() -> Warmtide:
    return Warmtide(spec=warmtide_spec(BOUNDS, ttft_s=TTFT_S, lead_time_s=LEAD_TIME_S), regular_s=REGULAR_S)


def week() -> Setting:
    """The first hour, and how the others follow it."""
    hours = parts()
    return Setting(
        requests=next(hours),
        more=lambda: after_the_first(parts()),
        ends_at_s=WEEK_S,
        config=CONFIG,
        times=LLAMA_8B_H100,
        bounds=BOUNDS,
        replicas_at_start=6,
        ttft_s=TTFT_S,
    )


def after_the_first(hours: Iterator[Records]) -> Iterator[Records]:
    next(hours)
    return hours


def parts(seed: int = 1) -> Iterator[Records]:
    """The week by the hour."""
    traffic = load_scenario("chat-week").traffic
    if not isinstance(traffic, Generated):
        raise TypeError("the week is no longer generated")
    for hour in replace(traffic, requests_per_s=REQUESTS / WEEK_S).chunks(seed):
        yield requests_of(hour.at_s, hour.prompt_tokens, hour.output_tokens)


def peak_bytes() -> float:
    """Of this process, so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
