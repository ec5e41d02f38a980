"""Stretches of a server's work from a Prometheus that scraped it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from metrics.prometheus import HistoryResult

from .errors import CalibrationError
from .series import Stretch

# Counters are read as rates, gauges as their mean and their least; each under either spelling of the prefix.
COUNTERS = {
    "steps": "iteration_tokens_total_count",
    "tokens": "iteration_tokens_total_sum",
    "generated": "generation_tokens_total",
}
BUSY_MIN = 1.0  # never fewer running requests than this: the server did not idle

Points = dict[tuple[str, float], float]  # by pod and time


class Source(Protocol):
    """A Prometheus server."""

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult: ...


async def read_stretches(
    source: Source, selector: str, *, start_s: float, end_s: float, step_s: float, kv_capacity_tokens: int
) -> list[Stretch]:
    """One stretch per pod and step in which the pod was busy throughout; HistoryError, CalibrationError."""
    found: dict[str, Points] = {}
    for name, query in queries(selector, step_s).items():
        answer = await source.query_range(query, start_s=start_s, end_s=end_s, step_s=step_s)
        if answer.is_empty:
            raise CalibrationError(f"Prometheus knows nothing of {query}")
        found[name] = _points(answer)
    busy = [key for key, running in found["running_min"].items() if running >= BUSY_MIN]
    return [
        _stretch({name: points[key] for name, points in found.items()}, step_s, kv_capacity_tokens)
        for key in sorted(busy)
        if all(key in points for points in found.values()) and found["steps"][key] > 0
    ]


def queries(selector: str, step_s: float) -> dict[str, str]:
    """What is asked for, by name; one series per pod (or scrape target, where there are no pods)."""
    window = f"[{step_s:.0f}s]"
    asked = {name: _either(f"rate({{}}{window})", series, selector) for name, series in COUNTERS.items()}
    asked["running_min"] = _either(f"min_over_time({{}}{window})", "num_requests_running", selector)
    asked["kv_ratio"] = _either(f"avg_over_time({{}}{window})", "kv_cache_usage_perc", selector)
    return asked


def _either(shape: str, series: str, selector: str) -> str:
    first, second = (shape.format(f"{prefix}{series}{{{selector}}}") for prefix in ("vllm:", "vllm_"))
    return f"sum by (pod, instance) ({first} or {second})"


def _points(answer: HistoryResult) -> Points:
    return {(_who(dict(one.labels)), at_s): value for one in answer.series for at_s, value in one.points}


def _who(labels: Mapping[str, str]) -> str:
    return labels.get("pod") or labels.get("instance", "")


def _stretch(rates: Mapping[str, float], step_s: float, kv_capacity_tokens: int) -> Stretch:
    return Stretch(
        length_s=step_s,
        steps=rates["steps"] * step_s,
        # Every other token that an iteration handled was one of a prompt.
        prefill_tokens=max(0.0, rates["tokens"] - rates["generated"]) * step_s,
        generated_tokens=rates["generated"] * step_s,
        kv_tokens=rates["kv_ratio"] * kv_capacity_tokens,
    )


def busiest(stretches: Sequence[Stretch]) -> float:
    """The most tokens in the KV cache in any stretch."""
    return max((stretch.kv_tokens for stretch in stretches), default=0.0)
