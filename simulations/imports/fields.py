"""Reading a Kubernetes object that somebody wrote: typed fields, and errors that name object, field and value."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .errors import ImportedObjectError

_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(m|k|M|G|Ki|Mi|Gi)?")
_SUFFIXES = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping somewhere in an object."""

    value: Mapping[str, object]
    of: str  # "HorizontalPodAutoscaler llama"
    path: str = ""  # "spec.metrics[0]"

    def refuse(self, name: str, value: object, expected: str) -> ImportedObjectError:
        """The error; the caller raises it."""
        return ImportedObjectError(f"{self.of}: {self._at(name)} is {value!r}; {expected}")

    def has(self, name: str) -> bool:
        """Whether it is there, and not null."""
        return self.value.get(name) is not None

    def inside(self, name: str) -> "Fields":
        """A mapping below; empty where there is none."""
        value = self.value.get(name)
        if value is None:
            return Fields({}, self.of, self._at(name))
        if not isinstance(value, Mapping):
            raise self.refuse(name, value, "a mapping is expected")
        return Fields(value, self.of, self._at(name))

    def each(self, name: str) -> Iterator["Fields"]:
        """The mappings of a list; none where there is none."""
        value = self.value.get(name)
        if value is None:
            return
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise self.refuse(name, value, "a list is expected")
        for number, item in enumerate(value):
            if not isinstance(item, Mapping):
                raise self.refuse(f"{name}[{number}]", item, "a mapping is expected")
            yield Fields(item, self.of, f"{self._at(name)}[{number}]")

    def text(self, name: str, default: str | None = None) -> str:
        """A string; an error where it is missing and there is no default."""
        value = self.value.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(name, value, "a text is expected")
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number, at least 0."""
        value = self.value.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.refuse(name, value, "a whole number ≥ 0 is expected")
        return value

    def quantity(self, name: str, default: float | None = None) -> float:
        """A number as Kubernetes writes them: 5, "500m", "1k"."""
        value = self.value.get(name)
        if value is None and default is not None:
            return default
        found = _QUANTITY.fullmatch(str(value).strip()) if isinstance(value, str | int | float) else None
        if found is None or isinstance(value, bool):
            raise self.refuse(name, value, 'a quantity is expected, such as 5, "500m" or "1k"')
        number = float(found[1]) * _SUFFIXES.get(found[2], 1.0)
        if not math.isfinite(number) or number < 0:
            raise self.refuse(name, value, "it must be ≥ 0 and finite")
        return number

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
