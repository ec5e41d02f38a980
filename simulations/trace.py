"""Real traffic from files: readers that yield one `Arrival` per request, in order of time.

Azure's CSV (2023 and 2024): `TIMESTAMP,ContextTokens,GeneratedTokens`, timestamps with up to seven
digits of fraction. A file is untrusted text: it is read line by line, and the first line that is
not what it should be ends the reading with a `TraceError` that names file, line and column.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from simulations.errors import TraceError

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
LINE_BYTES_MAX = 4096  # a row has about 40; a file without line ends must not be read into memory
TOKENS_MAX = 10_000_000  # ten times the longest context sold today; beyond that a column is mixed up
QUOTED_CHARACTERS_MAX = 40  # of a bad value, in the message
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request: when it comes (seconds after the first one) and how long it is."""

    at_s: float
    prompt_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if not 0 <= self.at_s < float("inf"):
            raise ValueError(f"at_s must be ≥ 0 and finite, got {self.at_s}")
        if self.prompt_tokens < 0 or self.output_tokens < 0:
            raise ValueError(f"tokens must be ≥ 0, got {self.prompt_tokens} and {self.output_tokens}")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file, and where it stands."""

    path: Path
    line: int
    fields: Sequence[str]

    def refuse(self, column: str, expected: str, value: str) -> TraceError:
        """The error that names this row."""
        return TraceError(self.path, f"expected {expected}, got {quoted(value)}", line=self.line, column=column)


def read_azure(path: Path) -> Iterator[Arrival]:
    """The requests of an Azure LLM inference trace, streamed; raises TraceError at the first bad line."""
    rows = _rows(path)
    header = next(rows, None)
    if header is None:
        raise TraceError(path, f"the file is empty; expected the header {','.join(AZURE_COLUMNS)}")
    time_index, prompt_index, output_index = _column_indexes(header)
    first_ns: int | None = None
    last_ns = 0
    for row in rows:
        if len(row.fields) != len(header.fields):
            raise TraceError(path, f"expected {len(header.fields)} fields, got {len(row.fields)}", line=row.line)
        at_ns = _timestamp_ns(row, row.fields[time_index])
        first_ns = at_ns if first_ns is None else first_ns
        if at_ns < last_ns:
            raise row.refuse(AZURE_COLUMNS[0], "no time before that of the line above", row.fields[time_index])
        last_ns = at_ns
        yield Arrival(
            at_s=(at_ns - first_ns) / 1e9,
            prompt_tokens=_tokens(row, AZURE_COLUMNS[1], row.fields[prompt_index]),
            output_tokens=_tokens(row, AZURE_COLUMNS[2], row.fields[output_index]),
        )
    if first_ns is None:
        raise TraceError(path, "there is a header but no request")


def quoted(value: str) -> str:
    """A value as it may stand in a message: on one line, and short."""
    return repr(value if len(value) <= QUOTED_CHARACTERS_MAX else value[:QUOTED_CHARACTERS_MAX] + "…")


def _rows(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            line = 0
            while raw := file.readline(LINE_BYTES_MAX + 1):
                line += 1
                if text := _text(path, line, raw):
                    yield Row(path, line, [field.strip() for field in text.split(",")])
    except OSError as exc:
        raise TraceError(path, f"cannot be read: {exc.strerror}") from exc


def _text(path: Path, line: int, raw: bytes) -> str:
    if len(raw) > LINE_BYTES_MAX:
        raise TraceError(path, f"expected a line of text of at most {LINE_BYTES_MAX} bytes", line=line)
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
    except UnicodeDecodeError as exc:
        raise TraceError(path, f"expected text, got the byte 0x{raw[exc.start]:02x}", line=line) from exc
    if "\0" in text:
        raise TraceError(path, "expected text, got a zero byte", line=line)
    return text


def _column_indexes(header: Row) -> tuple[int, int, int]:
    missing = [name for name in AZURE_COLUMNS if name not in header.fields]
    if missing:
        got = quoted(",".join(header.fields))
        message = f"expected the columns {','.join(AZURE_COLUMNS)}, got {got}"
        raise TraceError(header.path, message, line=header.line, column=missing[0])
    time_index, prompt_index, output_index = (header.fields.index(name) for name in AZURE_COLUMNS)
    return time_index, prompt_index, output_index


def _timestamp_ns(row: Row, value: str) -> int:
    """Whole nanoseconds: a float of seconds since any epoch would lose the seventh digit."""
    match = TIMESTAMP.fullmatch(value)
    expected = "a time such as 2023-11-16 18:15:46.6805900"
    if match is None:
        raise row.refuse(AZURE_COLUMNS[0], expected, value)
    whole, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(whole + ("+00:00" if zone in (None, "Z") else zone))
    except ValueError as exc:
        raise row.refuse(AZURE_COLUMNS[0], expected, value) from exc
    return (moment - EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "0").ljust(9, "0"))


def _tokens(row: Row, column: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= TOKENS_MAX):
        raise row.refuse(column, f"a whole number of tokens from 0 to {TOKENS_MAX}", value)
    return int(value)
