"""A run's folder: for each policy the files of kserve-vllm-mini, its course as Parquet and its decisions; a report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from simulations.compiled.layout import Records
from simulations.world import Outcome, Setting

from .place import REPORT, filling
from .results import MS, Document, Results

# What kserve-vllm-mini's loadtest.py writes, in its order.
STATUS_OK, STATUS_NEVER = 200, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRun:
    """One policy's part of a folder."""

    policy: str
    outcome: Outcome
    results: Results
    meta: Document
    service: str = ""  # of several: each has a folder of its own in that of the policy


def write_folder(path: Path, runs: Sequence[PolicyRun], report: str, *, may_replace: bool) -> None:
    """All of it, at once."""
    with filling(path, may_replace=may_replace) as staging:
        for run in runs:
            folder = staging / run.policy / run.service
            folder.mkdir(parents=True)
            _write_run(folder, run)
        (staging / REPORT).write_text(report, encoding="utf-8")


def meta_of(setting: Setting, *, source: str, profile: str) -> Document:
    """What was simulated."""
    requests = setting.requests
    return {
        "url": f"simulation:{source}",
        "model": profile,
        "pattern": source,
        "requests": len(requests),
        "duration_sec": setting.span_s,
        "target_rps": len(requests) / setting.span_s if setting.span_s else 0.0,
        "test_start_time": "1970-01-01T00:00:00Z",  # a simulation begins at zero
        "seed": setting.seed,
        "replicas": {"min": setting.bounds.low, "max": setting.bounds.high, "start": setting.replicas_at_start},
        "engine": asdict(setting.config),
        "step_seconds": asdict(setting.times),
    }


def _write_run(folder: Path, run: PolicyRun) -> None:
    meta = run.meta | {"policy": run.policy}
    _write_requests(folder / "requests.csv", run.outcome.requests)
    for name, document in (("meta", meta), ("results", run.results.results), ("energy", run.results.energy)):
        text = json.dumps(document, indent=2, allow_nan=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    series = run.outcome.series
    columns = {name: np.ascontiguousarray(series[name]) for name in series.dtype.names or ()}
    pyarrow.parquet.write_table(pa.table(columns), folder / "series.parquet")
    lines = (json.dumps(asdict(change), ensure_ascii=False) + "\n" for change in run.outcome.decisions)
    (folder / "decisions.jsonl").write_text("".join(lines), encoding="utf-8")


def _write_requests(path: Path, requests: Records) -> None:
    """Times since the start in milliseconds; a request that was never served has status 0."""
    served = np.isfinite(requests["finished_at_s"])
    arrived_ms = requests["arrived_at_s"] * MS
    table = pa.table(
        {
            "id": np.arange(len(requests)),
            "scheduled_ms": arrived_ms,
            "start_ms": arrived_ms,
            "ttfb_ms": _since(requests, "first_token_at_s"),
            "tllt_ms": _since(requests, "finished_at_s"),
            "latency_ms": _since(requests, "finished_at_s"),
            "status": np.where(served, STATUS_OK, STATUS_NEVER),
            "prompt_tokens": np.ascontiguousarray(requests["prompt_tokens"]),
            "completion_tokens": np.where(served, requests["output_tokens"], 0),
            "total_tokens": np.where(served, requests["prompt_tokens"] + requests["output_tokens"], 0),
            "error": pa.array(np.where(served, "", "never served")),
            "trace_id": pa.array(np.full(len(requests), "")),
        }
    )
    pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style="needed"))


def _since(requests: Records, field: str) -> "pa.Array":
    """Milliseconds after the arrival; empty where it never came."""
    return pa.array((requests[field] - requests["arrived_at_s"]) * MS, from_pandas=True)
