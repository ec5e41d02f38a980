"""The traffic of a setting as a fluid that nobody can serve with less: replica-seconds of work per interval.

Every step of an engine takes `a` and a share for each token that it prefills, each request that it decodes and each KV
token that it reads (`simulations.replica.config`). All but `a` belong to single requests. Of `a`, which a step's
requests share, each bears at least its tokens ÷ the tokens that fit in the KV cache, and at least 1 ÷ max_num_seqs:
no step can hold more. So a request costs at least `work`, whatever a policy does.

Assumptions that favour the oracle, so that its cost is a bound from below:

* Replicas are one pool: no request waits at one while another idles; each works as well as with a full batch.
* A request is on time while what is to be done before its first token fits: the work in the system at its arrival is
  at most that of one objective plus a KV cache full of requests that have all just begun to decode, per replica.
* Within an interval arrivals are spread evenly.
* A draining replica gives its work back at once. Whatever starts takes the shortest start-up there is.

One goes against it: the number changes only at the border of two intervals (10 s in an hour), and prompts that repeat
are not counted as cached. `bench_sim_oracle` holds every policy of every scenario against the result.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.policies.base import Bounds
from simulations.world.setting import Setting

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# An hour is 360 intervals of 10 s; longer courses get longer ones, so that a week is solved in seconds.
INTERVAL_MIN_S = 10.0
INTERVALS_MAX = 10_080
# Work is counted in eighths of what a replica does in an interval.
QUANTA_PER_INTERVAL = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Per interval: requests, and their work in quanta; what a replica may have before it and still be on time."""

    interval_s: float
    requests: Ints
    work_quanta: Ints
    allowed_quanta: float  # per ready replica
    replicas_at_start: int
    bounds: Bounds

    @property
    def quantum_s(self) -> float:
        """Replica-seconds."""
        return self.interval_s / QUANTA_PER_INTERVAL


def demand_of(setting: Setting) -> Demand:
    """The fluid of a setting."""
    arrived_at_s = setting.requests["arrived_at_s"]
    intervals = max(1, min(INTERVALS_MAX, math.ceil(setting.span_s / INTERVAL_MIN_S)))
    interval_s = max(setting.span_s, INTERVAL_MIN_S) / intervals
    work_s = work_of(setting)
    index = np.minimum((arrived_at_s / interval_s).astype(np.int64), intervals - 1)
    work = np.bincount(index, weights=work_s, minlength=intervals)
    quantum_s = interval_s / QUANTA_PER_INTERVAL
    # Rounded down over the whole course, not interval by interval: never a quantum more than has come.
    quanta = np.diff(np.floor(np.cumsum(work) / quantum_s), prepend=0.0).astype(np.int64)
    return Demand(
        interval_s=interval_s,
        requests=np.bincount(index, minlength=intervals).astype(np.int64),
        work_quanta=quanta,
        allowed_quanta=(setting.ttft_s + resident_s(setting)) / quantum_s,
        replicas_at_start=setting.replicas_at_start,
        bounds=setting.bounds,
    )


def work_of(setting: Setting) -> Floats:
    """Seconds of a replica that each request costs at least."""
    prompt, _ = _lengths(setting)
    times = setting.times
    prefill_s = times.prefill_token_s * prompt + times.attention_pair_s * prompt * prompt / 2
    return prefill_s + _decode_s(setting) + _shared_s(setting)


def resident_s(setting: Setting) -> float:
    """Work left in a replica whose KV cache is full of requests that have just begun to decode."""
    prompt, output = _lengths(setting)
    held_tokens = float(_token_steps(prompt, output).sum() / output.sum())
    most = min(setting.config.max_num_seqs, setting.config.kv_capacity_tokens / held_tokens)
    left_s = float((_decode_s(setting) + _shared_s(setting)).mean())
    return most * left_s


def _lengths(setting: Setting) -> tuple[Floats, Floats]:
    requests = setting.requests
    return requests["prompt_tokens"].astype(np.float64), requests["output_tokens"].astype(np.float64)


def _decode_s(setting: Setting) -> Floats:
    """The steps after the first token."""
    prompt, output = _lengths(setting)
    steps = output - 1
    read_tokens = steps * prompt + steps * (steps + 1) / 2
    return setting.times.decode_sequence_s * steps + setting.times.kv_token_s * read_tokens


def _shared_s(setting: Setting) -> Floats:
    """The least of what all requests of a step share, by memory or by seats, whichever is scarcer here."""
    prompt, output = _lengths(setting)
    fixed_s = setting.times.base_s + setting.times.overhead_s
    by_memory = fixed_s * _token_steps(prompt, output) / setting.config.kv_capacity_tokens
    by_seats = fixed_s * output / setting.config.max_num_seqs
    return by_memory if by_memory.sum() >= by_seats.sum() else by_seats


def _token_steps(prompt: Floats, output: Floats) -> Floats:
    """Tokens held, summed over the steps that a request is part of."""
    return output * prompt + output * (output - 1) / 2
