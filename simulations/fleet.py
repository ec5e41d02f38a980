"""A fixed number of replicas serving a list of arrivals: what a static fleet would have done.

Pure and deterministic: the replicas are `simulations.replica` engines, the router sends each arrival to
the replica with the fewest outstanding requests (the first of them where several are equal).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from simulations.replica import Engine, EngineConfig, Finished, Request, StepTimes


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


class Replica:
    """An engine that is run on demand up to a moment of virtual time."""

    def __init__(self, config: EngineConfig, times: StepTimes) -> None:
        self.engine = Engine(config, times)
        self.finished: list[Finished] = []
        self._idle_since_s = -math.inf

    def run_until(self, until_s: float) -> None:
        """End every step that ends by `until_s`, start every step that starts before it."""
        while True:
            step = self.engine.step
            if step is None:
                ready_at_s = self.engine.ready_at_s()
                if ready_at_s is None:
                    return
                step = self.engine.start_step(max(ready_at_s, self._idle_since_s))
            if step is None or step.ends_at_s > until_s:
                return
            result = self.engine.finish_step()
            self._idle_since_s = result.ended_at_s
            self.finished += result.finished


def replay_static(
    arrivals: Iterable[Arrival],
    replicas: int,
    engine_config: EngineConfig,
    step_times: StepTimes,
    *,
    block_names: Sequence[Sequence[int]] = (),
) -> FleetResult:
    """Send arrivals, sorted by time, through a fleet of a fixed size until all have all their tokens.

    `block_names` are those of each request's leading blocks (`Request.prefix_block_ids`).
    """
    if replicas < 1:
        raise ValueError(f"a fleet of {replicas} replicas serves nobody")
    fleet = [Replica(engine_config, step_times) for _ in range(replicas)]
    requests = [
        _request(number, arrival, block_names[number] if block_names else ()) for number, arrival in enumerate(arrivals)
    ]
    for request in requests:
        for replica in fleet:
            replica.run_until(request.arrived_at_s)
        min(fleet, key=lambda replica: replica.engine.outstanding_requests).engine.submit(request)
    for replica in fleet:
        replica.run_until(math.inf)
    finished = sorted((done for replica in fleet for done in replica.finished), key=lambda done: int(done.request.id))
    return FleetResult(
        replicas=replicas,
        requests=tuple(finished),
        started_at_s=requests[0].arrived_at_s if requests else 0.0,
        ended_at_s=max((done.finished_at_s for done in finished), default=0.0),
    )


def _request(number: int, arrival: Arrival, names: Sequence[int]) -> Request:
    return Request(
        id=str(number),
        prompt_tokens=arrival.prompt_tokens,
        output_tokens=arrival.output_tokens,
        arrived_at_s=arrival.at_s,
        prefix_block_ids=tuple(names),
    )


def _quantile(values: Sequence[float], quantile: float) -> float | None:
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"quantile {quantile} is not in (0, 1]")
    ordered = sorted(values)
    return ordered[math.ceil(quantile * len(ordered)) - 1] if ordered else None
