"""The columns of every comparison: what is told of a run, or of several runs' mean, and where it says anything."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from simulations.commands.screen import Column
from simulations.study import Comparison, Figures, Paired
from simulations.world import Setting

ALL = "all"  # services together
Value = float | Paired | None
COST = "cost_ratio"  # GPU-hours ÷ those of the fixed fleet, which a run alone does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure: its name in a `Comparison`, and how people read it."""

    name: str
    heading: str
    width: int
    text: Callable[[float], str]
    has_interval: bool = False  # others would make the table too wide; they are in comparison.json

    def cell(self, value: Value) -> str:
        """For people; a mean of several seeds with its interval."""
        if value is None:
            return ""
        if not isinstance(value, Paired):
            return self.text(value)
        if not self.has_interval or math.isinf(value.low):
            return self.text(value.mean)
        return f"{self.text(value.mean)} [{self.text(value.low)}, {self.text(value.high)}]"

    @property
    def column(self) -> Column:
        """Where it stands."""
        return Column(self.heading, self.width)

    def of_run(self, figures: Figures, cost_ratio: float) -> str:
        """The cell of one run."""
        return self.cell(cost_ratio if self.name == COST else getattr(figures, self.name))

    def of_line(self, line: Comparison) -> str:
        """The cell of a comparison's line."""
        return self.cell(getattr(line, self.name))


ALWAYS = (
    Measure(
        name="attainment_ratio", heading="TTFT in time", width=12, text=lambda value: f"{value:.2%}", has_interval=True
    ),
    Measure(name="ttft_p95_s", heading="TTFT p95", width=9, text=lambda value: f"{value:.2f} s"),
    Measure(name="gpu_hours", heading="GPU-hours", width=9, text=lambda value: f"{value:.1f}"),
    Measure(name=COST, heading="cost vs static", width=14, text=lambda value: f"{value:.2f}", has_interval=True),
    Measure(name="starts", heading="starts", width=6, text=lambda value: f"{value:.0f}"),
)
# How many there are is up to the policy where clients wait for their answers.
OF_CLIENTS = (Measure(name="requests", heading="requests", width=9, text=lambda value: f"{value:,.0f}"),)
# Of the prompt tokens, those that a replica had.
OF_PREFIXES = (Measure(name="prefix_hit_ratio", heading="from cache", width=10, text=lambda value: f"{value:.1%}"),)
# Requests that went with them, replica-hours without one, what they cost.
OF_NODES = (
    Measure(name="lost_requests", heading="lost", width=6, text=lambda value: f"{value:.0f}"),
    Measure(name="waited_hours", heading="waited", width=8, text=lambda value: f"{value:.1f} h"),
    Measure(name="nodes_cost", heading="nodes cost", width=10, text=lambda value: f"${value:.2f}"),
)


OF_POOLS = (
    Measure(name="prefill_gpu_hours", heading="of prefill", width=10, text=lambda value: f"{value:.1f}"),
    Measure(name="decode_gpu_hours", heading="of decode", width=9, text=lambda value: f"{value:.1f}"),
)


# Requests' mean time between tokens.
OF_PACES = (Measure(name="tpot_p95_s", heading="per token p95", width=13, text=lambda value: f"{1000 * value:.0f} ms"),)


def measures_of(settings: Collection[Setting]) -> tuple[Measure, ...]:
    """Those that say something of a service, or of any of several on the same nodes."""
    return measures(
        has_clients=any(setting.has_clients for setting in settings),
        has_prefixes=any(setting.config.caches_prefixes for setting in settings),
        has_nodes=any(setting.nodes for setting in settings),
        has_pools=any(setting.scales_both for setting in settings),
        has_paces=any(setting.itl_s is not None for setting in settings),
    )


def measures(
    *, has_clients: bool, has_prefixes: bool, has_nodes: bool, has_pools: bool = False, has_paces: bool = False
) -> tuple[Measure, ...]:
    """Those that say something of such a world."""
    return (
        *ALWAYS,
        *(OF_PACES if has_paces else ()),
        *(OF_POOLS if has_pools else ()),
        *(OF_CLIENTS if has_clients else ()),
        *(OF_PREFIXES if has_prefixes else ()),
        *(OF_NODES if has_nodes else ()),
    )
