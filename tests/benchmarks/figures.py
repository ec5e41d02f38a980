"""What a benchmark returns: figures with the bar each must reach."""

from dataclasses import dataclass
from typing import Literal


class MissingPartError(Exception):
    """A benchmark needs a program that is not here; the message says which, and how to get it."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number. `bar` is None where a figure only informs."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def holds(self) -> bool:
        """Whether the bar is reached."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar

    def line(self) -> str:
        """`name value unit bar holds|short`; the bar is `-` where there is none."""
        sign = "≥" if self.better == "higher" else "≤"
        bar = "-" if self.bar is None else f"{sign}{self.bar:g}"
        return f"{self.name} {self.value:.4g} {self.unit} {bar} {'holds' if self.holds else 'short'}"
