"""A fleet of compiled replicas: add, drain, advance in time, look at."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from simulations.fleet import Arrival
from simulations.replica import EngineConfig, RequestTooLongError, StepTimes

from .blocks import growth_within
from .errors import UnsupportedConfigError
from .kernel import advance
from .layout import COURSE, MACHINE, NOBODY, REPLICA, REQUEST, TTFT_BOUNDS_S, Records, World
from .timing import steps_started

Column = NDArray[np.float64] | NDArray[np.int32]
TTFT_BUCKETS = len(TTFT_BOUNDS_S) + 1  # one more for +Inf


class Router(Enum):
    """Who gets the next request."""

    LEAST_OUTSTANDING = "least-outstanding"  # the first of those with the fewest
    ROUND_ROBIN = "round-robin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy one replica is at a moment."""

    running_requests: int
    waiting_requests: int
    kv_cache_usage_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What one replica's metrics page would say at a moment; totals count from its start."""

    running_requests: int
    waiting_requests: int
    kv_cache_usage_ratio: float
    prompt_tokens_total: int
    generation_tokens_total: int
    finished_requests_total: int
    preemptions_total: int
    ttft_counts: tuple[int, ...]  # per bucket of TTFT_BOUNDS_S, not cumulated; the last is +Inf
    ttft_sum_s: float


class CompiledFleet:
    """Requests are known from the start; replicas come and go while time moves."""

    def __init__(
        self,
        requests: Records,
        config: EngineConfig,
        times: StepTimes,
        *,
        slots: int,
        router: Router = Router.LEAST_OUTSTANDING,
    ) -> None:
        _check(requests, config)
        self._heap_length, self._growth_length = config.max_num_seqs, config.block_size_tokens
        self._stride = self._heap_length + self._growth_length + TTFT_BUCKETS
        course = np.zeros(1, COURSE)
        course["now_s"] = -math.inf
        course["takes_turns"] = router is Router.ROUND_ROBIN
        course["last_turn"] = NOBODY
        self._world = World(
            course=course,
            machine=_machine(config, times),
            requests=requests,
            replicas=np.zeros(slots, REPLICA),
            rows=np.zeros(slots * self._stride, np.int64),
        )
        self._world.replicas["event_at_s"] = math.inf

    @property
    def requests(self) -> Records:
        """One record per request, in order of arrival; times that have not come are NaN."""
        return self._world.requests

    @property
    def events(self) -> int:
        """Changes of a batch that were computed."""
        return int(self._world.replicas["events"].sum())

    @property
    def held_requests(self) -> int:
        """Requests that arrived by now and found no replica yet."""
        course, arrived_at_s = self._world.course[0], self._world.requests["arrived_at_s"]
        return int(np.searchsorted(arrived_at_s, course["now_s"], side="right") - course["next_request"])

    def add(self, slot: int, *, ready_at_s: float) -> None:
        """A new replica in this slot; what was there before is forgotten."""
        replica = self._world.replicas[slot]
        if replica["outstanding"]:
            raise ValueError(f"slot {slot} has {replica['outstanding']} requests on their way")
        self._world.replicas[slot] = np.zeros((), REPLICA)
        for field in ("partial", "prefilled_from", "run_head", "run_tail", "wait_head", "wait_tail"):
            replica[field] = NOBODY
        replica["event_at_s"] = math.inf
        replica["ready_at_s"] = ready_at_s
        replica["accepts"] = 1
        replica["free_blocks"] = self._world.machine["usable_blocks"][0]
        course = self._world.course[0]
        course["slots"] = max(course["slots"], slot + 1)
        first = slot * self._stride
        self._world.rows[first : first + self._stride] = 0
        replica["heap_at"] = first
        replica["growth_at"] = first + self._heap_length
        replica["ttft_at"] = first + self._heap_length + self._growth_length

    def drain(self, slot: int) -> None:
        """No new requests; those that it has are served to their end."""
        self._world.replicas[slot]["accepts"] = 0

    def outstanding(self, slot: int) -> int:
        """Requests that a replica has, running and waiting."""
        return int(self._world.replicas[slot]["outstanding"])

    def last_finish_at_s(self, slot: int) -> float:
        """When a replica ended its last request; 0 where it ended none."""
        return float(self._world.replicas[slot]["last_finish_at_s"])

    def advance(self, until_s: float) -> None:
        """Move time on; infinity: until every request that finds a replica has all its tokens."""
        advance(self._world, until_s)

    def load(self, slot: int) -> Load:
        """The gauges that change with every step."""
        world, replica = self._world, self._world.replicas[slot]
        free, waiting = int(replica["free_blocks"]), int(replica["waiting"])
        started = self._steps_started(slot)
        if started:
            free -= growth_within(world.machine[0], replica, world.rows, started)
        return Load(
            running_requests=int(replica["outstanding"]) - waiting,
            waiting_requests=waiting,
            kv_cache_usage_ratio=1.0 - free / int(world.machine["usable_blocks"][0]),
        )

    def gauges(self, slot: int) -> Gauges:
        """What a replica would tell now."""
        replica, load = self._world.replicas[slot], self.load(slot)
        ended, ttft_at = max(0, self._steps_started(slot) - 1), int(replica["ttft_at"])
        return Gauges(
            running_requests=load.running_requests,
            waiting_requests=load.waiting_requests,
            kv_cache_usage_ratio=load.kv_cache_usage_ratio,
            prompt_tokens_total=int(replica["prompt_tokens"]),
            generation_tokens_total=int(replica["generated_tokens"] + ended * replica["decoding"]),
            finished_requests_total=int(replica["finished"]),
            preemptions_total=int(replica["preemptions"]),
            ttft_counts=tuple(self._world.rows[ttft_at : ttft_at + TTFT_BUCKETS].tolist()),
            ttft_sum_s=float(replica["ttft_sum_s"]),
        )

    def _steps_started(self, slot: int) -> int:
        """Of the run of equal steps under way; 0 where there is none."""
        world, replica = self._world, self._world.replicas[slot]
        if not replica["jump_steps"]:
            return 0
        return steps_started(world.machine[0], replica, float(world.course[0]["now_s"]))


