"""One JSON object per line, one line per request: Mooncake's traces and their relatives."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from simulations.errors import TraceError
from simulations.traces.chunk import NOBODY, NS, SECONDS_MAX, TOKENS_MAX, Blocks, Callers, Chunk, Longs
from simulations.traces.source import blocks
from simulations.traces.values import number_of, quoted

BLOCK_ID_MAX = 2**63 - 1  # numpy holds it
CHUNK_ROWS = 50_000
CHATS_MAX = 2_000_000  # whose beginning is remembered: Bailian's traces have a tenth of that
NO_PARENT = -1  # of the first turn in Alibaba's traces
Numbers = tuple[int, int, int, int, int]  # time, prompt, output, session, adapter
BAILIAN_KEY = "chat_id"  # what Alibaba's traces have beside Mooncake's keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The keys of one tool's objects."""

    name: str
    time: str
    prompt: str
    output: str
    unit_ns: int
    says: str
    block_ids: str | None = None
    block_tokens: int = 0
    marked_by: str = ""  # a key that only this format has
    session: str = "session_id"  # AIPerf's; these are read where they are there
    answers: str = ""  # a key that names the session of the turn before, where each turn has one of its own
    adapter: str = "adapter"

    @property
    def keys(self) -> tuple[str, str, str]:
        """Those that every object must have."""
        return (self.time, self.prompt, self.output)

    def chunks(self, path: Path) -> Iterator[Chunk]:
        """The requests, streamed; a bad line ends them with a TraceError, after those before it."""
        yield from _Reading(self, path).chunks()


