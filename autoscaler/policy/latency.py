"""The latency lenses: negative feedback. Above the objective they ask for more and veto a scale-in; below, nothing."""

import math

from autoscaler.policy.lenses import QUEUE_CALM_RATIO, ROUNDING, Reading, Signal, at_most, silent
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import LensReading, Reason
from metrics.quantile import merge, quantile
from metrics.sample import Histogram

# Fewer observations in the window are anecdotes: a P95 of 20 rests on one.
OBSERVATIONS_MIN = 20
# What so few observations show is partly chance, and a window is looked at thousands of times a day: the alarm limit of
# control charts (Shewhart, Economic Control of Quality of Manufactured Product, 1931).
SIGMAS = 3.0
# Latency rises without bound at saturation: its ratio is no count of replicas. Doubling at most, then look again.
GROWTH_MAX_RATIO = 2.0
# Fewer requests in each engine share nothing that one more replica could relieve: long prompts are just long.
ALONE_REQUESTS = 2.0


def read_ttft(fleet: Fleet, policy: PolicySpec, objective_s: float, clears: int | None) -> Reading:
    """Time to first token. It tells of requests that waited up to a window ago: what waits now says how many to add."""
    signal = Signal(name="ttft", reason=Reason.FOLLOWING_TTFT, unit="s", target=objective_s)
    reading = _read(signal, [s.ttft_s for s in fleet.signals if s.ttft_s is not None], fleet, policy)
    if (reading.lens.replicas or 0) > fleet.coming and _is_helped(fleet, policy):
        return _asks(signal, fleet.coming, reading.lens.value, "over the objective, but the queue is gone: none may go")
    return reading if clears is None else at_most(reading, max(clears, fleet.coming), "by latency")


def read_itl(fleet: Fleet, policy: PolicySpec, objective_s: float) -> Reading:
    """Time between tokens."""
    signal = Signal(name="itl", reason=Reason.FOLLOWING_ITL, unit="s", target=objective_s)
    return _read(signal, [s.itl_s for s in fleet.signals if s.itl_s is not None], fleet, policy)


def _read(signal: Signal, histograms: list[Histogram], fleet: Fleet, policy: PolicySpec) -> Reading:
    if not histograms:
        if fleet.serving == 0 or _has_no_window(fleet):
            return silent(signal, "no window yet", is_missing=False)
        return silent(signal, "no replica has a fresh sample of it")
    observations = sum(histogram.count for histogram in histograms)
    if observations < OBSERVATIONS_MIN:
        return _asks(signal, 0, None, f"{observations:g} observations in the window, {OBSERVATIONS_MIN} needed")
    value_s = fleet_quantile(histograms, policy.objectives.quantile)
    if value_s is None:
        return _asks(signal, 0, None, "no observations in the window")
    if value_s <= signal.target:
        return _asks(signal, 0, value_s, "within the objective: asks for none")
    sure_s = fleet_quantile(histograms, sure_quantile(policy.objectives.quantile, observations)) or 0.0
    return _over(signal, value_s, sure_s, fleet, policy)


def sure_quantile(q: float, observations: float) -> float:
    """The quantile of a window that is over the objective only where the service's own q-quantile is, but for chance.

    Of n observations, (1 - q)·n are over the q-quantile on average, with a standard deviation of √(q·(1 - q)·n).
    """
    return max(0.0, q - SIGMAS * math.sqrt(q * (1.0 - q) / observations))


def fleet_quantile(histograms: list[Histogram], q: float) -> float | None:
    """The quantile of all observations together: `quantile(merge(…))`, adding up only the buckets it rests on."""
    bounds = histograms[0].bounds
    if any(histogram.bounds is not bounds and histogram.bounds != bounds for histogram in histograms):
        merged = merge(histograms)
        return None if merged is None else quantile(merged, q)
    counts = [histogram.counts for histogram in histograms]
    last = len(bounds) - 1
    total = sum([count[last] for count in counts])
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if sum([count[middle] for count in counts]) >= q * total:
            high = middle
        else:
            low = middle + 1
    kept = sorted({max(low - 1, 0), low, last})
    reduced = Histogram(
        bounds=tuple([bounds[index] for index in kept]),
        counts=tuple([sum([count[index] for count in counts]) for index in kept]),
        sum=0.0,
    )
    return quantile(reduced, q)


def _over(signal: Signal, value_s: float, sure_s: float, fleet: Fleet, policy: PolicySpec) -> Reading:
    """More replicas for what is over the objective by more than tolerance and chance (`sure_s`): as many as is sure."""
    if value_s <= signal.target * (1.0 + policy.scale_up.tolerance_ratio):
        return _asks(signal, fleet.coming, value_s, "within tolerance of the objective: none may go")
    if sure_s <= signal.target:
        return _asks(signal, fleet.coming, value_s, "over the objective, which may be chance: none may go")
    if _are_alone(fleet):
        return _asks(signal, fleet.coming, value_s, "requests are alone in the engines: more replicas would not help")
    replicas = math.ceil(_served_all_along(fleet) * min(sure_s / signal.target, GROWTH_MAX_RATIO) - ROUNDING)
    return _asks(signal, max(replicas, fleet.coming), value_s, "over the objective")


def _asks(signal: Signal, replicas: int, value_s: float | None, note: str) -> Reading:
    lens = LensReading(
        name=signal.name,
        reason=signal.reason,
        replicas=replicas,
        value=value_s,
        target=signal.target,
        unit=signal.unit,
        note=note,
    )
    return Reading(lens, replicas)


def _is_helped(fleet: Fleet, policy: PolicySpec) -> bool:
    """Whether more replicas were ordered or came since, and what was late has been served: their effect comes first."""
    calm = (policy.targets.queue_requests or 1.0) * QUEUE_CALM_RATIO * len(fleet.signals)
    is_grown = fleet.coming > fleet.serving or _served_all_along(fleet) < len(fleet.signals)
    return is_grown and sum([waiting or 0.0 for waiting in fleet.waiting_requests]) <= calm


def _has_no_window(fleet: Fleet) -> bool:
    """Whether every sample stands alone: rates and histograms need two."""
    return all(sample.window_s <= 0 for sample in fleet.signals) and bool(fleet.signals)


def _are_alone(fleet: Fleet) -> bool:
    requests = [(s.running_requests or 0.0) + (s.waiting_requests or 0.0) for s in fleet.signals]
    return all(s.running_requests is not None for s in fleet.signals) and sum(requests) < ALONE_REQUESTS * len(requests)


def _served_all_along(fleet: Fleet) -> int:
    """Replicas that the window's latencies are the work of: one that joined since has not had its say."""
    return sum(
        pod.ready_at_s is None or pod.ready_at_s <= sample.observed_at_s - sample.window_s
        for pod, sample in zip(fleet.sighted, fleet.signals, strict=True)
    )
