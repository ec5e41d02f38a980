"""The Prometheus text format 0.0.4 and OpenMetrics 1.0, to typed series. Pure; total but for `ExpositionError`.

The syntax is checked as each format states it: in 0.0.4 blanks are free, comments and CRLF pass and
timestamps are milliseconds; in OpenMetrics blanks are fixed, timestamps are seconds, exemplars may
follow, and `# EOF` must end the page. Either way a page that does not end in a line feed was cut.
Series are kept as they stand, NaN, infinities and duplicates too: what they mean is the catalog's matter.
UTF-8 names in quotes (text format 1.0.0) are refused; a client that asks for 0.0.4 never gets them.
"""

import re
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

from metrics.errors import ExpositionError

PAGE_BYTES_MAX = 5_000_000  # a hundred times a vLLM page; beyond it something else answers
LINE_BYTES_MAX = 1_000_000  # no label set is that long; a line like this is an attack or a binary
_MEMO_CHARS_MAX = 512  # label sets longer than this are parsed anew each time, which bounds the memo's memory

Labels = tuple[tuple[str, str], ...]


class Exemplar(NamedTuple):
    """One observation that stands for many (OpenMetrics)."""

    labels: Labels
    value: float
    timestamp_s: float | None


class Series(NamedTuple):
    """One sample line. A tuple, not a dataclass: a page has 500 of them."""

    name: str
    labels: Labels  # in the order of the page
    value: float
    timestamp_s: float | None = None
    exemplar: Exemplar | None = None


class Family(NamedTuple):
    """Series under one TYPE; `kind` is "untyped" where the page names none."""

    name: str
    kind: str
    help: str
    unit: str
    series: list[Series]


_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_LABELS = r"""(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+"""
_TEXT_LINE = re.compile(
    rf"({_NAME})(?:[ \t]*+\{{({_LABELS})\}}[ \t]*+|[ \t]++)([^ \t{{]++)(?:[ \t]++(-?[0-9]{{1,19}}))?+"
)
_OPEN_LINE = re.compile(
    rf"({_NAME})(?:\{{({_LABELS})\}})?+ ([^ ]++)(?: ([^ #]++))?+(?: # \{{({_LABELS})\}} ([^ ]++)(?: ([^ ]++))?+)?+"
)
_TEXT_LABEL = re.compile(
    r"""[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]++|\\.)*+)"[ \t]*+(,|\Z)[ \t]*+"""
)
_OPEN_LABEL = re.compile(r"""([a-zA-Z_][a-zA-Z0-9_]*+)="((?:[^"\\]++|\\.)*+)"(,(?!\Z)|\Z)""")
_META = re.compile(rf"#[ \t]+(HELP|TYPE)[ \t]+({_NAME})(?:[ \t]+(.*))?", re.DOTALL)
_BAD_META = re.compile(r"#[ \t]+(?:HELP|TYPE)[ \t]")  # once _META did not match
_OPEN_META = re.compile(rf"# (HELP|TYPE|UNIT) ({_NAME}) (.*)", re.DOTALL)
_ESCAPE = re.compile(r'\\[\\n"]')
_TEXT_HELP_ESCAPE = re.compile(r"\\[\\n]")  # 0.0.4 keeps a backslash before a quote in HELP
_ESCAPED = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}

_TEXT_KINDS = {
    "counter": ("",),
    "gauge": ("",),
    "untyped": ("",),
    "summary": ("", "_sum", "_count"),
    "histogram": ("", "_sum", "_count", "_bucket"),
}
_OPEN_KINDS = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "unknown": ("",),
    "stateset": ("",),
    "info": ("", "_info"),
    "summary": ("", "_sum", "_count", "_created"),
    "histogram": ("", "_sum", "_count", "_bucket", "_created"),
    "gaugehistogram": ("", "_gsum", "_gcount", "_bucket"),
}


def parse(page: bytes | str, *, openmetrics: bool = False) -> list[Family]:
    """Every family of a page, in its order. `openmetrics` is what the Content-Type says."""
    reader = _Page(openmetrics)
    take_line = reader.take_open_line if openmetrics else reader.take_text_line
    for number, line in enumerate(_lines(page), start=1):
        try:
            take_line(line)
        except _LineError as exc:
            raise ExpositionError(number, f"{exc}: {line[:200]!r}") from None
    if openmetrics and not reader.ended:
        raise ExpositionError(0, "it was cut: OpenMetrics must end with # EOF")
    return list(reader.families.values())


class _LineError(Exception):
    """What is wrong with the line at hand."""


