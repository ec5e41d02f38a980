"""Figures of a run under the names of kserve-vllm-mini, so that its gate, reports and comparisons read them unchanged.

`results.json` and `energy.json` of github.com/Siryoos/kserve-vllm-mini (analyze.py, energy, cost_estimator.py): flat,
milliseconds, percentiles with linear interpolation over the requests that succeeded. What that suite does not know is
under `autoscaler`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.layout import Records
from simulations.world import Outcome, Setting

from .notes import facts_of
from .prices import Prices, Watts

Document = dict[str, Any]
Floats = NDArray[np.float64]
MS = 1000.0
QUANTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The two documents of one policy's run."""

    results: Document
    energy: Document


def summarise(policy: str, outcome: Outcome, setting: Setting, prices: Prices, watts: Watts) -> Results:
    """All figures of a run."""
    requests = outcome.requests
    served = requests[np.isfinite(requests["finished_at_s"])]
    seconds = max(setting.span_s, float(served["finished_at_s"].max()) if len(served) else 0.0)
    energy = _energy(outcome, served, seconds, watts)
    return Results(
        results=_latencies(served)
        | {
            "throughput_rps": len(served) / seconds,
            "tokens_per_sec": int(served["output_tokens"].sum()) / seconds,
            "error_rate": 1.0 - len(served) / len(requests),
            "cold_start_count": outcome.starts,
            "window": {"start": 0.0, "end": seconds, "seconds": seconds},
            "requests": {"total": len(requests), "success": len(served)},
        }
        | _cost(outcome, served, prices)
        | {
            "energy_wh": energy["Wh_active"] + energy["Wh_idle_tax"],
            "autoscaler": {
                "policy": policy,
                "ttft_objective_s": setting.ttft_s,
                "attainment_ratio": outcome.attainment_ratio,
                "gpu_hours": outcome.gpu_hours,
                "starts": outcome.starts,
                "decisions": len(outcome.decisions),
            }
            | facts_of(outcome),
        },
        energy=energy,
    )


def _latencies(served: Records) -> Document:
    """Percentiles; null where nothing was served."""
    e2e_ms = (served["finished_at_s"] - served["arrived_at_s"]) * MS
    ttft_ms = (served["first_token_at_s"] - served["arrived_at_s"]) * MS
    generation_ms = e2e_ms - ttft_ms
    document: Document = {f"p{q}_ms": _percentile(e2e_ms, q) for q in QUANTILES}
    document |= {f"ttft_p{q}_ms": _percentile(ttft_ms, q) for q in QUANTILES}
    document["time_to_first_token_ms"] = float(ttft_ms.mean()) if len(ttft_ms) else None
    document |= {f"generation_p{q}_ms": _percentile(generation_ms, q) for q in (50, 95)}
    document |= {f"per_token_p{q}_ms": _percentile(generation_ms / served["output_tokens"], q) for q in (50, 95)}
    return document


def _percentile(values: Floats, q: int) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None


def _cost(outcome: Outcome, served: Records, prices: Prices) -> Document:
    """cost = GPU-seconds × price × (1 + overhead), spread over what was served."""
    total = outcome.gpu_hours * prices.per_gpu_hour * (1.0 + prices.overhead_fraction)
    tokens = int(served["prompt_tokens"].sum(dtype=np.int64) + served["output_tokens"].sum(dtype=np.int64))
    return {
        "cost_per_request": total / len(served) if len(served) else None,
        "cost_per_1k_tokens": total / tokens * 1000.0 if tokens else None,
        "cost_breakdown": {
            "total_cost": total,
            "gpu_seconds": outcome.gpu_hours * 3600.0,
            "gpu_hourly": prices.per_gpu_hour,
            "overhead_fraction": prices.overhead_fraction,
            "gpu_product_label": prices.gpu,
        },
    }


def _energy(outcome: Outcome, served: Records, seconds: float, watts: Watts) -> Document:
    """Busy and idle watts over the GPU-hours; a replica with a running request is busy."""
    busy_ratio = _busy_ratio(outcome)
    active_wh = outcome.gpu_hours * busy_ratio * watts.busy
    tokens = int(served["prompt_tokens"].sum(dtype=np.int64) + served["output_tokens"].sum(dtype=np.int64))
    return {
        "Wh_active": active_wh,
        "Wh_idle_tax": outcome.gpu_hours * (1.0 - busy_ratio) * watts.idle,
        "Wh_per_request_active": active_wh / len(served) if len(served) else None,
        "Wh_per_1k_tokens_active": active_wh / tokens * 1000.0 if tokens else None,
        "window": {"start": 0.0, "end": seconds},
        "samples": len(outcome.series),
        "estimate": {"busy_watts": watts.busy, "idle_watts": watts.idle, "source": watts.source},
    }


def _busy_ratio(outcome: Outcome) -> float:
    """Of the time of all replicas, starting and draining ones too, that in which they ran a request."""
    series = outcome.series
    serving = series["ready"] + series["draining"]
    present = serving + series["starting_hot"] + series["starting_warm"] + series["starting_cold"]
    total = float(present.sum())
    return float(np.minimum(serving, series["running_requests"]).sum()) / total if total else 0.0
