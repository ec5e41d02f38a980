"""One field of text as a number, or the error that says what was expected of it; the slow and exact way."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import blake2b
from pathlib import Path

from simulations.errors import TraceError
from simulations.traces.chunk import NOBODY, NS, SECONDS_MAX, TOKENS_MAX

QUOTED_CHARACTERS_MAX = 40  # of a bad value, in the message
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
DECIMAL = re.compile(r"(\d{1,13})(?:\.(\d*))?", re.ASCII)
EXPONENT = re.compile(r"\d+(?:\.\d*)?[eE][+-]?\d{1,3}", re.ASCII)
FRACTION_DIGITS = 9  # times below a nanosecond are cut off
NAME_DIGITS_MAX = 15  # of a name that is a number: below the hashes of all others
NAME_HASH_BYTES = 7


class Clock(Enum):
    """How a format writes times."""

    MOMENT = "a time such as 2023-11-16 18:15:46.6805900"
    SECONDS = "seconds ≥ 0"
    MILLISECONDS = "milliseconds ≥ 0"

    @property
    def unit_ns(self) -> int:
        """Nanoseconds of one; a moment has none."""
        return NS if self is Clock.SECONDS else NS // 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file, and where it stands."""

    path: Path
    line: int
    fields: Sequence[str]

    def refuse(self, column: str, expected: str, value: str) -> TraceError:
        """The error that names this row."""
        return TraceError(self.path, f"expected {expected}, got {quoted(value)}", line=self.line, column=column)

    def time_ns(self, column: str, value: str, clock: Clock) -> int:
        """A time in whole nanoseconds: a float of seconds since any epoch would lose Azure's seventh digit."""
        at_ns = _moment_ns(value) if clock is Clock.MOMENT else _number_ns(value, clock.unit_ns)
        if at_ns is None:
            raise self.refuse(column, clock.value, value)
        return at_ns

    def tokens(self, column: str, value: str) -> int:
        """A number of tokens."""
        if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= TOKENS_MAX):
            raise self.refuse(column, f"a whole number of tokens from 0 to {TOKENS_MAX}", value)
        return int(value)


def number_of(name: str) -> int:
    """A number for the name of a conversation or of an adapter: of any length, and the same in every file and process.

    Two of a million names get the same number once in a hundred thousand files.
    """
    if not name:
        return NOBODY
    if name.isascii() and name.isdigit() and len(name) <= NAME_DIGITS_MAX:
        return int(name)
    return int.from_bytes(blake2b(name.encode(), digest_size=NAME_HASH_BYTES).digest()) | 1 << 8 * NAME_HASH_BYTES


def quoted(value: str) -> str:
    """A value as it may stand in a message: on one line, and short."""
    return repr(value if len(value) <= QUOTED_CHARACTERS_MAX else value[:QUOTED_CHARACTERS_MAX] + "…")


def _moment_ns(value: str) -> int | None:
    match = TIMESTAMP.fullmatch(value)
    if match is None:
        return None
    text, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(text + ("+00:00" if zone in (None, "Z") else zone))
    except ValueError:
        return None
    at_ns = (moment - EPOCH) // timedelta(seconds=1) * NS + int((fraction or "0").ljust(9, "0"))
    return at_ns if 0 <= at_ns <= SECONDS_MAX * NS else None


def _number_ns(value: str, unit_ns: int) -> int | None:
    if match := DECIMAL.fullmatch(value):
        fraction = (match[2] or "0")[:FRACTION_DIGITS].ljust(FRACTION_DIGITS, "0")
        at_ns = int(match[1]) * unit_ns + int(fraction) * unit_ns // 10**FRACTION_DIGITS
    elif EXPONENT.fullmatch(value) and float(value) <= SECONDS_MAX * 1000:
        at_ns = round(float(value) * unit_ns)
    else:
        return None
    return at_ns if at_ns <= SECONDS_MAX * NS else None
