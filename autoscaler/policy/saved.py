"""Reading saved data: typed values or a BadMemoryError that names field and value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from autoscaler.policy.errors import BadMemoryError

# Longer texts are no names of ours; the error shows no more of a value than this either.
TEXT_MAX = 253
SHOWN_MAX = 80


@dataclass(frozen=True, slots=True)
class Fields:
    """One object of the saved data, and where it stands."""

    values: Mapping[str, object]
    path: str = "memory"

    def refuse(self, name: str, expected: str) -> BadMemoryError:
        """The error for one field."""
        shown = repr(self.values.get(name))[:SHOWN_MAX]
        return BadMemoryError(f"{self.path}.{name} must be {expected}, got {shown}")

    def number(self, name: str, *, low: float = 0.0) -> float:
        """A finite number of at least `low`."""
        value = self.values.get(name)
        if not _is_number(value) or value < low:
            raise self.refuse(name, f"a number ≥ {low:g}")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """A finite number, or nothing."""
        return None if self.values.get(name) is None else self.number(name)

    def whole(self, name: str) -> int:
        """A whole number."""
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.refuse(name, "a whole number ≥ 0")
        return value

    def text(self, name: str) -> str:
        """A short text."""
        value = self.values.get(name)
        if not isinstance(value, str) or len(value) > TEXT_MAX:
            raise self.refuse(name, f"a text of at most {TEXT_MAX} characters")
        return value

    def objects(self, name: str, *, most: int) -> list["Fields"]:
        """A list of objects."""
        values = self._list(name, most)
        if not all(isinstance(value, Mapping) for value in values):
            raise self.refuse(name, "a list of objects")
        return [
            Fields(value, f"{self.path}.{name}[{at}]") for at, value in enumerate(values) if isinstance(value, Mapping)
        ]

    def child(self, name: str) -> "Fields":
        """An object."""
        value = self.values.get(name)
        if not isinstance(value, Mapping):
            raise self.refuse(name, "an object")
        return Fields(value, f"{self.path}.{name}")

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """A list of short texts."""
        values = self._list(name, most)
        if not all(isinstance(value, str) and len(value) <= TEXT_MAX for value in values):
            raise self.refuse(name, "a list of short texts")
        return tuple(str(value) for value in values)

    def numbers(self, name: str, *, most: int, low: float = 0.0) -> tuple[float, ...]:
        """A list of finite numbers of at least `low`."""
        found = tuple(float(value) for value in self._list(name, most) if _is_number(value) and value >= low)
        if len(found) != len(self._list(name, most)):
            raise self.refuse(name, f"a list of numbers ≥ {low:g}")
        return found

    def pairs(self, name: str, *, most: int) -> tuple[tuple[float, int], ...]:
        """A list of [age, replicas]."""
        found = []
        for pair in self._list(name, most):
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not _is_number(pair[0]):
                raise self.refuse(name, "a list of [age, replicas]")
            if not isinstance(pair[1], int) or isinstance(pair[1], bool):
                raise self.refuse(name, "a list of [age, replicas]")
            found.append((float(pair[0]), pair[1]))
        return tuple(found)

    def _list(self, name: str, most: int) -> list[object]:
        values = self.values.get(name)
        if not isinstance(values, list) or len(values) > most:
            raise self.refuse(name, f"a list of at most {most}")
        return values


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
