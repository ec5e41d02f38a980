"""Policies side by side on the same requests, with the same luck, beside the smallest static fleet that holds."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from simulations.imports.choose import chosen_for_all
from simulations.static_fleet import fixed, fleet_name, sized
from simulations.world import Outcome, Setting, simulate

Telling = Callable[[str, float], None]  # policy, share done


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A policy in the table."""

    policy: str
    outcome: Outcome
    cost_ratio: float  # GPU-hours ÷ those of the static fleet


def cost_ratio(gpu_hours: float, static_hours: float) -> float:
    """Infinite where the fixed fleet never got a GPU."""
    return gpu_hours / static_hours if static_hours else math.inf


def compare(setting: Setting, names: Sequence[str], tell: Telling, *, is_sized: bool = False) -> Iterator[Row]:
    """The static fleet first, then each policy, as soon as it is done. All begin with the static fleet's number.

    `is_sized`: that is the one that the setting begins with; else the smallest that holds.
    """
    setting, found = (setting, None) if is_sized else sized(setting)
    static = found or simulate(setting, fixed(setting))
    yield Row(policy=fleet_name(setting), outcome=static, cost_ratio=1.0)
    for name in names:
        outcome = simulate(setting, chosen_for_all(name, setting), partial(tell, name))
        yield Row(policy=name, outcome=outcome, cost_ratio=cost_ratio(outcome.gpu_hours, static.gpu_hours))
