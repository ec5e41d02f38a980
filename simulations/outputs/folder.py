"""A run's folder: for each policy the files of kserve-vllm-mini, its course as Parquet and its decisions; a report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simulations.world import Outcome, Setting

from .place import REPORT, filling
from .results import Document, Results


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
    from .tables import write_requests, write_series  # a tenth of a second, for who leaves a folder

    meta = run.meta | {"policy": run.policy}
    write_requests(folder / "requests.csv", run.outcome.requests)
    for name, document in (("meta", meta), ("results", run.results.results), ("energy", run.results.energy)):
        text = json.dumps(document, indent=2, allow_nan=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    write_series(folder / "series.parquet", run.outcome.series)
    lines = (json.dumps(asdict(change), ensure_ascii=False) + "\n" for change in run.outcome.decisions)
    (folder / "decisions.jsonl").write_text("".join(lines), encoding="utf-8")
