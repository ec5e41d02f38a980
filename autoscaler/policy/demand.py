"""Work that arrives, in tokens per second: what is served, plus the backlog as a flow."""

import math
from dataclasses import dataclass

from autoscaler.policy.supply import Fleet

# What waits should be gone in half a minute; 60 s and 120 s cost the same within 1 % in replays of real traffic.
BACKLOG_DRAIN_S = 30.0


# No model reads or writes more for one request; a larger mean comes from a counter that hardly moves.
REQUEST_MAX_TOKENS = 10_000_000.0
# A queue is seen to grow over at least one scrape under load (2 s), and over the last ten seconds at most.
GROWTH_MIN_S, GROWTH_MAX_S = 2.0, 10.0
# Looks at the queue kept for that; wakes may come faster than scrapes.
KEPT_LOOKS = 16

QueueLook = tuple[float, float]  # (at_s, requests waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Token rates of the replicas that we see."""

    served_tokens_per_s: float
    backlog_tokens: float
    growth_tokens_per_s: float  # of the backlog, where it grows
    rated: int  # replicas whose rate is known

    @property
    def tokens_per_s(self) -> float:
        """What must be served for the backlog to be gone in time."""
        return self.served_tokens_per_s + self.backlog_tokens / BACKLOG_DRAIN_S


def read_demand(fleet: Fleet, upstream_waiting: float, looks: tuple[QueueLook, ...]) -> Demand | None:
    """Tokens per second over all replicas whose rate is known; None where none is."""
    served = finished = finishing = 0.0
    rated = 0
    for sample, rate in zip(fleet.signals, fleet.tokens_per_s, strict=True):
        if rate is None:
            continue
        rated += 1
        served += rate
        if sample.finished_requests_per_s:
            finished += sample.finished_requests_per_s
            finishing += rate
    if rated == 0:
        return None
    tokens_per_request = min(finishing / finished, REQUEST_MAX_TOKENS) if finished > 0 else 0.0
    waiting = all_waiting(fleet, upstream_waiting)
    return Demand(
        served_tokens_per_s=served,
        backlog_tokens=waiting * tokens_per_request,
        growth_tokens_per_s=_growth_per_s(waiting, fleet.newest_sample_s, looks) * tokens_per_request,
        rated=rated,
    )


def all_waiting(fleet: Fleet, upstream_waiting: float) -> float:
    """Requests waiting in the replicas that we see, and before them."""
    waiting = upstream_waiting
    for requests in fleet.waiting_requests:
        waiting += requests or 0.0
    return waiting


def _growth_per_s(waiting: float, at_s: float, looks: tuple[QueueLook, ...]) -> float:
    """The steepest rise up to now: a burst shows its rate within a scrape, long before its backlog does."""
    steepest = 0.0
    for before_s, before in looks:
        if GROWTH_MIN_S <= at_s - before_s <= GROWTH_MAX_S and waiting > before:
            steepest = max(steepest, (waiting - before) / (at_s - before_s))
    return steepest


def looked(looks: tuple[QueueLook, ...], waiting: float, at_s: float) -> tuple[QueueLook, ...]:
    """Remember a look at the queue, once per newest sample."""
    if not math.isfinite(at_s) or (looks and looks[-1][0] >= at_s):
        return looks if math.isfinite(at_s) else ()
    kept = [look for look in looks if at_s - look[0] <= GROWTH_MAX_S]
    return (*kept[1 - KEPT_LOOKS :], (at_s, waiting))
