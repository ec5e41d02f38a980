"""One vLLM metrics page to one `EngineSample`, by the table in `metrics.names`. Pure, and the hot path.

One compiled pattern picks the lines of the families we use; what belongs to others is not parsed,
so nonsense there goes unnoticed. A line that we do use must be right to the last character, the
page must end in a line feed, and a histogram must have its `+Inf` bucket and its `_sum`: so a page
cut anywhere that matters is an `ExpositionError`, never a smaller number.
A series given twice counts once, the first time, as Prometheus has it. NaN, infinity and negative
values stop here: the field is None. `python -m metrics.catalog` prints the table.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import isfinite

from metrics.errors import ExpositionError, NotAnEngineError
from metrics.exposition import Labels, check_size, parse
from metrics.label_sets import Layout, capacity_of, labels_of, layout_of
from metrics.names import ROWS, Row, Shape, markdown_table, spellings
from metrics.sample import EngineSample, Histogram

__all__ = ["ROWS", "markdown_table", "read_sample"]

_Line = tuple[bytes, bytes]  # label set without braces, value
_Found = dict[bytes, list[_Line]]  # by sample name

LINES_MAX = 20_000  # of series we use: a hundred engines; more would hold up every other pod's scrape


def read_sample(page: bytes, *, observed_at_s: float) -> EngineSample:
    """What the page says of its engine; `NotAnEngineError` when no series of ours is on it."""
    check_size(page)
    found = _select(page)
    if not found:
        raise NotAnEngineError(f"no vLLM series on a page of {len(page)} bytes that starts {bytes(page[:60])!r}")
    if not page.endswith(b"\n"):
        raise ExpositionError(page.count(b"\n") + 1, "it was cut: the page does not end in a line feed")
    fields = {}
    for name, read in _READERS:
        try:
            fields[name] = read(found)
        except ExpositionError as exc:
            raise ExpositionError(exc.line, f"{name} cannot be read: {exc.what}") from None
    return EngineSample(observed_at_s=observed_at_s, **fields)  # type: ignore[arg-type]  # a table cannot show it


# --- which lines -----------------------------------------------------------------------------------------------------


def _names_pattern() -> str:
    scalars = {name for row in ROWS if row.shape is not Shape.HISTOGRAM for name in row.names}
    histograms = {name for row in ROWS if row.shape is Shape.HISTOGRAM for name in row.names}
    scalars.discard("iteration_tokens_total")
    # _count of a histogram is its +Inf bucket; only of the one whose buckets we skip do we read it
    return "|".join(
        (
            f"(?:{'|'.join(sorted(scalars))})(?:_total)?",
            "iteration_tokens_total_(?:count|sum)",
            f"(?:{'|'.join(sorted(histograms))})_(?:bucket|sum)",
        )
    )


# Either the plain form that vLLM writes, or "something follows the name": that goes to the full parser.
# A literal start ("\nvllm") lets the regex engine skip through the page at memory speed.
_LINE = re.compile(
    rf"\n(vllm[:_](?:{_names_pattern()}))(?:\{{([^\n}}]*)\}} ([^ \t\n_]+)\r?(?=\n)|(?=[ \t\r\n{{])([^\n]*))".encode()
)
_INDENTED = re.compile(rb"\n[ \t]+")


def _select(page: bytes) -> _Found:
    found: _Found = defaultdict(list)
    text = b"\n" + page
    if _INDENTED.search(text):  # legal, though no exporter does it
        text = _INDENTED.sub(b"\n", text)
    lines = _LINE.findall(text)
    if len(lines) > LINES_MAX:
        raise ExpositionError(0, f"{len(lines)} lines of vLLM series, more than {LINES_MAX}")
    for name, labels, value, other in lines:
        if other:
            labels, value = _read_other(page, name, other)
        found[name].append((labels, value))
    return found


def _read_other(page: bytes, name: bytes, rest: bytes) -> _Line:
    """A line with a timestamp, an exemplar, without labels or with odd blanks; or a broken one."""
    line = name + rest + b"\n"
    try:
        (family,) = parse(line)
    except ExpositionError as exc:
        try:
            (family,) = parse(line + b"# EOF\n", openmetrics=True)
        except ExpositionError:
            raise ExpositionError(_line_of(page, name + rest), exc.what) from None
    (series,) = family.series
    labels = ",".join(f'{key}="{_escape(value)}"' for key, value in series.labels)
    return labels.encode(), repr(series.value).encode()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _line_of(page: bytes, text: bytes) -> int:
    return page.count(b"\n", 0, max(0, page.find(text))) + 1


# --- fields ----------------------------------------------------------------------------------------------------------


def _number(value: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        raise ExpositionError(0, f"{value[:40]!r} is no number") from None


def _values(lines: Sequence[_Line], row: Row) -> list[float]:
    """The values of the row's series, each series once."""
    if len(lines) == 1 and not row.picks:  # most of them: one engine, one series
        ((raw, value),) = lines
        labels_of(raw)
        return [_number(value)]
    once: dict[Labels, float] = {}
    for raw, value in lines:
        labels = labels_of(raw)
        number = _number(value)  # also of series we pass over: a used family must be right
        if not row.picks or not row.picks.isdisjoint(labels):
            once.setdefault(labels, number)
    return list(once.values())


