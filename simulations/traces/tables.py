"""CSV formats: one row per request, a column for its time and one each for its tokens."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simulations.errors import TraceError
from simulations.traces import fast
from simulations.traces.chunk import NOBODY, NS, Callers, Chunk, Longs, joined
from simulations.traces.source import Block, blocks
from simulations.traces.values import Clock, Row, number_of, quoted

COLUMNS_MAX = 1000  # more are no header
SORTED_ROWS_MAX = 20_000_000  # of a format that must be sorted in memory: 0.3 GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """How one tool writes its traces."""

    name: str
    says: str
    columns: tuple[str, str, str]  # time, prompt, output: those that must be there; others may stand among them
    clock: Clock
    session: str = "session_id"  # these three are read where they are there
    took: str = ""  # from the request to the end of its answer, by the same clock
    adapter: str = "adapter"
    blank_tokens_are_zero: bool = False  # of requests that failed
    comes_sorted: bool = True  # False: rows stand in the order in which requests ended

    def chunks(self, path: Path) -> Iterator[Chunk]:
        """The requests, streamed; a bad line ends them with a TraceError, after those before it."""
        if self.comes_sorted:
            yield from _Reading(self, path).chunks()
        else:
            yield from _in_order(path, list(_Reading(self, path).chunks()))


AZURE = Table(
    name="azure",
    says="Azure LLM inference traces of 2023, 2024 and 2025",
    columns=("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    clock=Clock.MOMENT,
)
TABLES = (
    AZURE,
    Table(
        name="burstgpt",
        says="BurstGPT, with and without failures and sessions",
        columns=("Timestamp", "Request tokens", "Response tokens"),
        clock=Clock.SECONDS,
        session="Session ID",
        took="Elapsed time",
    ),
    Table(
        name="kserve-mini",
        says="requests.csv of kserve-vllm-mini, and of `warmtide sim` itself",
        columns=("scheduled_ms", "prompt_tokens", "completion_tokens"),
        clock=Clock.MILLISECONDS,
        took="latency_ms",
        blank_tokens_are_zero=True,
        comes_sorted=False,
    ),
    Table(
        name="vidur",
        says="Vidur's processed traces",
        columns=("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
        clock=Clock.SECONDS,
    ),
    Table(
        name="splitwise",
        says="splitwise-sim's traces",
        columns=("arrival_timestamp", "prompt_size", "token_size"),
        clock=Clock.SECONDS,
    ),
)


@dataclass(slots=True)
class _Reading:
    """One pass over a file."""

    table: Table
    path: Path
    header: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()
    of_callers: "_CallerColumns | None" = None
    first_ns: int | None = None
    last_ns: int = 0
    error: TraceError | None = field(default=None)

    def chunks(self) -> Iterator[Chunk]:
        for block in blocks(self.path):
            body = block if self.header else self._after_header(block)
            if body is None or not body.data:
                continue
            chunk = self._fast(body) or self._slow(body)
            if len(chunk):
                yield chunk
            if self.error is not None:
                raise self.error
        if not self.header:
            raise TraceError(self.path, f"the file is empty; expected the header {','.join(self.table.columns)}")
        if self.first_ns is None:
            raise TraceError(self.path, "there is a header but no request")

    def _after_header(self, block: Block) -> Block | None:
        """Read the header, which is the first line that is not blank; what follows it in the block."""
        data, line = block.data, block.first_line
        while data:
            head, _, data = data.partition(b"\n")
            row = _row(self.path, line, head)
            line += 1
            if row is not None:
                self.header = tuple(row.fields[: COLUMNS_MAX + 1])
                self.indexes = column_indexes(row, self.table)
                self.of_callers = _caller_columns(row, self.table)
                return Block(line, data)
        return None

    def _fast(self, block: Block) -> Chunk | None:
        columns = fast.columns(block.data, len(self.header))
        if columns is None:
            return None
        time, prompt, output = (columns[index] for index in self.indexes)
        at_ns = fast.times_ns(time, self.table.clock)
        prompts, outputs = fast.tokens(prompt), fast.tokens(output)
        if at_ns is None or prompts is None or outputs is None or not len(at_ns):
            return None
        if self.table.comes_sorted and ((np.diff(at_ns) < 0).any() or at_ns[0] < self.last_ns):
            return None
        rows = [at_ns, prompts, outputs]
        if self.of_callers is not None:
            said = self.of_callers.of_block(columns)
            if said is None:
                return None
            rows += said
        return self._chunk(rows)

    def _slow(self, block: Block) -> Chunk:
        """Line by line: up to the first that is wrong, which is remembered."""
        rows: list[tuple[int, ...]] = []
        last_ns = self.last_ns
        try:
            for number, line in enumerate(block.data.split(b"\n"), block.first_line):
                row = _row(self.path, number, line)
                if row is not None:
                    rows.append(self._values(row, last_ns))
                    last_ns = rows[-1][0]
        except TraceError as exc:
            self.error = exc
        width = 3 if self.of_callers is None else 6
        return self._chunk(list(np.array(rows, np.int64).reshape(-1, width).T))

    def _values(self, row: Row, last_ns: int) -> tuple[int, ...]:
        if len(row.fields) != len(self.header):
            raise TraceError(row.path, f"expected {len(self.header)} fields, got {len(row.fields)}", line=row.line)
        time, prompt, output = (row.fields[index] for index in self.indexes)
        time_name, prompt_name, output_name = self.table.columns
        at_ns = row.time_ns(time_name, time, self.table.clock)
        if self.table.comes_sorted and at_ns < last_ns:
            raise row.refuse(time_name, "no time before that of the line above", time)
        blank = "0" if self.table.blank_tokens_are_zero else ""
        tokens = (row.tokens(prompt_name, prompt or blank), row.tokens(output_name, output or blank))
        return (at_ns, *tokens, *(() if self.of_callers is None else self.of_callers.of_row(row)))

    def _chunk(self, columns: Sequence[Longs]) -> Chunk:
        """Of times, prompts, outputs; then of sessions, durations and adapters, where the file has any."""
        at_ns, prompts, outputs, *said = columns
        if len(at_ns):
            self.first_ns = int(at_ns[0]) if self.first_ns is None else self.first_ns
            self.last_ns = int(at_ns[-1])
        return Chunk(
            at_s=(at_ns - (self.first_ns or 0)) / NS,
            prompt_tokens=prompts.astype(np.int32),
            output_tokens=outputs.astype(np.int32),
            callers=_callers(*said) if said else None,
        )


@dataclass(frozen=True, slots=True)
class _CallerColumns:
    """Where a file says who asked; None: it does not."""

    table: Table
    session: int | None
    took: int | None
    adapter: int | None

    def of_block(self, columns: Sequence[fast.Field]) -> list[Longs] | None:
        """Sessions, durations, adapters."""
        nobody: Longs = np.full(len(columns[0].starts), NOBODY, np.int64)
        took_ns = nobody if self.took is None else fast.durations_ns(columns[self.took], self.table.clock)
        if took_ns is None:
            return None
        sessions = nobody if self.session is None else fast.names(columns[self.session])
        return [sessions, took_ns, nobody if self.adapter is None else fast.names(columns[self.adapter])]

    def of_row(self, row: Row) -> tuple[int, int, int]:
        """The same of one row."""
        session, took, adapter = (
            "" if index is None else row.fields[index] for index in (self.session, self.took, self.adapter)
        )
        took_ns = row.time_ns(self.table.took, took, self.table.clock) if took else NOBODY
        return number_of(session), took_ns, number_of(adapter)


def _caller_columns(header: Row, table: Table) -> _CallerColumns | None:
    """None where there are none; how long answers took is of use with conversations only."""
    names = (table.session, table.took, table.adapter)
    session, took, adapter = (header.fields.index(name) if name in header.fields else None for name in names)
    if session is None and adapter is None:
        return None
    return _CallerColumns(table, session, None if session is None else took, adapter)


def _callers(sessions: Longs, took_ns: Longs, adapters: Longs) -> Callers:
    return Callers(sessions=sessions, took_s=np.where(took_ns == NOBODY, np.nan, took_ns / NS), adapters=adapters)


def column_indexes(header: Row, table: Table) -> tuple[int, ...]:
    """Where the table's columns stand in a header."""
    missing = [name for name in table.columns if name not in header.fields]
    if missing:
        got = quoted(",".join(header.fields))
        message = f"expected the columns {','.join(table.columns)}, got {got}"
        raise TraceError(header.path, message, line=header.line, column=missing[0])
    return tuple(header.fields.index(name) for name in table.columns)


def split_fields(path: Path, line: int, raw: bytes) -> Sequence[str]:
    """One line of CSV as text; an empty list for a blank one."""
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as exc:
        raise TraceError(path, f"expected text, got the byte 0x{raw[exc.start]:02x}", line=line) from exc
    if "\0" in text:
        raise TraceError(path, "expected text, got a zero byte", line=line)
    if '"' not in text:
        return [part.strip() for part in text.split(",")] if text else []
    try:
        return [part.strip() for part in next(csv.reader([text], strict=True))]
    except (csv.Error, StopIteration) as exc:
        raise TraceError(path, f"expected one row of CSV: {exc}", line=line) from exc


def _row(path: Path, line: int, raw: bytes) -> Row | None:
    fields = split_fields(path, line, raw)
    return Row(path, line, fields) if fields else None


def _in_order(path: Path, chunks: list[Chunk]) -> Iterator[Chunk]:
    """Requests in order of time that were written in another."""
    everything = joined(chunks)
    if len(everything) > SORTED_ROWS_MAX:
        raise TraceError(path, f"expected at most {SORTED_ROWS_MAX:,} requests, which must be sorted in memory")
    ordered = everything.ordered()
    yield ordered.moved(-ordered.at_s[0])
