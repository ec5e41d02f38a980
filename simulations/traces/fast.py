"""Rows of numbers out of bytes with numpy, for what is regular; None for the least doubt.

Whatever comes back is what `simulations.traces.values` would have made of the same lines, a hundred times
faster. A block that is odd in any way (quotes, blanks, letters, a row too short) is left to the slow way,
which accepts it or says where it is wrong.
"""

from datetime import date

import numpy as np
from numpy.typing import NDArray

from simulations.traces.chunk import NOBODY, NS, SECONDS_MAX, TOKENS_MAX, Longs
from simulations.traces.values import EPOCH, FRACTION_DIGITS, Clock, number_of

Bytes = NDArray[np.uint8]

COMMA, NEWLINE, DOT, ZERO = 44, 10, 46, 48
TOKEN_DIGITS_MAX = len(str(TOKENS_MAX))
SECOND_DIGITS_MAX = 13  # as `values.DECIMAL`
MOMENT_LENGTH = 19  # 2023-11-16 18:15:46
MOMENT_MARKS = {4: b"-", 7: b"-", 13: b":", 16: b":"}
ZONE = b"+00:00"


class Field:
    """One column of a block: where each of its values begins and ends."""

    def __init__(self, text: Bytes, starts: Longs, ends: Longs) -> None:
        self.text, self.starts, self.ends = text, starts, ends
        self.lengths = ends - starts

    def digits(self, starts: Longs, lengths: Longs, most: int) -> Longs | None:
        """Numbers of 0 to `most` digits; none is 0."""
        longest = int(lengths.max(initial=0))
        if longest > most:
            return None
        values = np.zeros(len(starts), np.int64)
        for place in range(longest):
            is_inside = place < lengths
            digit = self.text[np.where(is_inside, starts + place, starts)].astype(np.int64) - ZERO
            if ((digit < 0) | (digit > 9))[is_inside].any():
                return None
            values = np.where(is_inside, values * 10 + digit, values)
        return values

    def fixed(self, place: int, length: int) -> Longs | None:
        """A number at the same place of every value."""
        return self.digits(self.starts + place, np.full(len(self.starts), length), length)

    def all_have(self, place: int, mark: bytes) -> bool:
        """Every value has this character there."""
        return bool((self.text[self.starts + place] == mark[0]).all())


def columns(data: bytes, fields: int) -> list[Field] | None:
    """The columns of lines that all have so many fields; None where they have not, or are not plain text."""
    if not data.isascii() or b'"' in data or b"\0" in data:
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    text = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", np.uint8)
    ends = np.flatnonzero((text == COMMA) | (text == NEWLINE)).astype(np.int64)
    if len(ends) % fields or int((text == NEWLINE).sum()) * fields != len(ends):
        return None
    table = ends.reshape(-1, fields)
    if (text[table[:, -1]] != NEWLINE).any():
        return None
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1]).reshape(-1, fields)
    return [Field(text, starts[:, number].copy(), table[:, number].copy()) for number in range(fields)]


def tokens(field: Field) -> Longs | None:
    """Numbers of tokens."""
    if not field.lengths.all():
        return None
    values = field.digits(field.starts, field.lengths, TOKEN_DIGITS_MAX)
    return None if values is None or values.max(initial=0) > TOKENS_MAX else values


def names(field: Field) -> Longs:
    """Names as numbers; NOBODY for none."""
    text = field.text.tobytes()
    known: dict[bytes, int] = {}
    numbers = []
    for start, end in zip(field.starts.tolist(), field.ends.tolist(), strict=True):
        name = text[start:end]
        number = known.get(name)
        if number is None:
            number = known[name] = number_of(name.decode("ascii").strip())
        numbers.append(number)
    return np.array(numbers, np.int64)


def durations_ns(field: Field, clock: Clock) -> Longs | None:
    """Durations in nanoseconds; NOBODY where there is none."""
    said = np.flatnonzero(field.lengths)
    values = times_ns(Field(field.text, field.starts[said], field.ends[said]), clock)
    if values is None:
        return None
    every: Longs = np.full(len(field.lengths), NOBODY, np.int64)
    every[said] = values
    return every


