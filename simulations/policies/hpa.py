"""The HorizontalPodAutoscaler's rule, as kube-controller-manager computes it.

After `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go` of Kubernetes 1.36: the replicas of each
metric, the largest of them; then the limits of `hpa_limits`. Quantities are whole thousandths, as there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from autoscaler.policy.types import Observation, PodPhase
from metrics.sample import PodSignals

from .base import Cadence, Queries, Wish, ready_pods
from .hpa_limits import Limits, Tolerances

SYNC_S = 15.0
# From the end of one sync to the begin of the next the workqueue waits SYNC_S (`rate_limiters.go`); the sync itself and
# the wait for one of five workers come on top: 0.22 s in the mean of the 589 syncs of tests/golden/hpa_decisions.json.
SYNC_JITTER_S = 0.44
SCRAPE_S = 15.0  # Prometheus' scrape interval of vLLM's own ServiceMonitor examples
MILLI, QUANTITY_MAX = 1000, 9.2e15  # thousandths are an int64 there
REPLICAS_MAX = 2**31 - 1  # an int32 there

Reading = Callable[[PodSignals], float | None]
Total = Callable[[Observation, float], float | None]  # of the whole service at a time; None: no such series


def wanted_by_pods(
    values: Sequence[float | None], tolerances: Tolerances, *, unready: int, target: float, current: int
) -> int | None:
    """A Pods metric: `values` of the running pods, None where one has no metric; None: no metric at all, so hold."""
    known = [_milli(value) for value in values if value is not None]
    if not known:
        return None
    missing, goal = len(values) - len(known), _milli(target)
    ratio = sum(known) // len(known) / goal
    counts_unready = unready > 0 and ratio > 1
    if not counts_unready and not missing:
        return current if tolerances.hold(ratio) else _ceiling(ratio * len(known))
    # Pods without a metric are taken to be at the target when shrinking, and at zero when growing. At a ratio of
    # exactly 1 they are left out.
    filled = 0 if ratio == 1 else missing
    counted = len(known) + filled + (unready if counts_unready else 0)
    new_ratio = (sum(known) + (filled * goal if ratio < 1 else 0)) // counted / goal
    if tolerances.hold(new_ratio) or (ratio < 1 < new_ratio) or (new_ratio < 1 < ratio):
        return current
    wanted = _ceiling(new_ratio * counted)
    if (new_ratio < 1 and wanted > current) or (new_ratio > 1 and wanted < current):
        return current
    return wanted


def wanted_by_average_value(total: float, tolerances: Tolerances, *, target: float, current: int) -> int:
    """An External or Object metric of type AverageValue: absolute, so it does not compound while replicas start."""
    usage, goal = _milli(total), _milli(target)
    if current and tolerances.hold(usage / (goal * current)):
        return current
    return _ceiling(usage / goal)


def wanted_by_value(total: float, tolerances: Tolerances, *, target: float, ready: int, current: int) -> int:
    """An External or Object metric of type Value: relative to the ready pods, none of which means none."""
    ratio = _milli(total) / _milli(target)
    if current == 0:
        return _ceiling(ratio)
    return current if tolerances.hold(ratio) else _ceiling(ratio * ready)


class Metric(Protocol):
    """One entry of an HPA's `metrics`."""

    @property
    def name(self) -> str: ...

    def wanted(self, seen: Observation, tolerances: Tolerances, now_s: float) -> int | None:
        """The replicas that it alone asks for; None where it cannot be had."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsMetric:
    """A metric of each pod and its average target."""

    name: str
    read: Reading
    target: float

    def wanted(self, seen: Observation, tolerances: Tolerances, now_s: float) -> int | None:
        """A server that still loads its weights has no metrics page: its pod is one without a metric."""
        del now_s
        running = [pod for pod in seen.pods if pod.phase in (PodPhase.READY, PodPhase.STARTING)]
        unready = sum(pod.phase in (PodPhase.UNSCHEDULABLE, PodPhase.GATED) for pod in seen.pods)
        values = [None if pod.signals is None else self.read(pod.signals) for pod in running]
        return wanted_by_pods(values, tolerances, unready=unready, target=self.target, current=seen.replicas)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalMetric:
    """A number from outside the pods, per replica (`AverageValue`) or for the service as it is (`Value`)."""

    name: str
    total: Total
    target: float
    is_average: bool = True

    def wanted(self, seen: Observation, tolerances: Tolerances, now_s: float) -> int | None:
        """None where the series has no value."""
        total = self.total(seen, now_s)
        if total is None:
            return None
        if self.is_average:  # by status.replicas: the pods that there are, not those asked for
            present = sum(pod.phase is not PodPhase.TERMINATING for pod in seen.pods)
            return wanted_by_average_value(total, tolerances, target=self.target, current=present)
        ready = len(ready_pods(seen))
        return wanted_by_value(total, tolerances, target=self.target, ready=ready, current=seen.replicas)


@dataclass(slots=True, kw_only=True)
class Hpa:
    """One HorizontalPodAutoscaler: the largest number of its metrics, within its limits."""

    metrics: tuple[Metric, ...]
    limits: Limits
    reads_rates: bool = False
    reads_gaps: bool = False
    queries: Queries = field(default_factory=Queries)
    scrape_s: float = SCRAPE_S
    sync_s: float = SYNC_S

    @property
    def cadence(self) -> Cadence:
        """It asks at its sync, through a metrics adapter, what Prometheus last scraped."""
        return Cadence(
            scrape_s=self.scrape_s,
            decide_s=self.sync_s,
            jitter_s=SYNC_JITTER_S,
            reads_rates=self.reads_rates,
            reads_gaps=self.reads_gaps,
            queries=self.queries,
        )

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One sync. A metric that cannot be had forbids to shrink; without any, nothing happens."""
        current, bounds = seen.replicas, self.limits.bounds
        self.limits.begin(current, now_s)
        if bounds.clamp(current) != current:
            clamped = bounds.clamp(current)
            self.limits.moved(clamped - current, now_s)
            return Wish(replicas=clamped, reason=f"{current} is outside minReplicas and maxReplicas")
        numbers = [(metric.wanted(seen, self.limits.tolerances, now_s), metric.name) for metric in self.metrics]
        known = [(number, name) for number, name in numbers if number is not None]
        if not known:
            return None
        wanted, name = max(known, key=lambda pair: pair[0])
        if len(known) < len(numbers) and wanted < current:
            return None
        return Wish(replicas=self.limits.settle(wanted, current, now_s), reason=f"{name} asks for {wanted}")


def _milli(value: float) -> int:
    return round(min(value, QUANTITY_MAX) * MILLI)


def _ceiling(number: float) -> int:
    return REPLICAS_MAX if number > REPLICAS_MAX else math.ceil(number)
