"""A fixed number of replicas serving a list of arrivals: what a static fleet would have done.

Pure and deterministic: the replicas are `simulations.replica` engines, `simulations.routing` sends the arrivals.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from simulations.replica import AdapterLimits, Engine, EngineConfig, Finished, Request, StepTimes
from simulations.routing import Candidate, Gateway, Router

Machine = tuple[EngineConfig, StepTimes]


class Arrival(Protocol):
    """What a replay needs to know of one request."""

    @property
    def at_s(self) -> float: ...

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def output_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetResult:
    """Every request's way through the fleet, in the order of the arrivals."""

    replicas: int
    requests: tuple[Finished, ...]
    started_at_s: float
    ended_at_s: float  # the last token
    gaps_s: tuple[tuple[float, ...], ...] = ()  # per request, between its tokens

    def attainment_ratio(self, *, ttft_s: float) -> float:
        """Share of the requests whose first token came within `ttft_s`; 1 where there was none."""
        if not self.requests:
            return 1.0
        return sum(1 for finished in self.requests if finished.ttft_s <= ttft_s) / len(self.requests)

    def ttft_quantile_s(self, quantile: float) -> float | None:
        """The smallest TTFT that at least this share of the requests stayed within."""
        return _quantile([finished.ttft_s for finished in self.requests], quantile)

    def e2e_quantile_s(self, quantile: float) -> float | None:
        """The same of the whole latency."""
        return _quantile([finished.e2e_s for finished in self.requests], quantile)

    @property
    def replica_seconds(self) -> float:
        """What the fleet cost from the first arrival to the last token."""
        return self.replicas * (self.ended_at_s - self.started_at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """What comes after a request, and which replicas may serve it."""

    next_request: int | None = None  # which comes when this one has ended, and not by itself
    think_s: float = 0.0  # from this one's end to the next one's arrival
    received_tokens: int = 0  # of the prompt, whose KV comes with it
    pool: int = 0
    adapter: int = 0


class Replica:
    """An engine that is run on demand up to a moment of virtual time."""

    def __init__(self, config: EngineConfig, times: StepTimes, adapters: AdapterLimits | None = None) -> None:
        self.engine = Engine(config, times, adapters)
        self.finished: list[Finished] = []
        self.gaps_s: dict[int, list[float]] = {}  # between two tokens, per request
        self._idle_since_s = -math.inf

    def as_candidate(self, slot: int) -> Candidate:
        """What a router sees."""
        return Candidate(
            slot=slot,
            outstanding=self.engine.outstanding_requests,
            waiting=self.engine.waiting_requests,
            kv_usage_ratio=self.engine.kv_usage_ratio,
        )

    def run_until(self, until_s: float) -> None:
        """End every step that ends by `until_s`, start every step that starts before it."""
        while self.ends_at_s() <= until_s < math.inf or self.ends_at_s() < until_s:
            self.end_step()

    def ends_at_s(self) -> float:
        """When the step under way ends, of which it begins one where it can; infinite: nothing to do."""
        step = self.engine.step
        if step is None:
            ready_at_s = self.engine.ready_at_s()
            if ready_at_s is not None:
                step = self.engine.start_step(max(ready_at_s, self._idle_since_s))
        return math.inf if step is None else step.ends_at_s

    def end_step(self) -> tuple[Finished, ...]:
        """End the step under way; who is done with it."""
        result = self.engine.finish_step()
        for token in result.tokens:
            if token.gap_s is not None:
                self.gaps_s.setdefault(int(token.request_id), []).append(token.gap_s)
        self._idle_since_s = result.ended_at_s
        self.finished += result.finished
        return result.finished


def replay_static(
    arrivals: Iterable[Arrival],
    replicas: int,
    engine_config: EngineConfig,
    step_times: StepTimes,
    *,
    block_names: Sequence[Sequence[int]] = (),
    follows: Sequence[Follow] = (),
    pools: Sequence[int] = (),
    router: Router = Router.LEAST_OUTSTANDING,
    others: Sequence[Machine] = (),
    kinds: Sequence[Machine] = (),
    kind_of: Sequence[int | None] = (),
    adapters: AdapterLimits | None = None,
) -> FleetResult:
    """Send arrivals, sorted by time, through a fleet of a fixed size until all have all their tokens.

    `block_names` are those of each request's leading blocks (`Request.prefix_block_ids`). With `follows`, one that
    follows another has no time of its own. `pools` are those of the replicas; 0 for all where there are none. `others`
    are the machines of the pools after the first; `kinds` those that single replicas are on instead, as `kind_of` says.
    """
    if replicas < 1:
        raise ValueError(f"a fleet of {replicas} replicas serves nobody")
    planned, homes = list(arrivals), list(pools) or [0] * replicas
    machines = [((engine_config, step_times), *others)[min(pool, len(others))] for pool in homes]
    fleet = _fleet(machines, kinds, kind_of, adapters)
    blocks, size = [one.engine.config.usable_blocks for one in fleet], engine_config.block_size_tokens
    gateways = {pool: Gateway(router, blocks, block_size_tokens=size) for pool in set(homes)}
    after = list(follows) or [Follow()] * len(planned)
    due = _due_from_the_start(planned, after)
    started_at_s = due[0][0] if due else 0.0
    while True:
        replica = min(fleet, key=Replica.ends_at_s)
        if replica.ends_at_s() <= (due[0][0] if due else math.inf) and replica.ends_at_s() < math.inf:
            _call_who_follows(replica.end_step(), after, due)
            continue
        if not due:
            break
        at_s, number = heapq.heappop(due)
        serving = [one.as_candidate(slot) for slot, one in enumerate(fleet) if homes[slot] == after[number].pool]
        names = block_names[number] if block_names else ()
        request = _request(number, planned[number], at_s, names, after[number])
        shared = names if engine_config.caches_prefixes else ()
        chosen = gateways[after[number].pool].choose(number, request.prompt_tokens, shared, serving)
        fleet[chosen].engine.submit(request)
    return _result(fleet, started_at_s)


def _fleet(
    machines: Sequence[Machine], kinds: Sequence[Machine], kind_of: Sequence[int | None], adapters: AdapterLimits | None
) -> list[Replica]:
    """Each on the machine of its pool, or on one of another kind."""
    kind_of = list(kind_of) or [None] * len(machines)
    return [
        Replica(*(usual if kind is None else kinds[kind]), adapters)
        for usual, kind in zip(machines, kind_of, strict=True)
    ]


def _call_who_follows(ended: Iterable[Finished], after: Sequence[Follow], due: list[tuple[float, int]]) -> None:
    """Those who waited for one that ended arrive when they have thought."""
    for done in ended:
        follow = after[int(done.request.id)]
        if follow.next_request is not None:
            heapq.heappush(due, (done.finished_at_s + follow.think_s, follow.next_request))


def _due_from_the_start(planned: Sequence[Arrival], after: Sequence[Follow]) -> list[tuple[float, int]]:
    """A heap of the arrivals that wait for no other, with their numbers."""
    later = {follow.next_request for follow in after}
    due = [(arrival.at_s, number) for number, arrival in enumerate(planned) if number not in later]
    heapq.heapify(due)
    return due


def _result(fleet: Sequence[Replica], started_at_s: float) -> FleetResult:
    finished = sorted((done for one in fleet for done in one.finished), key=lambda done: int(done.request.id))
    gaps_s = {number: gaps for one in fleet for number, gaps in one.gaps_s.items()}
    return FleetResult(
        replicas=len(fleet),
        requests=tuple(finished),
        gaps_s=tuple(tuple(gaps_s.get(int(done.request.id), ())) for done in finished),
        started_at_s=started_at_s,
        ended_at_s=max((done.finished_at_s for done in finished), default=0.0),
    )


def _request(number: int, arrival: Arrival, at_s: float, names: Sequence[int], follow: Follow) -> Request:
    return Request(
        id=str(number),
        prompt_tokens=arrival.prompt_tokens,
        output_tokens=arrival.output_tokens,
        arrived_at_s=at_s,
        prefix_block_ids=tuple(names),
        received_tokens=follow.received_tokens,
        adapter=follow.adapter,
    )


def _quantile(values: Sequence[float], quantile: float) -> float | None:
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"quantile {quantile} is not in (0, 1]")
    ordered = sorted(values)
    return ordered[math.ceil(quantile * len(ordered)) - 1] if ordered else None
