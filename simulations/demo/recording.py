"""The demo's requests as a file that others read: columns of kserve-vllm-mini, milliseconds since the start."""

import csv
from collections.abc import Sequence
from pathlib import Path

from simulations.cluster.loadgen import Outcome, RequestRecord

MS = 1000.0
STATUS_OK, STATUS_LOST = 200, 0
COLUMNS = (
    *("id", "scheduled_ms", "start_ms", "ttfb_ms", "tllt_ms", "latency_ms", "status"),
    *("prompt_tokens", "completion_tokens", "total_tokens", "error", "trace_id"),
)


def write_requests(path: Path, records: Sequence[RequestRecord]) -> None:
    """One line per request, in the order in which they were due; latencies count from when it was due."""
    ordered = sorted(records, key=lambda record: record.scheduled_s)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(number, record) for number, record in enumerate(ordered))


def _row(number: int, record: RequestRecord) -> dict[str, object]:
    latency_ms = round((record.end_s - record.scheduled_s) * MS, 3)
    return {
        "id": number,
        "scheduled_ms": round(record.scheduled_s * MS, 3),
        "start_ms": round(record.sent_s * MS, 3),
        "ttfb_ms": "" if record.ttft_s is None else round(record.ttft_s * MS, 3),
        "tllt_ms": latency_ms,
        "latency_ms": latency_ms,
        "status": STATUS_OK if record.outcome is Outcome.SERVED else STATUS_LOST,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.received_tokens,
        "total_tokens": record.prompt_tokens + record.received_tokens,
        "error": record.detail,
        "trace_id": "",
    }
