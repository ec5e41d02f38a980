"""What fixed fleets would have done with the same requests: the yardsticks of the verdict.

capacity     tokens per second that one replica completes when it always has work (replayed on the model)
peak fleet   ⌈most tokens that arrive within any TTFT objective's time ÷ that time ÷ capacity⌉: nothing waits
             longer than the objective, even in the worst moment
smallest     the smallest fixed fleet whose replay reaches the attainment asked for: what hindsight would buy
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulations.demo.setting import TTFT_OBJECTIVE_S, Setting
from simulations.fleet import FleetResult, replay_static
from simulations.trace import Arrival
from simulations.traffic_shape import mean_tokens_per_s, peak_tokens_per_s

CAPACITY_REQUESTS = 400  # about a minute of one replica's work: start and end no longer matter
FLEET_MAX = 64  # a search that goes further has met a bug, not a fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFleets:
    """Fixed fleets for one list of arrivals."""

    peak_replicas: int
    peak_tokens_per_s: float
    smallest: FleetResult | None  # None: no fleet up to FLEET_MAX reaches the attainment


def capacity_tokens_per_s(arrivals: Sequence[Arrival], setting: Setting) -> float:
    """Tokens per second of one replica that never runs out of these requests."""
    some = arrivals[:: max(1, len(arrivals) // CAPACITY_REQUESTS)][:CAPACITY_REQUESTS]
    result = replay_static([replace(arrival, at_s=0.0) for arrival in some], 1, setting.engine, setting.step_times)
    return sum(arrival.prompt_tokens + arrival.output_tokens for arrival in some) / result.ended_at_s


def peak_fleet(arrivals: Sequence[Arrival], capacity: float) -> tuple[int, float]:
    """Replicas for the worst moment, and its demand in tokens per second."""
    peak = peak_tokens_per_s(arrivals, TTFT_OBJECTIVE_S)
    return math.ceil(peak / capacity), peak


def smallest_fleet(
    arrivals: Sequence[Arrival], setting: Setting, *, attainment_ratio: float, capacity: float
) -> FleetResult | None:
    """The smallest fixed fleet that reaches the attainment, by replay. The search begins at the mean demand."""
    least = max(1, math.floor(mean_tokens_per_s(arrivals, setting.seconds) / capacity))
    for replicas in range(least, FLEET_MAX + 1):
        result = replay_static(arrivals, replicas, setting.engine, setting.step_times)
        if result.attainment_ratio(ttft_s=TTFT_OBJECTIVE_S) >= attainment_ratio:
            return result
    return None


def static_fleets(
    arrivals: Sequence[Arrival], setting: Setting, *, attainment_ratio: float, capacity: float
) -> StaticFleets:
    """Both yardsticks."""
    replicas, peak = peak_fleet(arrivals, capacity)
    smallest = smallest_fleet(arrivals, setting, attainment_ratio=attainment_ratio, capacity=capacity)
    return StaticFleets(peak_replicas=replicas, peak_tokens_per_s=peak, smallest=smallest)