def _total(values: list[float]) -> float | None:
    """Their sum; None of nothing, and None when a part is not a count."""
    if not values:
        return None
    total = sum(values)
    return total if isfinite(total) and min(values) >= 0 else None


def _mean(values: list[float]) -> float | None:
    total = _total(values)
    return None if total is None else total / len(values)


def _all_on(values: list[float]) -> bool | None:
    return all(value == 1.0 for value in values) if values and all(map(isfinite, values)) else None


def _reader(row: Row, names: list[bytes]) -> Callable[[_Found], object]:
    reduce: Callable[[list[float]], object] = {Shape.MEAN: _mean, Shape.ALL: _all_on}.get(row.shape, _total)

    def read(found: _Found) -> object:
        for name in names:
            if name in found:
                return reduce(_values(found[name], row))
        return None

    return read


def _capacity_reader(names: list[bytes]) -> Callable[[_Found], object]:
    def read(found: _Found) -> float | None:
        for name in names:
            if name in found:
                parts = [capacity_of(raw) for raw in dict.fromkeys(raw for raw, _ in found[name])]
                known = [part for part in parts if part is not None]
                return sum(known) if len(known) == len(parts) else None
        return None

    return read


def _histogram_reader(row: Row, names: list[tuple[bytes, bytes]]) -> Callable[[_Found], object]:
    def read(found: _Found) -> Histogram | None:
        for buckets, sums in names:
            if buckets in found:
                return _histogram(row, found[buckets], found.get(sums, []))
            if sums in found:
                raise ExpositionError(0, f"{sums.decode()} without buckets")
        return None

    return read


def _histogram(row: Row, buckets: list[_Line], sums: list[_Line]) -> Histogram | None:
    raws, values = zip(*buckets, strict=True)
    layout = layout_of(raws)
    totals = _values(sums, row)
    if len(totals) != layout.engines:
        raise ExpositionError(0, f"it was cut: {len(totals)} of {layout.engines} sums of {row.names[0]}")
    try:
        numbers = tuple(map(float, values))
    except ValueError:
        numbers = tuple(map(_number, values))  # says which
    counts = numbers if layout.slots is None else _added(numbers, layout)
    total = sum(totals)
    # one sum of everything is finite only if every part is
    if not isfinite(sum(counts) + total) or min(counts) < 0:
        return None
    return Histogram(bounds=layout.bounds, counts=counts, sum=total)


def _added(numbers: tuple[float, ...], layout: Layout) -> tuple[float, ...]:
    counts = [0.0] * len(layout.bounds)
    for slot, number in zip(layout.slots or (), numbers, strict=True):
        if slot >= 0:
            counts[slot] += number
    return tuple(counts)


def _reader_of(row: Row) -> Callable[[_Found], object]:
    def encoded(suffix: str = "") -> list[bytes]:
        return [name.encode() for name in spellings(row, suffix)]

    match row.shape:
        case Shape.HISTOGRAM:
            return _histogram_reader(row, list(zip(encoded("_bucket"), encoded("_sum"), strict=True)))
        case Shape.CAPACITY:
            return _capacity_reader(encoded())
        case Shape.COUNT_OF:
            return _reader(row, encoded("_count"))
        case Shape.SUM_OF:
            return _reader(row, encoded("_sum"))
        case _:
            return _reader(row, encoded())


_READERS = tuple((row.field, _reader_of(row)) for row in ROWS)

if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown_table())
