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
* On nodes of several kinds each request is served where it costs least.
* A draining replica gives its work back at once. Whatever starts takes the shortest start-up there is.

One goes against it: the number changes only at the border of two intervals (10 s in an hour). `bench_sim_oracle`
holds every policy of every scenario against the result. With a prefix cache all of a prompt but its last block is
taken to be cached, which makes the bound a loose one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.layout import Records
from simulations.errors import UsageError
from simulations.policies.base import Bounds
from simulations.replica import EngineConfig, StepTimes
from simulations.world.setting import Setting

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# An hour is 360 intervals of 10 s; longer courses get longer ones, so that a week is solved in seconds.
INTERVAL_MIN_S = 10.0
INTERVALS_MAX = 10_080
# Work is counted in eighths of what a replica does in an interval.
QUANTA_PER_INTERVAL = 8
# The grid holds twice what may be on time with the most replicas: beyond, more work changes nothing for long.
GRID_RATIO = 2.0
# Cells of a table (interval x replicas x work), two bytes each; three tables live at once.
CELLS_MAX = 100_000_000
COARSER_RATIO = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Per interval: requests, and their work in quanta; what a replica may have before it and still be on time."""

    interval_s: float
    requests: Ints  # that can be on time
    work_quanta: Ints  # of all
    allowed_quanta: float  # per ready replica
    replicas_at_start: int
    bounds: Bounds
    hopeless: int = 0  # requests whose own prompt takes longer than the objective
    gpus_per_replica: int = 1

    @property
    def quantum_s(self) -> float:
        """Replica-seconds."""
        return self.interval_s / QUANTA_PER_INTERVAL


def demand_of(setting: Setting) -> Demand:
    """The fluid of a setting, part after part where it comes in parts; UsageError where it has no such."""
    if setting.is_chained:
        raise UsageError("no bound is known where requests come, or are decoded elsewhere, only when others end")
    costs = _costs(setting)
    allowed_s = setting.ttft_s + max(cost.resident_s(setting.requests) for cost in costs)
    intervals = intervals_for(setting.span_s, setting.bounds.high, allowed_s)
    interval_s = max(setting.span_s, INTERVAL_MIN_S) / intervals
    requests, work, hopeless = np.zeros(intervals, np.int64), np.zeros(intervals), 0
    for part in (setting.requests, *(() if setting.more is None else setting.more())):
        index = np.minimum((part["arrived_at_s"] / interval_s).astype(np.int64), intervals - 1)
        can_be = np.minimum.reduce([cost.ttft_s(part) for cost in costs]) <= setting.ttft_s
        hopeless += int(len(part) - can_be.sum())
        requests += np.bincount(index[can_be], minlength=intervals)
        work += np.bincount(index, weights=_least_work_s(costs, part), minlength=intervals)
    quantum_s = interval_s / QUANTA_PER_INTERVAL
    return Demand(
        interval_s=interval_s,
        requests=requests,
        # Rounded down over the whole course, not interval by interval: never a quantum more than has come.
        work_quanta=np.diff(np.floor(np.cumsum(work) / quantum_s), prepend=0.0).astype(np.int64),
        allowed_quanta=allowed_s / quantum_s,
        replicas_at_start=setting.replicas_at_start,
        bounds=setting.bounds,
        hopeless=hopeless,
        gpus_per_replica=setting.gpus_per_replica,
    )


def _costs(setting: Setting) -> "list[Cost]":
    """On each machine that a replica may be, where nodes differ: who knows the future has the best for each request."""
    others = (replace(setting, config=one.config, times=one.times, on_class=()) for one in setting.on_class)
    return [Cost.of(one) for one in (setting, *others)]


def _least_work_s(costs: "Sequence[Cost]", requests: Records) -> Floats:
    least: Floats = np.minimum.reduce([cost.work_s(requests) for cost in costs])
    return least


def intervals_for(span_s: float, high: int, allowed_s: float) -> int:
    """As fine as 10 s, as far as the tables fit into memory; at least one."""
    intervals = max(1, min(INTERVALS_MAX, math.ceil(span_s / INTERVAL_MIN_S)))
    while intervals > 1:
        quantum_s = max(span_s, INTERVAL_MIN_S) / intervals / QUANTA_PER_INTERVAL
        if intervals * (high + 1) * grid_of(high, allowed_s / quantum_s + 1.0) <= CELLS_MAX:
            break
        intervals = int(intervals / COARSER_RATIO)
    return intervals


def grid_of(high: int, allowed_quanta: float) -> int:
    """Levels of work that are told apart."""
    return math.ceil(GRID_RATIO * high * allowed_quanta) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What requests cost on a setting's machine at least; the same way of sharing a step's base for all of them."""

    config: EngineConfig
    times: StepTimes
    shares_by_memory: bool  # else by seats

    @classmethod
    def of(cls, setting: Setting) -> "Cost":
        """Whichever is scarcer to the first part of the traffic. Memory that prompts share is not scarce."""
        by_memory, by_seats = (
            cls(config=setting.config, times=setting.times, shares_by_memory=choice) for choice in (True, False)
        )
        if setting.config.caches_prefixes:
            return by_seats
        shares = [one._shared_s(setting.requests).sum() for one in (by_memory, by_seats)]
        return by_memory if shares[0] >= shares[1] else by_seats

    def work_s(self, requests: Records) -> Floats:
        """Seconds of a replica, each."""
        return self._prefill_s(self._computed(requests)) + self._decode_s(requests) + self._shared_s(requests)

    def ttft_s(self, requests: Records) -> Floats:
        """To the first token on a replica that does nothing else."""
        prompt = self._computed(requests)
        steps = np.ceil(prompt / self.config.max_num_batched_tokens)
        return steps * (self.times.base_s + self.times.overhead_s) + self._prefill_s(prompt)

    def _computed(self, requests: Records) -> Floats:
        prompt, _ = _lengths(requests)
        # All but the last block may be cached.
        return np.minimum(prompt, self.config.block_size_tokens) if self.config.caches_prefixes else prompt

    def _prefill_s(self, prompt: Floats) -> Floats:
        return self.times.prefill_token_s * prompt + self.times.attention_pair_s * prompt * prompt / 2

    def resident_s(self, requests: Records) -> float:
        """Work left in a replica whose KV cache is full of requests that have just begun to decode."""
        prompt, output = _lengths(requests)
        held_tokens = float(_token_steps(prompt, output).sum() / output.sum())
        most = float(self.config.max_num_seqs)
        if not self.config.caches_prefixes:
            most = min(most, self.config.kv_capacity_tokens / held_tokens)
        return most * float((self._decode_s(requests) + self._shared_s(requests)).mean())

    def _decode_s(self, requests: Records) -> Floats:
        """The steps after the first token."""
        prompt, output = _lengths(requests)
        steps = output - 1
        read_tokens = steps * prompt + steps * (steps + 1) / 2
        return self.times.decode_sequence_s * steps + self.times.kv_token_s * read_tokens

    def _shared_s(self, requests: Records) -> Floats:
        """The least of what all requests of a step share."""
        prompt, output = _lengths(requests)
        fixed_s = self.times.base_s + self.times.overhead_s
        if self.shares_by_memory:
            return fixed_s * _token_steps(prompt, output) / self.config.kv_capacity_tokens
        return fixed_s * output / self.config.max_num_seqs


def _lengths(requests: Records) -> tuple[Floats, Floats]:
    return requests["prompt_tokens"].astype(np.float64), requests["output_tokens"].astype(np.float64)


def _token_steps(prompt: Floats, output: Floats) -> Floats:
    """Tokens held, summed over the steps that a request is part of."""
    return output * prompt + output * (output - 1) / 2
