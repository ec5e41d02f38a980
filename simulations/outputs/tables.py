"""The tables of a run's folder: kserve-vllm-mini's requests.csv, and the course as Parquet."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from simulations.compiled.layout import Records
from simulations.world.outcome import Series

from .results import MS

# What kserve-vllm-mini's loadtest.py writes, in its order.
STATUS_OK, STATUS_NEVER = 200, 0


def write_series(path: Path, series: Series) -> None:
    """A column for each of its own."""
    columns = {name: np.ascontiguousarray(series[name]) for name in series.dtype.names or ()}
    pyarrow.parquet.write_table(pa.table(columns), path)


def write_requests(path: Path, requests: Records) -> None:
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
