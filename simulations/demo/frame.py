"""One moment of the demo as plain values: what the live view draws, the log tells and the timeline keeps."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

from simulations.demo.watching import DecisionSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One row of the timeline."""

    at_s: float
    demand_tokens_per_s: float  # that arrived within the last seconds
    outstanding_requests: int
    waiting_requests: float  # in the engines' queues
    kv_cache_usage_ratio: float  # mean of the ready replicas
    ready: int
    starting: int
    terminating: int
    desired: int
    served: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """All that a view shows."""

    seconds: float | None  # how long it takes in all; None: nobody knows
    requests: int | None  # how many there will be
    history: Sequence[Moment]  # oldest first, at least one
    decisions: Sequence[DecisionSeen]
    ttft_p95_s: float | None  # of the requests that ended within the last seconds
    ttft_objective_s: float | None  # None: there is none

    @property
    def now(self) -> Moment:
        """The newest moment."""
        return self.history[-1]


class View(Protocol):
    """Where the demo shows itself."""

    def say(self, text: str) -> None:
        """A line about what happens before or after the traffic."""
        ...

    def show(self, frame: Frame) -> None:
        """The newest frame."""
        ...

    def close(self) -> None:
        """No more frames."""
        ...


def write_timeline(path: Path, history: Sequence[Moment]) -> None:
    """The whole run as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Moment)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(moment) for moment in history)