LINES = (
    Lines(
        name="bailian",
        time="timestamp",
        prompt="input_length",
        output="output_length",
        unit_ns=NS,
        says="Alibaba's Bailian traces, with the blocks of 16 tokens that prompts share",
        block_ids="hash_ids",
        block_tokens=16,
        marked_by=BAILIAN_KEY,
        session=BAILIAN_KEY,
        answers="parent_chat_id",
    ),
    Lines(
        name="mooncake",
        time="timestamp",
        prompt="input_length",
        output="output_length",
        unit_ns=NS // 1000,
        says="Mooncake's traces, with the blocks of 512 tokens that prompts share; AIPerf, Dynamo",
        block_ids="hash_ids",
        block_tokens=512,
    ),
    Lines(
        name="llmservingsim",
        time="arrival_time_ns",
        prompt="input_toks",
        output="output_toks",
        unit_ns=1,
        says="LLMServingSim's datasets",
    ),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A value in a file, for errors."""

    path: Path
    line: int | None

    def refuse(self, column: str, expected: str, value: object) -> NoReturn:
        """The error that names this place."""
        raise TraceError(self.path, f"expected {expected}, got {_said(value)}", line=self.line, column=column)

    def tokens(self, column: str, value: object) -> int:
        """A number of tokens."""
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= TOKENS_MAX:
            self.refuse(column, f"a whole number of tokens from 0 to {TOKENS_MAX}", value)
        return value

    def name(self, column: str, value: object) -> int:
        """A number for the name of a conversation or of an adapter."""
        if value is None:
            return NOBODY
        if not isinstance(value, str | int) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            self.refuse(column, "a text or a whole number ≥ 0", value)
        return number_of(str(value))

    def time_ns(self, column: str, value: object, unit_ns: int) -> int:
        """A time in nanoseconds, from a number of units."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= SECONDS_MAX * NS:
            self.refuse(column, "a time ≥ 0", value)
        at_ns = value * unit_ns if isinstance(value, int) else round(value * unit_ns)
        if at_ns > SECONDS_MAX * NS:
            self.refuse(column, f"a time of at most {SECONDS_MAX:,} seconds", value)
        return at_ns

    def parsed(self, text: bytes) -> object:
        """JSON of any kind; NaN and infinity are none."""
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as exc:
            line = exc.lineno if self.line is None else self.line
            raise TraceError(self.path, f"expected JSON: {exc.msg} at character {exc.colno}", line=line) from exc
        except UnicodeDecodeError as exc:
            raise TraceError(self.path, f"expected text, got the byte 0x{text[exc.start]:02x}", line=self.line) from exc
        except (ValueError, RecursionError) as exc:  # a number of 5,000 digits; a list in a list, a thousand times
            raise TraceError(self.path, f"expected JSON: {quoted(str(exc))}", line=self.line) from exc

    def parsed_object(self, text: bytes) -> Mapping[str, object]:
        """A JSON object."""
        value = self.parsed(text)
        if not isinstance(value, dict):
            self.refuse("", "a JSON object", value)
        return value


@dataclass(slots=True)
class _Reading:
    """One pass over a file."""

    format: Lines
    path: Path
    first_ns: int | None = None
    last_ns: int = 0
    begun_by: dict[int, int] = field(default_factory=dict)  # of each turn that has a name of its own, the first one

    def chunks(self) -> Iterator[Chunk]:
        rows: list[Numbers] = []
        ids: list[list[int]] = []
        try:
            for place, text in _lines(self.path):
                row, blocks_of_row = self._row(place, place.parsed_object(text))
                rows.append(row)
                ids.append(blocks_of_row)
                if len(rows) >= CHUNK_ROWS:
                    yield self._chunk(rows, ids)
                    rows, ids = [], []
        except TraceError:
            if rows:
                yield self._chunk(rows, ids)
            raise
        if rows:
            yield self._chunk(rows, ids)
        if self.first_ns is None:
            raise TraceError(self.path, "there is no request in the file")

    def _row(self, place: Place, found: Mapping[str, object]) -> tuple[Numbers, list[int]]:
        kind = self.format
        for key in kind.keys:
            if key not in found:
                expected = f"the keys {', '.join(kind.keys)}"
                raise TraceError(self.path, f"expected {expected}", line=place.line, column=key)
        at_ns = place.time_ns(kind.time, found[kind.time], kind.unit_ns)
        if at_ns < self.last_ns:
            place.refuse(kind.time, "no time before that of the line above", found[kind.time])
        self.last_ns = at_ns
        self.first_ns = at_ns if self.first_ns is None else self.first_ns
        prompt = place.tokens(kind.prompt, found[kind.prompt])
        output = place.tokens(kind.output, found[kind.output])
        adapter = place.name(kind.adapter, found.get(kind.adapter))
        return (at_ns, prompt, output, self._session(place, found), adapter), self._ids(place, found, prompt)

    def _session(self, place: Place, found: Mapping[str, object]) -> int:
        """The conversation's number, or that of its first turn."""
        kind = self.format
        session, before = place.name(kind.session, found.get(kind.session)), found.get(kind.answers)
        if session == NOBODY or not kind.answers:
            return session
        first = session if before in (None, NO_PARENT) else self.begun_by.get(place.name(kind.answers, before), session)
        self.begun_by[session] = first
        if len(self.begun_by) > CHATS_MAX:
            del self.begun_by[next(iter(self.begun_by))]
        return first

    def _ids(self, place: Place, found: Mapping[str, object], prompt_tokens: int) -> list[int]:
        key = self.format.block_ids
        if key is None or key not in found:
            return []
        ids = found[key]
        if not isinstance(ids, list) or any(type(one) is not int or not 0 <= one <= BLOCK_ID_MAX for one in ids):
            place.refuse(key, "a list of whole numbers ≥ 0", ids)
        most = -(-prompt_tokens // self.format.block_tokens)
        if len(ids) > most:
            expected = f"at most {most} blocks of {self.format.block_tokens} for {prompt_tokens} tokens"
            place.refuse(key, expected, len(ids))
        return ids

    def _chunk(self, rows: list[Numbers], ids: list[list[int]]) -> Chunk:
        table = np.array(rows, np.int64)
        lengths = np.array([0, *map(len, ids)], np.int64)
        blocks_of_rows = None
        if self.format.block_ids is not None:
            blocks_of_rows = Blocks(
                ids=np.array([one for row in ids for one in row], np.int64),
                starts=np.cumsum(lengths),
                block_tokens=self.format.block_tokens,
            )
        return Chunk(
            at_s=(table[:, 0] - (self.first_ns or 0)) / NS,
            prompt_tokens=table[:, 1].astype(np.int32),
            output_tokens=table[:, 2].astype(np.int32),
            blocks=blocks_of_rows,
            callers=_callers(table[:, 3], table[:, 4]),
        )


def _callers(sessions: Longs, adapters: Longs) -> Callers | None:
    if (sessions == NOBODY).all() and (adapters == NOBODY).all():
        return None
    return replace(Callers.unknown(len(sessions)), sessions=sessions, adapters=adapters)


def _lines(path: Path) -> Iterator[tuple[Place, bytes]]:
    for block in blocks(path):
        for number, line in enumerate(block.data.split(b"\n"), block.first_line):
            if text := line.strip():
                yield Place(path, number), text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _said(value: object) -> str:
    return quoted(value) if isinstance(value, str) else quoted(str(value)[:200])[1:-1]
