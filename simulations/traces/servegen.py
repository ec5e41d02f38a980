"""ServeGen's client directories: each client's rate, burstiness and lengths in windows of ten minutes.

Requests are drawn as https://github.com/alibaba/ServeGen draws them (Gamma or Weibull gaps, stretched so that
the window holds its number), except that prompts and answers are drawn apart from each other: ServeGen draws
both with one random number, so that its longest prompts always get the longest answers.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulations.errors import TraceError
from simulations.traces.chunk import TOKENS_MAX, Chunk, Floats, Tokens, joined
from simulations.traces.jsonl import Place
from simulations.traces.rates import DRAWN_ROWS, RATE_MAX
from simulations.traces.source import blocks, whole
from simulations.traces.tables import split_fields
from simulations.traces.values import Clock, Row

TRACE_NAME = re.compile(r"chunk-(\d+)-trace\.csv")
COLUMNS = ("timestamp", "rate", "cv", "pattern", "shape", "scale")  # the files have no header
PATTERNS = ("Gamma", "Weibull")
PROBABILITY = re.compile(r"\s*(\d{1,8}):\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*", re.ASCII)
SHAPE_MIN = 0.005  # a gamma of less gives gaps of 0 only
CLIENTS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a client does from `at_s` on; `shape` is that of the gaps between its requests."""

    at_s: float
    per_s: float
    pattern: str
    shape: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Choice:
    """Numbers of tokens and how likely at most so many are."""

    tokens: Tokens
    cumulated: Floats

    def draw(self, rng: np.random.Generator, requests: int) -> Tokens:
        """So many numbers."""
        places = np.searchsorted(self.cumulated, rng.random(requests) * self.cumulated[-1], side="right")
        drawn: Tokens = self.tokens[np.minimum(places, len(self.tokens) - 1)]
        return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client's windows, by their begin, and its lengths, from so many seconds on."""

    windows: Mapping[float, Window]
    lengths_from_s: tuple[float, ...]
    lengths: tuple[tuple[Choice, Choice], ...]  # prompts, outputs

    def drawn(self, rng: np.random.Generator, window: Window, width_s: float) -> Chunk:
        """The requests of one window."""
        requests = int(window.per_s * width_s + rng.random())
        gaps = _gaps(rng, window, requests + 1)
        at_s = window.at_s + np.cumsum(gaps)[:-1] / gaps.sum() * width_s
        place = max(0, bisect_right(self.lengths_from_s, window.at_s) - 1)
        prompts, outputs = self.lengths[place]
        return Chunk(at_s=at_s, prompt_tokens=prompts.draw(rng, requests), output_tokens=outputs.draw(rng, requests))


def servegen_chunks(path: Path, rng: np.random.Generator) -> Iterator[Chunk]:
    """The requests of all clients, streamed window by window."""
    clients = _clients(path)
    begins_s = sorted({at_s for client in clients for at_s in client.windows})
    width_s = float(np.median(np.diff(begins_s))) if len(begins_s) > 1 else 600.0
    pending: list[Chunk] = []
    for begin_s in begins_s:
        drawn = [
            client.drawn(rng, client.windows[begin_s], width_s)
            for client in clients
            if begin_s in client.windows and client.lengths
        ]
        pending.append(joined(drawn).ordered())
        if sum(map(len, pending)) >= DRAWN_ROWS:
            yield joined(pending)
            pending = []
    if any(map(len, pending)):
        yield joined(pending)


def _clients(path: Path) -> list[Client]:
    try:
        names = sorted(entry.name for entry in path.iterdir() if TRACE_NAME.fullmatch(entry.name))
    except OSError as exc:
        raise TraceError(path, f"cannot be read: {exc.strerror}") from exc
    if not names or len(names) > CLIENTS_MAX:
        expected = f"ServeGen's chunk-N-trace.csv beside chunk-N-dataset.json, up to {CLIENTS_MAX:,}"
        raise TraceError(path, f"expected {expected}, got {len(names)} of them")
    clients = [_client(path, name) for name in names]
    if not any(client.windows and client.lengths for client in clients):
        raise TraceError(path, "there is no request: no client has both a rate and lengths")
    return clients


