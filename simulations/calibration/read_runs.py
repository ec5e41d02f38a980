"""Measurements from files: `vllm bench serve --save-detailed` JSON, or one JSON object per request and line.

A line may use any of the names below: those of vLLM's engine (queued, scheduled, first and last token stamps), of
load generators (send, first, end), or ours. Beside a file, or in the folder that is given, `meta.json` may tell the
server's limits (`engine_kwargs`, `kv_cache`), as benchmark suites write it. Files are untrusted text.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import MeasurementError
from .runs import Limits, MeasuredRun

FILE_BYTES_MAX = 512_000_000  # a million requests with every inter-token latency
REQUESTS_MIN = 6  # two to fit on, four to judge by: fewer say nothing
TOKENS_MAX = 10_000_000

Names = tuple[str, ...]

PROMPT = ("prompt_tokens", "input_toks", "prompt_len", "input_tokens", "input_len")
OUTPUT = ("output_tokens", "output_toks", "output_len", "generated_tokens", "completion_tokens")
FIRST = ("first_token_at_s", "first_token_ts", "first", "first_token_time")
LAST = ("finished_at_s", "last_token_ts", "end", "end_time")
ENGINE_ARRIVAL: Names = ("arrived_at_s", "queued_ts")
CLIENT_ARRIVAL: Names = ("send", "start_time", "sent_at_s")

Row = Mapping[str, Any]


def read_runs(path: Path) -> list[MeasuredRun]:
    """The run of a file, or every run of a folder; MeasurementError says what is wrong where."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.jsonl") if _has_requests(file))
        if not files:
            raise MeasurementError(path, "no *.jsonl file with one request per line in this folder")
        return [read_run(file) for file in files]
    return [read_run(path)]


def read_run(path: Path) -> MeasuredRun:
    """One file."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise MeasurementError(path, f"larger than {FILE_BYTES_MAX:,} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise MeasurementError(path, exc.strerror or str(exc)) from exc
    except UnicodeDecodeError as exc:
        raise MeasurementError(path, "not UTF-8 text; expected JSON or JSON lines") from exc
    document = _whole(text)
    run = _of_bench(path, document) if document is not None and "ttfts" in document else _of_lines(path, text)
    if len(run) < REQUESTS_MIN:
        raise MeasurementError(path, f"{len(run)} requests that were served; at least {REQUESTS_MIN} are needed")
    return run


def _has_requests(path: Path) -> bool:
    """Whether the first two lines hold a request; a folder may hold other tables."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        head = [line for _, line in zip(range(2), lines, strict=False)]
    try:
        rows = [json.loads(line) for line in head]
    except ValueError:
        return False
    return any(isinstance(row, dict) and any(name in row for name in PROMPT) for row in rows)


def _whole(text: str) -> dict[str, Any] | None:
    """The text as one JSON object, where it is one."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _of_bench(path: Path, document: Row) -> MeasuredRun:
    """`vllm bench serve`: lists by request, times of the client's clock."""
    names = ("start_times", "input_lens", "output_lens", "ttfts", "latencies")
    missing = [name for name in names if not isinstance(document.get(name), list)]
    if missing:
        raise MeasurementError(path, "missing; `vllm bench serve --save-detailed` of late writes it", field=missing[0])
    columns = [_column(path, name, document[name]) for name in names]
    if len({len(column) for column in columns}) != 1:
        raise MeasurementError(path, f"{', '.join(names)} must be of one length")
    sent_at_s, prompt, output, ttft_s, e2e_s = columns
    # A request that failed has zeros.
    return _run(path, (sent_at_s, prompt, output, sent_at_s + ttft_s, sent_at_s + e2e_s), seen_by_client=True)


def _column(path: Path, name: str, values: list[Any]) -> np.ndarray:
    for index, value in enumerate(values):
        if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value) or value < 0:
            raise MeasurementError(path, f"item {index} is {str(value)[:40]!r}, must be a number ≥ 0", field=name)
    return np.array(values, dtype=np.float64)


def _of_lines(path: Path, text: str) -> MeasuredRun:
    rows = list(_rows(path, text))
    if not rows:
        raise MeasurementError(path, "no request in it; expected one JSON object per line")
    by_client = not any(name in rows[0][1] for name in ENGINE_ARRIVAL)
    kinds = (CLIENT_ARRIVAL if by_client else ENGINE_ARRIVAL, PROMPT, OUTPUT, FIRST, LAST)
    table = np.array([[_number(path, line, row, names) for names in kinds] for line, row in rows])
    return _run(path, tuple(table.T), seen_by_client=by_client)


def _rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Numbered requests; a line with anything else (`meta`), or of a request that got no token, is passed over."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise MeasurementError(path, f"not JSON ({exc})", line=number) from exc
        if not isinstance(row, dict):
            raise MeasurementError(path, "expected a JSON object", line=number)
        if "meta" in row or row.get("error") or any(name in row and row[name] is None for name in FIRST):
            continue
        yield number, row


def _number(path: Path, line: int, row: Row, names: tuple[str, ...]) -> float:
    name = next((name for name in names if name in row), None)
    if name is None:
        raise MeasurementError(path, f"missing; expected one of {', '.join(names)}", line=line, field=names[0])
    value = row[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
        raise MeasurementError(path, f"{str(value)[:40]!r} is not a number", line=line, field=name)
    return float(value)


def _run(path: Path, columns: tuple[np.ndarray, ...], *, seen_by_client: bool) -> MeasuredRun:
    """Columns (arrival, prompt, output, first token, last token) in order of arrival; failed requests left out."""
    arrived, prompt, output, first, last = columns
    if len(prompt) and max(prompt.max(), output.max()) > TOKENS_MAX:
        raise MeasurementError(path, f"a request of more than {TOKENS_MAX:,} tokens: a column is mixed up")
    served = (prompt >= 1) & (output >= 1) & (first > arrived) & (last >= first)
    order = np.flatnonzero(served)[np.argsort(arrived[served], kind="stable")]
    arrived, prompt, output, first, last = (column[order] for column in columns)
    return MeasuredRun(
        name=_name(path),
        path=path,
        arrived_at_s=arrived - arrived[0] if len(arrived) else arrived,
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        ttft_s=first - arrived,
        e2e_s=last - arrived,
        seen_by_client=seen_by_client,
        limits=_limits_beside(path),
    )


def _name(path: Path) -> str:
    """The file's, or its folder's where many files are called so."""
    stem = path.name.removesuffix(".jsonl").removesuffix(".json").removesuffix(".requests")
    if stem != "requests":
        return stem
    folder = path.resolve().parent
    return folder.parent.name if folder.name == "vllm" else folder.name


def _limits_beside(path: Path) -> Limits:
    """What `meta.json` in the same folder tells of the server."""
    meta = path.parent / "meta.json"
    if not meta.is_file():
        return Limits()
    try:
        document = json.loads(meta.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise MeasurementError(meta, f"not JSON ({exc})") from exc
    engine, cache = document.get("engine_kwargs") or {}, document.get("kv_cache") or {}
    return Limits(
        max_num_seqs=_count(meta, engine, "max_num_seqs"),
        max_num_batched_tokens=_count(meta, engine, "max_num_batched_tokens"),
        num_gpu_blocks=_count(meta, cache, "num_gpu_blocks"),
        block_size_tokens=_count(meta, cache, "block_size"),
        max_model_len_tokens=_count(meta, engine, "max_model_len"),
    )


def _count(path: Path, fields: Row, name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise MeasurementError(path, f"{str(value)[:40]!r} is not a whole number ≥ 1", field=name)
    return value
