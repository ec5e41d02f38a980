"""Metric names that people scale vLLM on, and what the simulator's sensors say for each."""

from collections.abc import Mapping
from dataclasses import dataclass

from metrics.names import ROWS, Shape, spellings
from metrics.sample import Histogram, PodSignals
from simulations.policies.base import ready_pods
from simulations.policies.hpa import Reading, Total
from simulations.policies.series import Latencies, epp_queue, epp_running, mean_of, tpot_s, waiting_requests
from simulations.world.sensing.sensors import nothing_happened

# The controller does not read it: a request's mean hides stalls. Others scale on it.
_PACE = "request_time_per_output_token_seconds_bucket"
_GAUGES = (Shape.SUM, Shape.MEAN)
_PER_S = "_per_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Every name that can be asked for, by what it is."""

    gauges: Mapping[str, Reading]
    rates: Mapping[str, Reading]  # of counters
    buckets: Mapping[str, Latencies]  # increases of histograms
    totals: Mapping[str, Total]  # of routers: one series for the service

    def names(self) -> str:
        """For errors: the preferred spelling of each."""
        firsts: dict[int, str] = {}
        for name, read in (*self.gauges.items(), *self.rates.items(), *self.buckets.items()):
            firsts.setdefault(id(read), name)
        return ", ".join([*firsts.values(), *self.totals])


def _field(name: str) -> Reading:
    def read(sample: PodSignals) -> float | None:
        value: float | None = getattr(sample, name)
        return value

    return read


def _histogram(name: str) -> Latencies:
    def read(sample: PodSignals) -> Histogram | None:
        found: Histogram | None = getattr(sample, name)
        return found

    return read


def _known() -> Known:
    told = nothing_happened()
    fields = {name for name in told.__dataclass_fields__ if getattr(told, name) is not None}
    gauges: dict[str, Reading] = {}
    rates: dict[str, Reading] = {}
    buckets: dict[str, Latencies] = {}
    for row in ROWS:
        per_s = row.field.removesuffix("_total") + _PER_S
        if row.shape in _GAUGES and row.field in fields and not row.picks:  # labels are read over here
            gauges |= dict.fromkeys(spellings(row), _field(row.field))
        elif row.shape is Shape.COUNTER and per_s in fields:
            read = _field(per_s)
            rates |= {name: read for name in spellings(row) if name not in rates}
        elif row.shape is Shape.HISTOGRAM and row.field in fields:
            buckets |= dict.fromkeys(spellings(row, "_bucket"), _histogram(row.field))
    buckets |= dict.fromkeys((f"vllm:{_PACE}", f"vllm_{_PACE}"), tpot_s)
    totals: dict[str, Total] = {
        "kube_deployment_status_replicas": lambda seen, _now_s: float(seen.replicas),
        "kube_deployment_status_replicas_ready": lambda seen, _now_s: float(len(ready_pods(seen))),
        "kube_deployment_status_replicas_available": lambda seen, _now_s: float(len(ready_pods(seen))),
        "kube_deployment_status_replicas_unavailable": lambda seen, _now_s: float(
            max(0, seen.replicas - len(ready_pods(seen)))
        ),
        "llm_d_epp_flow_control_queue_size": epp_queue,
        "llm_d_epp_request_running": epp_running,
        "inference_pool_average_queue_size": mean_of(waiting_requests),
        "inference_pool_average_kv_cache_utilization": mean_of(_field("kv_cache_usage_ratio")),
    }
    return Known(gauges=gauges, rates=rates, buckets=buckets, totals=totals)


KNOWN = _known()


def gauge_of(name: str) -> Reading | None:
    """By the name that a metrics adapter may give it: with or without prefix, with `_` for `:`."""
    for spelled in (name, f"vllm:{name}"):
        if spelled in KNOWN.gauges:
            return KNOWN.gauges[spelled]
    return None
