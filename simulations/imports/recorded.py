"""Decisions that a real HorizontalPodAutoscaler made, and what the rule says of the same syncs.

A recording holds, per object, the object itself and every sync: when, the number and the pods there were, and what
the metrics API answered. The decision of a sync is the number that the next one found.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.policies import Bounds
from simulations.policies.hpa import Hpa
from simulations.policies.hpa_limits import Unruled

from .objects import import_policy

PODS_METRIC = "vllm_num_requests_running"  # of each pod
TOTAL_METRIC = "vllm_num_requests_waiting"  # of all of them, as an External metric
BOUNDS = Bounds(low=1, high=1000)  # wider than any recorded object's


class Sync(TypedDict):
    """One look of the real controller. `per_pod`: of the running pods; null where one had no metric."""

    at_s: float
    replicas: int
    running: int
    pending: int
    per_pod: Sequence[float | None] | None  # None: not asked for
    total: float | None  # None: the API had none


class Recording(TypedDict):
    """One object's course."""

    hpa: Mapping[str, object]
    down_window_s: float  # --horizontal-pod-autoscaler-downscale-stabilization
    syncs: Sequence[Sync]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One sync, decided twice."""

    name: str
    at_s: float
    replicas: int
    real: int
    rule: int


def replayed(recording: Recording) -> Iterator[Decision]:
    """The rule on what the real controller saw; it always goes on from the real number."""
    imported = import_policy(json.dumps(recording["hpa"]), BOUNDS)
    limits = imported.policy.limits if isinstance(imported.policy, Hpa) else None
    if isinstance(limits, Unruled):
        limits.down_window_s = recording["down_window_s"]
    for sync, following in pairwise(recording["syncs"]):
        wish = imported.policy.wish(_seen(sync), sync["at_s"])
        yield Decision(
            name=imported.name,
            at_s=sync["at_s"],
            replicas=sync["replicas"],
            real=following["replicas"],
            rule=sync["replicas"] if wish is None else wish.replicas,
        )


def _seen(sync: Sync) -> Observation:
    running = [_pod(number, sync) for number in range(sync["running"])]
    pending = [
        PodSeen(name=f"pending-{number}", phase=PodPhase.UNSCHEDULABLE, created_at_s=0.0)
        for number in range(sync["pending"])
    ]
    return Observation(service="recorded", replicas=sync["replicas"], pods=(*running, *pending))


def _pod(number: int, sync: Sync) -> PodSeen:
    """The first one carries what is said of all."""
    values = sync["per_pod"]
    signals = PodSignals(
        observed_at_s=sync["at_s"],
        window_s=0.0,
        running_requests=None if values is None else values[number],
        waiting_requests=sync["total"] if number == 0 else None,
    )
    return PodSeen(name=f"running-{number}", phase=PodPhase.READY, created_at_s=0.0, signals=signals)