def _client(folder: Path, name: str) -> Client:
    windows = {window.at_s: window for window in _windows(folder / name) if window.per_s > 0}
    known = _lengths(folder / name.replace("-trace.csv", "-dataset.json"))
    return Client(windows=windows, lengths_from_s=tuple(known), lengths=tuple(known.values()))


def _windows(path: Path) -> Iterator[Window]:
    last_s = -1.0
    for block in blocks(path):
        for number, line in enumerate(block.data.split(b"\n"), block.first_line):
            if not (fields := split_fields(path, number, line)):
                continue
            window = _window(Row(path, number, fields))
            if window.at_s <= last_s:
                raise TraceError(path, "expected a later time than that of the line above", line=number, column="1")
            last_s = window.at_s
            yield window


def _window(row: Row) -> Window:
    if len(row.fields) != len(COLUMNS):
        expected = f"{len(COLUMNS)} fields ({', '.join(COLUMNS)})"
        raise TraceError(row.path, f"expected {expected}, got {len(row.fields)}", line=row.line)
    time, rate, _, pattern, shape, _ = row.fields
    at_s = row.time_ns("timestamp", time, Clock.SECONDS) / 1e9
    per_s = _number(row, "rate", rate, RATE_MAX)
    if not per_s or not pattern:
        return Window(at_s=at_s, per_s=0.0, pattern="", shape=1.0)
    if pattern not in PATTERNS:
        raise row.refuse("pattern", f"one of {', '.join(PATTERNS)}", pattern)
    return Window(at_s=at_s, per_s=per_s, pattern=pattern, shape=max(SHAPE_MIN, _number(row, "shape", shape, 1e6)))


def _number(row: Row, column: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise row.refuse(column, f"a number from 0 to {most:g}", text)
    return value


def _lengths(path: Path) -> dict[float, tuple[Choice, Choice]]:
    """By the second from which they hold; a stretch without requests has none."""
    place = Place(path, None)
    known = {}
    for key, fields in place.parsed_object(whole(path)).items():
        if not (key.isascii() and key.isdigit() and len(key) < 10) or not isinstance(fields, dict):
            place.refuse(key, "lengths by a whole number of seconds", fields)
        prompts = _choice(place, f"{key}.input_tokens", fields.get("input_tokens"))
        outputs = _choice(place, f"{key}.output_tokens", fields.get("output_tokens"))
        if prompts is not None and outputs is not None:
            known[float(key)] = (prompts, outputs)
    return dict(sorted(known.items()))


def _choice(place: Place, column: str, text: object) -> Choice | None:
    if not isinstance(text, str) or not (text.startswith("{") and text.endswith("}")):
        place.refuse(column, "a text such as '{224: 0.5, 225: 0.5}'", text)
    if not text[1:-1].strip():
        return None
    pairs = []
    for part in text[1:-1].split(","):
        match = PROBABILITY.fullmatch(part)
        if match is None or int(match[1]) > TOKENS_MAX or not float(match[2]) <= 1 + 1e-6:
            place.refuse(column, f"tokens from 0 to {TOKENS_MAX} and their share", part)
        pairs.append((int(match[1]), float(match[2])))
    tokens, shares = np.array(pairs).T
    return Choice(tokens=tokens.astype(np.int32), cumulated=np.cumsum(shares)) if shares.any() else None


def _gaps(rng: np.random.Generator, window: Window, gaps: int) -> Floats:
    drawn = rng.gamma(window.shape, size=gaps) if window.pattern == "Gamma" else rng.weibull(window.shape, size=gaps)
    return np.maximum(drawn, np.finfo(np.float64).tiny)  # never all zero
