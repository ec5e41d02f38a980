"""Scenarios that ship: traffic generated from figures of real traces, and the machine that serves it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.fleet import request_records, requests_of
from simulations.compiled.layout import Records
from simulations.traffic import generate, load_figures

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

HOUR_S = 3600.0
# Requests per hour of a mean weekday, as shares of the mean hour. Source: Azure LLM inference trace 2024,
# conversation week (CC-BY-4.0), read off its published per-minute plot and averaged over Monday to Friday.
WEEKDAY_HOURS = (
    *(0.89, 0.97, 0.95, 0.79, 0.80, 0.87, 1.01, 1.09, 1.11, 1.08, 0.97, 1.03),
    *(1.15, 1.27, 1.34, 1.24, 1.13, 1.08, 1.08, 1.01, 0.92, 0.77, 0.69, 0.72),
)
# A drawn request comes this far from its model in the hour: new bursts, the same waves (which last minutes).
JITTER_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Traffic by seed, and what serves it."""

    name: str
    says: str
    make: Callable[[int], Records]
    profile: str
    replicas_max: int


def chat_hour(seed: int) -> Records:
    """Azure's 2023 hour of conversations, four times as busy."""
    hour = _hour(seed)
    return _sorted(*_drawn(hour, 4 * len(hour), np.random.default_rng(seed)))


def chat_day(seed: int) -> Records:
    """A weekday: the rates of Azure's 2024 hours, each with the waves and lengths of the 2023 hour."""
    hour, rng = _hour(seed), np.random.default_rng(seed)
    parts = []
    for number, share in enumerate(WEEKDAY_HOURS):
        at_s, prompt_tokens, output_tokens = _drawn(hour, rng.poisson(2 * len(hour) * share), rng)
        parts.append((number * HOUR_S + at_s, prompt_tokens, output_tokens))
    return _sorted(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _hour(seed: int) -> Records:
    return request_records(generate(load_figures(), Random(seed)))


def _drawn(hour: Records, requests: int, rng: np.random.Generator) -> tuple[Floats, Ints, Ints]:
    """So many requests, each like one of the hour and near it in time, stretched to a whole hour."""
    chosen = hour[rng.integers(0, len(hour), requests)]
    jitter_s = rng.uniform(-JITTER_S, JITTER_S, requests)
    stretch = HOUR_S / hour["arrived_at_s"][-1]
    at_s = np.clip((chosen["arrived_at_s"] + jitter_s) * stretch, 0.0, HOUR_S)
    return at_s, chosen["prompt_tokens"], chosen["output_tokens"]


def _sorted(at_s: Floats, prompt_tokens: Ints, output_tokens: Ints) -> Records:
    order = np.argsort(at_s, kind="stable")
    return requests_of(at_s[order], prompt_tokens[order], output_tokens[order])


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="chat-hour",
            says="an hour of chat with the waves of Azure's 2023 trace, four times as busy (Llama 3.1 8B, L40S)",
            make=chat_hour,
            profile="llama-3.1-8b-l40s",
            replicas_max=16,
        ),
        Scenario(
            name="chat-day",
            says="a weekday of chat with the rhythm of Azure's 2024 trace, 11 requests a second (Llama 3.1 8B, L40S)",
            make=chat_day,
            profile="llama-3.1-8b-l40s",
            replicas_max=12,
        ),
    )
}
