"""Work that arrives, in tokens per second: what is served, plus the backlog as a flow."""

from dataclasses import dataclass

from autoscaler.policy.supply import Fleet

# What waits should be gone within a minute; 30 s and 120 s cost the same within 1 % (scaling-theory §2.1).
BACKLOG_DRAIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Token rates of the replicas that we see."""

    served_tokens_per_s: float
    backlog_tokens: float
    rated: int  # replicas whose rate is known

    @property
    def tokens_per_s(self) -> float:
        """What must be served for the backlog to be gone in time."""
        return self.served_tokens_per_s + self.backlog_tokens / BACKLOG_DRAIN_S


def read_demand(fleet: Fleet, upstream_waiting: float) -> Demand | None:
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
    tokens_per_request = finishing / finished if finished > 0 else 0.0
    waiting = upstream_waiting
    for requests in fleet.waiting_requests:
        waiting += requests or 0.0
    return Demand(served_tokens_per_s=served, backlog_tokens=waiting * tokens_per_request, rated=rated)