class _Page:
    """What the lines so far have said."""

    def __init__(self, openmetrics: bool) -> None:
        self.families: dict[str, Family] = {}
        self.ended = False
        self._owners: dict[str, list[Series]] = {}  # sample name → its family's series
        self._typed: set[str] = set()
        self._kinds = _OPEN_KINDS if openmetrics else _TEXT_KINDS
        self._default_kind = "unknown" if openmetrics else "untyped"
        self._help_escape = _ESCAPE if openmetrics else _TEXT_HELP_ESCAPE

    def take_text_line(self, line: str) -> None:
        line = line.strip(" \t\r")
        if not line:
            return
        if line[0] == "#":
            if match := _META.fullmatch(line):
                self._take_meta(match[1], match[2], match[3] or "")
            elif _BAD_META.match(line):
                raise _LineError("HELP or TYPE of no valid name")
            return
        match = _TEXT_LINE.fullmatch(line)
        if match is None:
            raise _LineError("not a sample")
        name, labels, value, timestamp_ms = match.groups()
        timestamp_s = None if timestamp_ms is None else int(timestamp_ms) / 1000
        self._keep(Series(name, _labels(labels, _TEXT_LABEL), _number(value), timestamp_s))

    def take_open_line(self, line: str) -> None:
        if self.ended:
            raise _LineError("text after # EOF")
        if line == "# EOF":
            self.ended = True
            return
        if line.startswith("#"):
            meta = _OPEN_META.fullmatch(line)
            if meta is None:
                raise _LineError("neither HELP, TYPE, UNIT nor EOF")
            self._take_meta(meta[1], meta[2], meta[3])
            return
        match = _OPEN_LINE.fullmatch(line)
        if match is None:
            raise _LineError("not a sample")
        name, labels, value, timestamp, *marked = match.groups()
        exemplar = None
        if marked[0] is not None:
            exemplar = Exemplar(_labels(marked[0], _OPEN_LABEL), _number(marked[1]), _seconds(marked[2]))
        self._keep(Series(name, _labels(labels, _OPEN_LABEL), _number(value), _seconds(timestamp), exemplar))

    def _take_meta(self, keyword: str, name: str, text: str) -> None:
        family = self.families.get(name) or Family(name, self._default_kind, "", "", [])
        if keyword == "TYPE":
            family = family._replace(kind=self._checked_kind(family, text.strip()))
            for suffix in self._kinds[family.kind]:
                self._owners.setdefault(name + suffix, family.series)
            self._owners[name] = family.series
        elif keyword == "HELP":
            family = family._replace(help=_unescape(text, self._help_escape))
        else:
            family = family._replace(unit=text)
        self.families[name] = family

    def _checked_kind(self, family: Family, kind: str) -> str:
        if kind not in self._kinds:
            raise _LineError(f"TYPE {kind!r} does not exist")
        if family.name in self._typed:
            raise _LineError(f"second TYPE of {family.name}")
        if family.series:
            raise _LineError(f"TYPE of {family.name} after its samples")
        self._typed.add(family.name)
        return kind

    def _keep(self, series: Series) -> None:
        owner = self._owners.get(series.name)
        if owner is None:
            family = self.families.setdefault(series.name, Family(series.name, self._default_kind, "", "", []))
            owner = self._owners[series.name] = family.series
        owner.append(series)


def check_size(page: bytes | str) -> None:
    """Refuse a page or a line beyond the limits."""
    if len(page) > PAGE_BYTES_MAX:
        raise ExpositionError(0, f"{len(page)} bytes, more than {PAGE_BYTES_MAX}")
    if len(page) <= LINE_BYTES_MAX:
        return
    lines = page.split(b"\n") if isinstance(page, bytes) else page.split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > LINE_BYTES_MAX:
            raise ExpositionError(number, f"{len(line)} bytes, more than {LINE_BYTES_MAX}")


def _lines(page: bytes | str) -> list[str]:
    check_size(page)
    try:
        text = page if isinstance(page, str) else page.decode()
    except UnicodeDecodeError as exc:
        number = exc.object.count(b"\n", 0, exc.start) + 1
        raise ExpositionError(number, f"not UTF-8: byte {exc.object[exc.start]:#x}") from None
    lines = text.split("\n")  # not splitlines: U+2028 and others are ordinary characters here
    if lines.pop():
        raise ExpositionError(len(lines) + 1, "it was cut: the page does not end in a line feed")
    return lines


def _labels(raw: str | None, pattern: re.Pattern[str]) -> Labels:
    if not raw:
        return ()
    return _memoised_labels(raw, pattern) if len(raw) <= _MEMO_CHARS_MAX else _read_labels(raw, pattern)


@lru_cache(maxsize=4096)  # families of a page share their label sets, and pages share them over time
def _memoised_labels(raw: str, pattern: re.Pattern[str]) -> Labels:
    return _read_labels(raw, pattern)


def _read_labels(raw: str, pattern: re.Pattern[str]) -> Labels:
    labels: dict[str, str] = {}
    at = 0
    while at < len(raw):
        match = pattern.match(raw, at)
        if match is None:
            if at == 0 and pattern is _TEXT_LABEL and not raw.strip(" \t"):
                break
            raise _LineError("bad label set")
        name, value, _ = match.groups()
        if name in labels:
            raise _LineError(f"label {name} twice")
        labels[name] = _unescape(value)
        at = match.end()
    return tuple(labels.items())


def _unescape(text: str, pattern: re.Pattern[str] = _ESCAPE) -> str:
    return pattern.sub(lambda match: _ESCAPED[match[0]], text) if "\\" in text else text


def _number(token: str) -> float:
    # float() alone would also take 1_000 and digits of other scripts
    if "_" in token or not token.isascii():
        raise _LineError(f"{token[:40]!r} is no number")
    try:
        return float(token)
    except ValueError:
        raise _LineError(f"{token[:40]!r} is no number") from None


def _seconds(token: str | None) -> float | None:
    if token is None:
        return None
    timestamp_s = _number(token)
    if not isfinite(timestamp_s):
        raise _LineError(f"timestamp {token[:40]!r} is not finite")
    return timestamp_s
