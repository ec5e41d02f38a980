"""Traffic that is known as a rate only: requests are drawn from it, their lengths from figures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulations.errors import TraceError
from simulations.traces.chunk import Chunk, Floats, joined
from simulations.traces.jsonl import Place
from simulations.traces.lengths import Lengths, lengths_of
from simulations.traces.source import blocks, whole
from simulations.traces.tables import split_fields
from simulations.traces.values import Clock, Row, quoted
from simulations.traffic import load_figures

BINS_MAX = 5_000_000  # ten years of minutes
RATE_MAX = 1e7  # requests per second: more is a count of something else
DRAWN_ROWS = 100_000  # at least so many in a chunk, so that numpy pays
PART_ROWS = 1_000_000  # expected in what is drawn at once
HOUR_S, MINUTE_S = 3600.0, 60.0

# Columns by their name: what one unit of them is in seconds; None: a moment. Then what a value counts.
TIME_COLUMNS: dict[str, float | None] = {
    "t_seconds": 1.0, "seconds": 1.0, "t_s": 1.0, "minute": MINUTE_S, "hour": HOUR_S, "period": None, "time": None,
}  # fmt: skip
PER_S_COLUMNS = {"req_per_s": 1.0, "requests_per_s": 1.0, "rps": 1.0, "qps": 1.0, "rate": 1.0}
PER_S_COLUMNS |= {"req_per_min": 1 / MINUTE_S, "requests_per_min": 1 / MINUTE_S, "req_per_min_mid_scaled": 1 / MINUTE_S}
COUNT_COLUMNS = ("requests", "count")
CSV_EXPECTED = f"a time ({', '.join(TIME_COLUMNS)}) and a rate ({', '.join((*PER_S_COLUMNS, *COUNT_COLUMNS))})"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rates:
    """Requests per second in bins one after another, from 0 on."""

    widths_s: Floats
    per_s: Floats

    def chunks(self, lengths: Lengths, rng: np.random.Generator) -> Iterator[Chunk]:
        """A Poisson process of these rates, streamed."""
        pending: list[Chunk] = []
        for begin_s, width_s, per_s in self._parts():
            requests = int(rng.poisson(per_s * width_s))
            prompts, outputs = lengths.draw(rng, requests)
            at_s = begin_s + np.sort(rng.random(requests)) * width_s
            pending.append(Chunk(at_s=at_s, prompt_tokens=prompts, output_tokens=outputs))
            if sum(map(len, pending)) >= DRAWN_ROWS:
                yield joined(pending)
                pending = []
        if any(map(len, pending)):
            yield joined(pending)

    def _parts(self) -> Iterator[tuple[float, float, float]]:
        """Bins with few enough requests to be drawn at once: begin, width, rate."""
        begin_s = 0.0
        for width_s, per_s in zip(self.widths_s.tolist(), self.per_s.tolist(), strict=True):
            parts = max(1, math.ceil(per_s * width_s / PART_ROWS))
            for part in range(parts):
                yield begin_s + width_s * part / parts, width_s / parts, per_s
            begin_s += width_s


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawing:
    """What a format needs that has no requests in it."""

    seed: int = 1
    given_lengths: Lengths | None = None  # None: those of Azure's conversations of 2023

    @property
    def lengths(self) -> Lengths:
        """How long prompts and answers are."""
        return self.given_lengths or lengths_of(load_figures())

    @property
    def rng(self) -> np.random.Generator:
        """A fresh one: the same trace is drawn each time it is read."""
        return np.random.default_rng(self.seed)


def rates_csv(path: Path) -> Rates:
    """A time and a rate, or a count, per line."""
    rows = _rows(path)
    header = next(rows, None)
    if header is None:
        raise TraceError(path, f"the file is empty; expected {CSV_EXPECTED}")
    columns = rate_columns(header.fields)
    if columns is None:
        got = quoted(",".join(header.fields))
        raise TraceError(path, f"expected {CSV_EXPECTED}, got {got}", line=header.line, column=header.fields[0])
    time, rate = columns
    points: list[tuple[float, float]] = []
    for row in rows:
        points.append(_point(row, header, time, rate))
        if len(points) > 1 and points[-1][0] <= points[-2][0]:
            raise row.refuse(header.fields[time], "a later time than that of the line above", row.fields[time])
    return _rates(path, points, header.fields[rate], PER_S_COLUMNS.get(header.fields[rate]))


def rate_columns(header: Sequence[str]) -> tuple[int, int] | None:
    """Where the time and the rate stand; None where this is no table of rates."""
    times = [index for index, name in enumerate(header) if name in TIME_COLUMNS]
    rates = [index for index, name in enumerate(header) if name in PER_S_COLUMNS or name in COUNT_COLUMNS]
    return (times[0], rates[0]) if times and rates and times[0] != rates[0] else None


def rates_prometheus(path: Path) -> Rates:
    """The answer of Prometheus' `query_range`, whose value is requests per second; series are summed."""
    place = Place(path, None)
    found = place.parsed(whole(path))
    series = found
    if isinstance(found, dict):
        data = found.get("data")
        series = data.get("result") if isinstance(data, dict) else None
    if not isinstance(series, list) or not series:
        place.refuse("data.result", "the series of a range query", series)
    total: dict[float, float] = {}
    for number, one in enumerate(series):
        values = one.get("values") if isinstance(one, dict) else None
        if not isinstance(values, list):
            place.refuse(f"data.result[{number}].values", "a list of [time, value]", values)
        for index, pair in enumerate(values):
            at_s, per_s = _pair(place, f"data.result[{number}].values[{index}]", pair)
            if not math.isnan(per_s):  # no answer is not zero: such a bin is between its neighbours
                total[at_s] = total.get(at_s, 0.0) + per_s
    return _rates(path, sorted(total.items()), "values", 1.0)


