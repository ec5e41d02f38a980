"""Which formats there are, and which of them a file has."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from simulations.errors import TraceError
from simulations.trace import Arrival
from simulations.traces.bench import KEYS, bench_chunks
from simulations.traces.chunk import Chunk
from simulations.traces.jsonl import LINES, Lines, Place
from simulations.traces.rates import Drawing, rate_columns, rates_csv, rates_prometheus
from simulations.traces.servegen import servegen_chunks
from simulations.traces.source import first_line, whole
from simulations.traces.tables import TABLES, Table, column_indexes, split_fields
from simulations.traces.values import Row, quoted

Reader = Callable[[Path, Drawing], Iterator[Chunk]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A name, what writes it, and how it is read."""

    name: str
    says: str
    read: Reader
    is_drawn: bool = False  # it has rates, not requests: these are drawn by seed
    has_lengths: bool = True  # False: so are their tokens, from figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A file and its format; reading it again gives the same requests."""

    path: Path
    format: Format
    drawing: Drawing = field(default_factory=Drawing)

    def chunks(self) -> Iterator[Chunk]:
        """Its requests in order of time, streamed; a TraceError names what is wrong, after what was right."""
        is_empty = True
        for chunk in self.format.read(self.path, self.drawing):
            is_empty = False
            yield chunk
        if is_empty:
            raise TraceError(self.path, "no request comes of its rates")


def _of_table(table: Table) -> Format:
    return Format(name=table.name, says=table.says, read=lambda path, _: table.chunks(path))


def _of_lines(lines: Lines) -> Format:
    return Format(name=lines.name, says=lines.says, read=lambda path, _: lines.chunks(path))


FORMATS = {
    one.name: one
    for one in (
        *map(_of_table, TABLES),
        *map(_of_lines, LINES),
        Format(
            name="vllm-bench",
            says="JSON of `vllm bench serve --save-detailed`",
            read=lambda path, _: bench_chunks(path),
        ),
        Format(
            name="servegen",
            says="a directory of ServeGen's clients",
            read=lambda path, drawing: servegen_chunks(path, drawing.rng),
            is_drawn=True,
        ),
        Format(
            name="rates",
            says="CSV of requests per second, per minute or per bin",
            read=lambda path, drawing: rates_csv(path).chunks(drawing.lengths, drawing.rng),
            is_drawn=True,
            has_lengths=False,
        ),
        Format(
            name="prometheus",
            says="a saved answer of Prometheus' query_range, in requests per second",
            read=lambda path, drawing: rates_prometheus(path).chunks(drawing.lengths, drawing.rng),
            is_drawn=True,
            has_lengths=False,
        ),
    )
}


def open_trace(path: Path, format_name: str | None = None, drawing: Drawing | None = None) -> Trace:
    """A file in the named format, or in the one that its first line shows. TraceError where it has none."""
    name = format_name or detect(path)
    return Trace(path=path, format=FORMATS[name], drawing=drawing or Drawing())


def read_arrivals(path: Path) -> Iterator[Arrival]:
    """The requests of a trace file of any format, streamed; raises TraceError at the first bad line."""
    for chunk in open_trace(path).chunks():
        columns = (chunk.at_s.tolist(), chunk.prompt_tokens.tolist(), chunk.output_tokens.tolist())
        for at_s, prompt_tokens, output_tokens in zip(*columns, strict=True):
            yield Arrival(at_s=at_s, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def detect(path: Path) -> str:
    """The name of a file's format."""
    if path.is_dir():
        return "servegen"
    line = first_line(path)
    if not line:
        raise TraceError(path, "the file is empty; expected a header or JSON")
    return _json_format(path, line) if line[:1] in (b"{", b"[") else _csv_format(path, line)


def _csv_format(path: Path, line: bytes) -> str:
    header = Row(path, 1, split_fields(path, 1, line))
    for table in TABLES:
        if set(table.columns) <= set(header.fields):
            return table.name
    if rate_columns(header.fields) is not None:
        return "rates"
    nearest = max(TABLES, key=lambda table: len(set(table.columns) & set(header.fields)))
    if set(nearest.columns) & set(header.fields):
        column_indexes(header, nearest)  # raises: names what is missing
    names = ", ".join(table.name for table in TABLES)
    got = quoted(",".join(header.fields))
    raise TraceError(path, f"expected the header of a trace ({names}, rates), got {got}", line=1)


def _json_format(path: Path, line: bytes) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):  # a document over several lines, or none
        found = Place(path, None).parsed(whole(path))
    keys = set(found) if isinstance(found, dict) else set()
    for lines in LINES:
        if {*lines.keys, lines.marked_by} - {""} <= keys:
            return lines.name
    if keys & set(KEYS):
        return "vllm-bench"
    if "data" in keys or "result" in keys or isinstance(found, list):
        return "prometheus"
    nearest = max(LINES, key=lambda lines: len(set(lines.keys) & keys))
    missing = [key for key in nearest.keys if key not in keys]
    expected = f"requests ({', '.join(nearest.keys)}), a result of `vllm bench serve` or of Prometheus"
    raise TraceError(path, f"expected {expected}", line=1, column=missing[0])
