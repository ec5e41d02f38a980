"""The table of `warmtide sim oracle`: both bounds of each lead time, of one pool or service or of several."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from simulations.commands.screen import Column, Screen, screen
from simulations.commands.table import ALL
from simulations.errors import UsageError
from simulations.oracle import Demand, cheapest

LEAD = Column("lead time", 10, is_text=True)
COLUMNS = (Column("at least", 10), Column("plan", 10), Column("gap", 6), Column("in the world", 12))


@dataclass(frozen=True, slots=True)
class Hours:
    """GPU-hours: no less than this, and what a plan takes."""

    lower: float = 0.0
    feasible: float = 0.0

    def __add__(self, other: "Hours") -> "Hours":
        return Hours(self.lower + other.lower, self.feasible + other.feasible)

    @property
    def cells(self) -> tuple[str, str, str]:
        """For people, with how far they are apart."""
        return f"{self.lower:.2f}", f"{self.feasible:.2f}", f"{self.feasible / self.lower - 1.0:.1%}"


@dataclass(slots=True, kw_only=True)
class Bounds:
    """Rows as they come; where there are several demands, with their names, and one more for all."""

    on: Screen
    demands: Mapping[str, Demand]
    attainment_ratio: float
    columns: Sequence[Column]
    _least_hours: dict[str, float] = field(default_factory=dict)

    def tell(self, names: Sequence[str], lead_s: float) -> Hours:
        """Bounds of these demands, a row for each where there are others; what all of these cost. UsageError."""
        whole = Hours()
        for name in names:
            hours = self._hours(name, lead_s)
            if len(self.demands) > 1:
                self.on.row(self.columns, (f"{lead_s:.4g} s", name, *hours.cells, ""))
            whole += hours
        return whole

    def end(self, lead: str, hours: Hours, in_world_hours: float | None) -> None:
        """The row of all."""
        names = (ALL,) if len(self.demands) > 1 else ()
        in_world = "-" if in_world_hours is None else f"{in_world_hours:.2f}"
        self.on.row(self.columns, (lead, *names, *hours.cells, in_world))

    def _hours(self, name: str, lead_s: float) -> Hours:
        try:
            found = cheapest(self.demands[name], lead_time_s=lead_s, attainment_ratio=self.attainment_ratio)
        except ValueError as exc:
            of = f"{name}: " if name else ""
            raise UsageError(f"{of}{exc}; allow more replicas, or ask for less: --attainment") from exc
        # A plan for this lead time would do at any shorter one, so it costs no less than what is bounded there.
        self._least_hours[name] = max(self._least_hours.get(name, 0.0), found.lower_hours)
        return Hours(self._least_hours[name], found.feasible_hours)


@contextmanager
def bounds_table(lead_times: int, demands: Mapping[str, Demand], attainment_ratio: float) -> Iterator[Bounds]:
    """An empty one."""
    named = (Column("of", max(map(len, (*demands, ALL))), is_text=True),) if len(demands) > 1 else ()
    with screen(lead_times, "oracle") as on:
        columns = (LEAD, *named, *COLUMNS)
        on.head(columns)
        yield Bounds(on=on, demands=demands, attainment_ratio=attainment_ratio, columns=columns)
