"""A fleet of compiled replicas: add, drain, advance in time, look at."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

import numpy as np

from simulations.replica import EngineConfig, StepTimes

from .blocks import growth_within
from .errors import UnsupportedConfigError
from .kernel import advance
from .layout import COURSE, MACHINE, NOBODY, REPLICA, REQUEST, TTFT_BOUNDS_S, Records, World
from .records import check_requests, forget_course, put_records, request_records, requests_of, take_records
from .timing import steps_started

__all__ = [
    "CompiledFleet",
    "Gauges",
    "Load",
    "Router",
    "forget_course",
    "replay_compiled",
    "request_records",
    "requests_of",
]

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
    """Replicas come and go while time moves; requests are known from the start, or fed as they come."""

    def __init__(
        self,
        requests: Records,
        config: EngineConfig,
        times: StepTimes,
        *,
        slots: int,
        router: Router = Router.LEAST_OUTSTANDING,
    ) -> None:
        if config.caches_prefixes:
            raise UnsupportedConfigError(
                "EngineConfig.caches_prefixes is True, the compiled engine has no prefix cache"
            )
        check_requests(requests, config)
        self._config = config
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
            order=np.arange(len(requests), dtype=np.int32),
            replicas=np.zeros(slots, REPLICA),
            rows=np.zeros(slots * self._stride, np.int64),
        )
        self._world.replicas["event_at_s"] = math.inf
        self._was_fed = False

    @property
    def requests(self) -> Records:
        """One record per request, in order of arrival; times that have not come are NaN. Taken ones are missing."""
        present = self._world.requests["prompt_tokens"] > 0
        if present.all() and not self._was_fed:
            return self._world.requests
        return _by_arrival(self._world.requests[present])

    @property
    def world(self) -> World:
        """The state as it lies in memory, for sensors that read every replica at once."""
        return self._world

    @property
    def events(self) -> int:
        """Changes of a batch that were computed."""
        return int(self._world.replicas["events"].sum())

    @property
    def held_requests(self) -> int:
        """Requests that arrived by now and found no replica yet."""
        now_s, first = float(self._world.course[0]["now_s"]), int(self._world.course[0]["next_request"])
        order, requests = self._world.order, self._world.requests
        if first == len(order) or requests[order[first]]["arrived_at_s"] > now_s:
            return 0
        return bisect_right(order, now_s, lo=first, key=lambda number: float(requests[number]["arrived_at_s"])) - first

    def feed(self, requests: Records) -> None:
        """More requests, none earlier than now or than those known before: a long course need not be in memory whole.

        Advance no further than the last one fed while there are more to come.
        """
        check_requests(requests, self._config)
        if not len(requests):
            return
        self._check_follows(float(requests["arrived_at_s"][0]))
        world, count = self._world, len(requests)
        free = np.flatnonzero(world.requests["prompt_tokens"] == 0)
        missing = count - len(free)
        if missing > 0:
            grown = np.concatenate([world.requests, np.zeros(missing, REQUEST)])
            free = np.concatenate([free, np.arange(len(world.requests), len(grown))])
        else:
            grown = world.requests
        places = free[:count].astype(np.int32)
        put_records(grown, places, requests)
        order = np.concatenate([world.order[world.course[0]["next_request"] :], places])
        world.course[0]["next_request"] = 0
        self._world = world._replace(requests=grown, order=order)
        self._was_fed = True

    def take_finished(self, *, in_order: bool = True) -> Records:
        """Hand out those that have all their tokens, in order of arrival; the fleet forgets them."""
        requests = self._world.requests
        taken = np.empty(len(requests), REQUEST)
        taken = taken[: take_records(requests, taken)]
        return _by_arrival(taken) if in_order else taken

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

    def _check_follows(self, arrived_at_s: float) -> None:
        world = self._world
        last_s = float(world.requests[world.order[-1]]["arrived_at_s"]) if len(world.order) else -math.inf
        known_to_s = max(last_s, float(world.course[0]["now_s"]))
        if arrived_at_s < known_to_s:
            raise ValueError(f"a request fed for {arrived_at_s} s comes before {known_to_s} s, which is past or known")

    def _steps_started(self, slot: int) -> int:
        """Of the run of equal steps under way; 0 where there is none."""
        world, replica = self._world, self._world.replicas[slot]
        if not replica["jump_steps"]:
            return 0
        return steps_started(world.machine[0], replica, float(world.course[0]["now_s"]))


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


def _by_arrival(requests: Records) -> Records:
    return requests[np.argsort(requests["arrived_at_s"], kind="stable")]


def _machine(config: EngineConfig, times: StepTimes) -> Records:
    machine = np.zeros(1, MACHINE)
    machine["base_s"] = times.base_s + times.overhead_s
    for field in ("prefill_token_s", "decode_sequence_s", "kv_token_s", "attention_pair_s"):
        machine[field] = getattr(times, field)
    for field in ("max_num_seqs", "max_num_batched_tokens", "usable_blocks", "block_size_tokens"):
        machine[field] = getattr(config, field)
    machine["reserves_full_prompt"] = config.reserves_full_prompt
    return machine