def times_ns(field: Field, clock: Clock) -> Longs | None:
    """Times in nanoseconds."""
    values = _moments_ns(field) if clock is Clock.MOMENT else _numbers_ns(field, clock.unit_ns)
    return None if values is None or values.max(initial=0) > SECONDS_MAX * NS else values


def _numbers_ns(field: Field, unit_ns: int) -> Longs | None:
    is_dot = np.concatenate([np.zeros(1, np.int64), np.cumsum(field.text == DOT)])
    dots = is_dot[field.ends] - is_dot[field.starts]
    if dots.max(initial=0) > 1:
        return None
    places = np.flatnonzero(field.text == DOT)
    if not len(places):
        places = np.zeros(1, np.int64)
    first_dot = places[np.minimum(is_dot[field.starts], len(places) - 1)]
    whole_ends = np.where(dots > 0, first_dot, field.ends)
    if (whole_ends == field.starts).any():
        return None
    whole = field.digits(field.starts, whole_ends - field.starts, SECOND_DIGITS_MAX)
    fraction_starts = np.minimum(whole_ends + 1, field.ends)
    fraction = field.digits(fraction_starts, field.ends - fraction_starts, FRACTION_DIGITS)
    if whole is None or fraction is None or whole.max(initial=0) > SECONDS_MAX * NS // unit_ns:
        return None
    shift = 10 ** (FRACTION_DIGITS - (field.ends - fraction_starts))
    at_ns: Longs = whole * unit_ns + fraction * shift * unit_ns // 10**FRACTION_DIGITS
    return at_ns


def _moments_ns(field: Field) -> Longs | None:
    if field.lengths.min(initial=MOMENT_LENGTH) < MOMENT_LENGTH:
        return None
    separators = field.text[field.starts + 10]
    if not np.isin(separators, (ord(" "), ord("T"))).all():
        return None
    if not all(field.all_have(place, mark) for place, mark in MOMENT_MARKS.items()):
        return None
    parts = [field.fixed(place, length) for place, length in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))]
    year, month, day, hour, minute, second = parts
    if year is None or month is None or day is None or hour is None or minute is None or second is None:
        return None
    days = _days(year * 10_000 + month * 100 + day)
    fraction_ns = _fractions_ns(field)
    if days is None or fraction_ns is None or max(hour.max(), minute.max() - 36, second.max() - 36) > 23:
        return None
    at_ns: Longs = (((days * 24 + hour) * 60 + minute) * 60 + second) * NS + fraction_ns
    return at_ns


def _days(dates: Longs) -> Longs | None:
    """Days since 1970 of dates written as one number."""
    distinct, places = np.unique(dates, return_inverse=True)
    try:
        known = [date(one // 10_000, one // 100 % 100, one % 100) for one in distinct.tolist()]
    except ValueError:
        return None
    days: Longs = np.array([(one - EPOCH.date()).days for one in known], np.int64)[places]
    return days if days.min(initial=0) >= 0 else None


def _fractions_ns(field: Field) -> Longs | None:
    """What follows the seconds: nothing, or a dot and 1 to 9 digits; then nothing, or the zone of Greenwich."""
    tail = field.starts + MOMENT_LENGTH
    zoned = field.lengths >= MOMENT_LENGTH + len(ZONE)
    for place, mark in enumerate(ZONE):
        zoned &= field.text[np.maximum(field.ends - len(ZONE) + place, 0)] == mark
    ends = np.where(zoned, field.ends - len(ZONE), field.ends)
    dotted = ends > tail
    digits_from = np.where(dotted, tail + 1, ends)
    if (dotted & ((field.text[tail] != DOT) | (digits_from == ends))).any():
        return None
    digits = field.digits(digits_from, ends - digits_from, FRACTION_DIGITS)
    if digits is None:
        return None
    scaled: Longs = digits * 10 ** (FRACTION_DIGITS - (ends - digits_from))
    return scaled
