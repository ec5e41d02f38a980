"""The HorizontalPodAutoscaler's rule, as kube-controller-manager computes it.

After `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go` of Kubernetes 1.35: the replicas of each
metric, the largest of them, stabilisation over recommendations, rate limits, bounds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoscaler.policy.behavior import Change, changed, highest_allowed, lowest_allowed
from autoscaler.policy.spec import ScalingRules, default_scale_down, default_scale_up
from autoscaler.policy.types import Observation, PodPhase
from metrics.sample import PodSignals

from .base import Bounds, Cadence, Wish, samples

SYNC_S = 15.0
SCRAPE_S = 15.0  # Prometheus' scrape interval of vLLM's own ServiceMonitor examples
TOLERANCE_RATIO = 0.10

Reading = Callable[[PodSignals], float | None]


def wanted_by_pods(values: Sequence[float | None], *, unready: int, target: float, current: int) -> int | None:
    """A Pods metric: `values` of the running pods, None where one has no metric; None: no metric at all, so hold."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    missing = len(values) - len(known)
    ratio = sum(known) / len(known) / target
    counts_unready = unready > 0 and ratio > 1
    if not counts_unready and not missing:
        return current if _is_near(ratio) else math.ceil(ratio * len(known))
    # Pods without a metric are taken to be at the target when shrinking, and at zero when growing.
    total = sum(known) + (missing * target if ratio < 1 else 0.0)
    counted = len(known) + missing + (unready if counts_unready else 0)
    new_ratio = total / counted / target
    if _is_near(new_ratio) or (ratio < 1 < new_ratio) or (new_ratio < 1 < ratio):
        return current
    wanted = math.ceil(new_ratio * counted)
    if (new_ratio < 1 and wanted > current) or (new_ratio > 1 and wanted < current):
        return current
    return wanted


def wanted_by_average_value(total: float, *, target: float, current: int) -> int:
    """An External metric of type AverageValue: absolute, so it does not compound while replicas start."""
    if current and _is_near(total / (target * current)):
        return current
    return math.ceil(total / target)


@dataclass(slots=True, kw_only=True)
class Behavior:
    """What the HPA does to a recommendation before it writes the number."""

    bounds: Bounds
    up: ScalingRules
    down: ScalingRules
    _recommended: tuple[tuple[float, int], ...] = ()
    _changes: tuple[Change, ...] = ()

    def settle(self, recommended: int, current: int, now_s: float) -> int:
        """Stabilise, limit the rate, stay within bounds; remember both."""
        stable = self._stabilised(recommended, current, now_s)
        if stable > current:
            limit = highest_allowed(self.up, current, self._changes, now_s)
            wanted = int(min(stable, limit, self.bounds.high))
        else:
            wanted = max(stable, lowest_allowed(self.down, current, self._changes, now_s))
        wanted = self.bounds.clamp(wanted)
        if wanted != current:
            self._changes = changed(self._changes, now_s, wanted - current, now_s)
        return wanted

    def _stabilised(self, recommended: int, current: int, now_s: float) -> int:
        if not self._recommended:  # the first sync counts the present number as a recommendation
            self._recommended = ((now_s, current),)
        up_from_s = now_s - self.up.stabilization_window_s
        down_from_s = now_s - self.down.stabilization_window_s
        lowest = min([recommended, *(number for at_s, number in self._recommended if at_s > up_from_s)])
        highest = max([recommended, *(number for at_s, number in self._recommended if at_s > down_from_s)])
        kept_s = min(up_from_s, down_from_s)
        self._recommended = (*(past for past in self._recommended if past[0] > kept_s), (now_s, recommended))
        return min(max(current, lowest), highest)


def default_behavior(bounds: Bounds) -> Behavior:
    """Without a `behavior` in the object."""
    return Behavior(bounds=bounds, up=default_scale_up(), down=default_scale_down())


@dataclass(slots=True, kw_only=True)
class Hpa:
    """An HPA with one Pods metric of type AverageValue."""

    read: Reading
    target: float
    behavior: Behavior

    @property
    def cadence(self) -> Cadence:
        """It reads at its sync what Prometheus last scraped."""
        return Cadence(scrape_s=SCRAPE_S, decide_s=SYNC_S, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One sync."""
        running = [pod for pod in seen.pods if pod.phase in (PodPhase.READY, PodPhase.STARTING)]
        unready = sum(pod.phase in (PodPhase.UNSCHEDULABLE, PodPhase.GATED) for pod in seen.pods)
        # A server that still loads its weights has no metrics page: its pod is one without a metric.
        values = [None if pod.signals is None else self.read(pod.signals) for pod in running]
        wanted = wanted_by_pods(values, unready=unready, target=self.target, current=seen.replicas)
        if wanted is None:
            return None
        return Wish(replicas=self.behavior.settle(wanted, seen.replicas, now_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A sum over all pods and what each replica may have of it."""

    read: Reading
    target: float


@dataclass(slots=True, kw_only=True)
class Keda:
    """A ScaledObject with Prometheus triggers, between 1 and N: the HPA that KEDA makes of it.

    Its known trap is kept: where no pod has the series, the sum is 0, not unknown.
    """

    triggers: tuple[Trigger, ...]
    behavior: Behavior

    @property
    def cadence(self) -> Cadence:
        """Each sync of the generated HPA queries Prometheus."""
        return Cadence(scrape_s=SCRAPE_S, decide_s=SYNC_S, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """One sync."""
        present = samples(seen)
        wanted = max(
            wanted_by_average_value(
                sum(trigger.read(sample) or 0.0 for sample in present), target=trigger.target, current=seen.replicas
            )
            for trigger in self.triggers
        )
        return Wish(replicas=self.behavior.settle(wanted, seen.replicas, now_s))


def waiting_requests(sample: PodSignals) -> float | None:
    """`vllm:num_requests_waiting`."""
    return sample.waiting_requests


def running_requests(sample: PodSignals) -> float | None:
    """`vllm:num_requests_running`."""
    return sample.running_requests


def _is_near(ratio: float) -> bool:
    return 1.0 - TOLERANCE_RATIO <= ratio <= 1.0 + TOLERANCE_RATIO
