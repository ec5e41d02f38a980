"""A fleet of compiled replicas: add, drain, advance in time, look at."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.replica import EngineConfig, StepTimes
from simulations.routing import Router

from .build import (
    TTFT_BUCKETS,
    Adapters,
    Machines,
    by_arrival,
    make_world,
    place_replica,
    take_finished,
    with_follows,
    with_requests,
)
from .follows import firsts_of, hang_up
from .gaps import GAP_BUCKETS, GAP_SUM, GAPS_WIDTH, PACE_SUM, PACES, gaps_of
from .kernel import advance, run_under_way
from .layout import POOLS, Counts, Records, World, without_parts
from .loss import lose_replica, stop_replica
from .names import BlockNames
from .records import check_order, check_requests, forget_course, request_records, requests_of

__all__ = [
    "Adapters",
    "CompiledFleet",
    "Gauges",
    "Load",
    "Router",
    "forget_course",
    "replay_compiled",
    "request_records",
    "requests_of",
]


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
    itl_counts: tuple[int, ...]  # likewise of GAP_BOUNDS_S: between two tokens, and the mean of that per ended request
    itl_sum_s: float
    tpot_counts: tuple[int, ...]
    tpot_sum_s: float


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
        names: BlockNames | None = None,
        follows: Records | None = None,
        keeps_gaps: bool = False,
        others: Machines = (),
        kinds: Machines = (),
        adapters: Adapters | None = None,
    ) -> None:
        """`others` are the machines of the pools after the first one; where none is said, it is that of the first.

        `kinds` are machines that single replicas may be on instead of their pool's.
        """
        machines = ((config, times), *(others or ((config, times),) * (POOLS - 1)), *kinds)
        self._narrowest = min((one for one, _ in machines), key=lambda one: one.max_model_len_tokens)
        self._world = make_world(machines, slots=slots, router=router, adapters=adapters)
        has_course = follows is not None or keeps_gaps or adapters is not None
        if not (has_course or router is Router.PREFIX_AWARE or config.caches_prefixes):
            self._world = without_parts(self._world)
        self._was_fed = False
        self._accept(requests, names, follows)
        if keeps_gaps:
            self._world = self._world._replace(gaps=np.zeros((len(requests), GAP_BUCKETS), np.int32))

    @property
    def requests(self) -> Records:
        """One record per request, in order of arrival; times that have not come are NaN. Taken ones are missing."""
        present = self._world.requests["prompt_tokens"] > 0
        if present.all() and not self._was_fed:
            return self._world.requests
        return by_arrival(self._world.requests[present])

    @property
    def world(self) -> World:
        """The state as it lies in memory, for sensors that read every replica at once."""
        return self._world

    @property
    def cached_tokens(self) -> NDArray[np.int32]:
        """Per request as in `requests`: prompt tokens that its first admission found in the prefix cache."""
        if not len(self._world.prefixes):
            return np.zeros(len(self._world.requests), np.int32)
        found: NDArray[np.int32] = self._world.prefixes["cached_tokens"]
        return found

    @property
    def gap_counts(self) -> Counts:
        """Requests x buckets of GAP_BOUNDS_S and +Inf: times between two tokens of a request that ended."""
        return self._world.gaps if len(self._world.gaps) else np.zeros((0, GAP_BUCKETS), np.int32)

    @property
    def events(self) -> int:
        """Changes of a batch that were computed."""
        return int(self._world.replicas["events"].sum())

    @property
    def held_requests(self) -> int:
        """Requests that arrived by now and found no replica yet."""
        now_s, first = float(self._world.course[0]["now_s"]), int(self._world.course[0]["next_request"])
        order, requests = self._world.order, self._world.requests
        due = self._world.due[: self._world.course[0]["due"]]
        held = int(np.count_nonzero(requests["arrived_at_s"][due] <= now_s)) if len(due) else 0
        if first == len(order) or requests[order[first]]["arrived_at_s"] > now_s:
            return held
        came = bisect_right(order, now_s, lo=first, key=lambda number: float(requests[number]["arrived_at_s"]))
        return held + came - first

    def feed(self, requests: Records, names: BlockNames | None = None) -> None:
        """More requests, none earlier than now or than those known before: a long course need not be in memory whole.

        Advance no further than the last one fed while there are more to come.
        """
        if len(self._world.follows) or len(self._world.gaps):
            raise ValueError("a fleet whose requests follow each other, or that keeps their gaps, cannot be fed")
        if len(requests):
            self._check_is_later(float(requests["arrived_at_s"][0]))
            self._accept(requests, names, None)
            self._was_fed = True

    def take_finished(self, *, in_order: bool = True) -> Records:
        """Hand out those that have all their tokens, in order of arrival; the fleet forgets them."""
        taken = take_finished(self._world)
        return by_arrival(taken) if in_order else taken

    def add(self, slot: int, *, ready_at_s: float, pool: int = 0, kind: int | None = None) -> None:
        """A new replica in this slot, for the requests of this pool; what was there before is forgotten.

        `kind` is a place in `kinds`; None: it is on the machine of its pool.
        """
        replica = self._world.replicas[slot]
        if replica["outstanding"]:
            raise ValueError(f"slot {slot} has {replica['outstanding']} requests on their way")
        number = None if kind is None else POOLS + kind
        place_replica(self._world, slot, ready_at_s=ready_at_s, pool=pool, number=number)

    def drain(self, slot: int) -> None:
        """No new requests; those that it has are served to their end."""
        self._world.replicas[slot]["accepts"] = 0

    def stop(self, slot: int) -> None:
        """Its machine is gone, and the router does not know it."""
        stop_replica(self._world, slot)

    def lose(self, slot: int) -> int:
        """It is gone, with all that it had; returns how many requests that were."""
        return lose_replica(self._world, slot, float(self._world.course[0]["now_s"]))

    def outstanding(self, slot: int) -> int:
        """Requests that a replica has, running and waiting."""
        return int(self._world.replicas[slot]["outstanding"])

    def last_finish_at_s(self, slot: int) -> float:
        """When a replica ended its last request; 0 where it ended none."""
        return float(self._world.replicas[slot]["last_finish_at_s"])

    def count_paces(self) -> None:
        """From now on the mean time between the tokens of each request that ends is counted, for who reads it."""
        self._world.course[0]["counts_paces"] = 1

    def advance(self, until_s: float) -> None:
        """Move time on; infinity: until every request that finds a replica has all its tokens."""
        advance(self._world, until_s)

    def close(self) -> None:
        """From now on nobody comes because another request ended; what came by now, and its decoding, is served."""
        hang_up(self._world)

    def load(self, slot: int) -> Load:
        """The gauges that change with every step."""
        world, replica = self._world, self._world.replicas[slot]
        waiting = int(replica["waiting"])
        free = int(replica["free_blocks"]) - run_under_way(world, slot)[1]
        return Load(
            running_requests=int(replica["outstanding"]) - waiting,
            waiting_requests=waiting,
            kv_cache_usage_ratio=1.0 - free / int(world.machine["usable_blocks"][replica["machine"]]),
        )

    def replica_gap_counts(self, slot: int) -> tuple[int, ...]:
        """The same of a replica since its start, as of the latest change of its batch."""
        first = int(self._world.replicas[slot]["gaps_at"]) + GAP_BUCKETS
        return tuple(self._world.rows[first : first + GAP_BUCKETS].tolist())

    def gauges(self, slot: int) -> Gauges:
        """What a replica would tell now."""
        replica, load = self._world.replicas[slot], self.load(slot)
        ended, ttft_at = max(0, run_under_way(self._world, slot)[0] - 1), int(replica["ttft_at"])
        gaps = np.empty(GAPS_WIDTH)
        gaps_of(self._world, slot, ended, gaps)
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
            itl_counts=tuple(map(int, gaps[:GAP_SUM])),
            itl_sum_s=float(gaps[GAP_SUM]),
            tpot_counts=tuple(map(int, gaps[PACES:PACE_SUM])),
            tpot_sum_s=float(gaps[PACE_SUM]),
        )

    def _accept(self, requests: Records, names: BlockNames | None, follows: Records | None) -> None:
        check_requests(requests, self._narrowest)
        if follows is None and len(self._world.loras):
            raise ValueError("which request has which adapter is said by what follows them")
        if follows is not None and len(follows) != len(requests):
            raise ValueError(f"there are {len(follows)} records of what follows {len(requests)} requests")
        arrived_at_s = requests["arrived_at_s"]
        check_order(arrived_at_s if follows is None else arrived_at_s[firsts_of(follows, len(requests))])
        if names is not None and names.requests != len(requests):
            raise ValueError(f"there are names of {names.requests} requests, but {len(requests)} requests")
        world = with_requests(self._world, requests, names)
        if follows is not None:
            world = with_follows(world, follows)
        self._world = world

    def _check_is_later(self, arrived_at_s: float) -> None:
        world = self._world
        last_s = float(world.requests[world.order[-1]]["arrived_at_s"]) if len(world.order) else -math.inf
        known_to_s = max(last_s, float(world.course[0]["now_s"]))
        if arrived_at_s < known_to_s:
            raise ValueError(f"a request fed for {arrived_at_s} s comes before {known_to_s} s, which is past or known")


def replay_compiled(
    requests: Records,
    replicas: int,
    config: EngineConfig,
    times: StepTimes,
    *,
    router: Router = Router.LEAST_OUTSTANDING,
    names: BlockNames | None = None,
    follows: Records | None = None,
    pools: Sequence[int] = (),
    keeps_gaps: bool = False,
    others: Machines = (),
    kinds: Machines = (),
    kind_of: Sequence[int | None] = (),
    adapters: Adapters | None = None,
) -> CompiledFleet:
    """Serve all requests with a fleet of a fixed size: `simulations.fleet.replay_static`, fast."""
    if replicas < 1:
        raise ValueError(f"a fleet of {replicas} replicas serves nobody")
    fleet = CompiledFleet(
        requests,
        config,
        times,
        slots=replicas,
        router=router,
        names=names,
        follows=follows,
        keeps_gaps=keeps_gaps,
        others=others,
        kinds=kinds,
        adapters=adapters,
    )
    for slot in range(replicas):
        pool, kind = pools[slot] if pools else 0, kind_of[slot] if kind_of else None
        fleet.add(slot, ready_at_s=-math.inf, pool=pool, kind=kind)
    fleet.advance(math.inf)
    return fleet