def _pair(place: Place, column: str, pair: object) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        place.refuse(column, "[time, value]", pair)
    at_s = place.time_ns(column, pair[0], 10**9) / 1e9
    try:
        per_s = float(pair[1])
    except (TypeError, ValueError):
        place.refuse(column, "a rate ≥ 0", pair[1])
    if math.isnan(per_s):
        return at_s, per_s
    if not 0 <= per_s <= RATE_MAX:
        place.refuse(column, f"a rate from 0 to {RATE_MAX:g} requests per second", pair[1])
    return at_s, per_s


def _rates(path: Path, points: "list[tuple[float, float]]", column: str, per_s_of_one: float | None) -> Rates:
    """Each value holds until the next one; the last as long as most do."""
    if len(points) < 2:
        raise TraceError(path, f"expected at least 2 bins of a rate, got {len(points)}")
    at_s, values = np.array(points).T
    widths_s = np.diff(at_s)
    widths_s = np.append(widths_s, np.median(widths_s))
    per_s = values / widths_s if per_s_of_one is None else values * per_s_of_one
    if per_s.max() > RATE_MAX:
        number = int(per_s.argmax())
        expected = f"a rate from 0 to {RATE_MAX:g} requests per second, got {per_s[number]:g} in bin {number + 1}"
        raise TraceError(path, f"expected {expected}", column=column)
    if not per_s.any():
        raise TraceError(path, "there is no request: every rate is 0", column=column)
    return Rates(widths_s=widths_s, per_s=per_s)


def _rows(path: Path) -> Iterator[Row]:
    count = 0
    for block in blocks(path):
        for number, line in enumerate(block.data.split(b"\n"), block.first_line):
            if fields := split_fields(path, number, line):
                count += 1
                if count > BINS_MAX:
                    raise TraceError(path, f"expected at most {BINS_MAX:,} bins", line=number)
                yield Row(path, number, fields)


def _point(row: Row, header: Row, time: int, rate: int) -> tuple[float, float]:
    if len(row.fields) != len(header.fields):
        raise TraceError(row.path, f"expected {len(header.fields)} fields, got {len(row.fields)}", line=row.line)
    name, unit_s = header.fields[time], TIME_COLUMNS[header.fields[time]]
    if unit_s is None:
        at_s = row.time_ns(name, row.fields[time], Clock.MOMENT) / 1e9
    else:
        at_s = row.time_ns(name, row.fields[time], Clock.SECONDS) / 1e9 * unit_s
    try:
        value = float(row.fields[rate])
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise row.refuse(header.fields[rate], "a number ≥ 0", row.fields[rate])
    return at_s, value