def request_records(arrivals: Iterable[Arrival]) -> Records:
    """The kernel's records of requests that have not come yet; arrivals must be in order of time."""
    rows = [(arrival.at_s, arrival.prompt_tokens, arrival.output_tokens) for arrival in arrivals]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return requests_of(columns[:, 0], columns[:, 1], columns[:, 2])


def requests_of(arrived_at_s: Column, prompt_tokens: Column, output_tokens: Column) -> Records:
    """The same from columns."""
    records = np.zeros(len(arrived_at_s), REQUEST)
    records["arrived_at_s"], records["prompt_tokens"], records["output_tokens"] = (
        arrived_at_s,
        prompt_tokens,
        output_tokens,
    )
    return forget_course(records)


def forget_course(records: Records) -> Records:
    """The same requests, to be served again."""
    fresh = np.zeros(len(records), REQUEST)
    for field in ("arrived_at_s", "prompt_tokens", "output_tokens"):
        fresh[field] = records[field]
    for field in ("scheduled_at_s", "first_token_at_s", "finished_at_s"):
        fresh[field] = math.nan
    for field in ("next", "prev", "replica"):
        fresh[field] = NOBODY
    return fresh


def replay_compiled(
    requests: Records,
    replicas: int,
    config: EngineConfig,
    times: StepTimes,
    *,
    router: Router = Router.LEAST_OUTSTANDING,
) -> CompiledFleet:
    """Serve all requests with a fleet of a fixed size: `simulations.fleet.replay_static`, fast."""
    if replicas < 1:
        raise ValueError(f"a fleet of {replicas} replicas serves nobody")
    fleet = CompiledFleet(requests, config, times, slots=replicas, router=router)
    for slot in range(replicas):
        fleet.add(slot, ready_at_s=-math.inf)
    fleet.advance(math.inf)
    return fleet


def _machine(config: EngineConfig, times: StepTimes) -> Records:
    machine = np.zeros(1, MACHINE)
    machine["base_s"] = times.base_s + times.overhead_s
    for field in ("prefill_token_s", "decode_sequence_s", "kv_token_s", "attention_pair_s"):
        machine[field] = getattr(times, field)
    for field in ("max_num_seqs", "max_num_batched_tokens", "usable_blocks", "block_size_tokens"):
        machine[field] = getattr(config, field)
    machine["reserves_full_prompt"] = config.reserves_full_prompt
    return machine


def _check(requests: Records, config: EngineConfig) -> None:
    if config.caches_prefixes:
        raise UnsupportedConfigError("EngineConfig.caches_prefixes is True, the compiled engine has no prefix cache")
    total_tokens = requests["prompt_tokens"].astype(np.int64) + requests["output_tokens"]
    if len(requests) and total_tokens.max() > config.max_model_len_tokens:
        number = int(total_tokens.argmax())
        raise RequestTooLongError(
            f"request {number} has {total_tokens[number]} tokens, max_model_len is {config.max_model_len_tokens}"
        )
    if len(requests) and min(requests["prompt_tokens"].min(), requests["output_tokens"].min()) < 1:
        raise ValueError("every request must have at least 1 prompt token and 1 output token")
    if (np.diff(requests["arrived_at_s"]) < 0).any():
        raise ValueError("requests must be in order of their arrival")
