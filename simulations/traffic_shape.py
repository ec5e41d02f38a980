"""Cutting traffic to size: compressed in time, thinned, swings stretched, outputs shortened; and its rates.

Every function takes arrivals in order of time and returns new ones in order of time.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from simulations.trace import Arrival

TROUGH_QUANTILE = 0.05  # the trough is the lower twentieth: one empty period must not stand for all
SWING_PERIOD_S = 180.0  # shorter than the waves of an hour, longer than chance: ~1,000 requests of the Azure trace


def compress(arrivals: Sequence[Arrival], ratio: float) -> list[Arrival]:
    """The same requests in `ratio` times less time: the rate is that much higher, the shape the same."""
    if not ratio > 0:
        raise ValueError(f"compression ratio must be > 0, got {ratio}")
    return [replace(arrival, at_s=arrival.at_s / ratio) for arrival in arrivals]


def thin(arrivals: Sequence[Arrival], requests: int, random: Random) -> list[Arrival]:
    """So many of the requests, evenly spread over their order; all of them when there are fewer.

    Every n-th, not any n-th: a random choice would add waves of its own to those of the traffic.
    """
    if requests >= len(arrivals):
        return list(arrivals)
    return _kept(arrivals, [requests / len(arrivals)] * len(arrivals), random)


def shorten_outputs(arrivals: Sequence[Arrival], ratio: float) -> list[Arrival]:
    """Outputs `ratio` times as long, at least one token; prompts as they are."""
    return [replace(arrival, output_tokens=max(1, round(arrival.output_tokens * ratio))) for arrival in arrivals]


def stretch_swing(arrivals: Sequence[Arrival], swing: float, random: Random) -> list[Arrival]:
    """Thin the quieter times until the busiest period has `swing` times the tokens of the quietest.

    At a time of level L (share of the peak's tokens) a share of L**(power - 1) of the requests stays: the
    peak keeps all, the order of levels stays as it was. Traffic that swings as much already is unchanged.
    """
    levels = _levels(arrivals)
    trough = sorted(levels)[int(TROUGH_QUANTILE * len(levels))]
    power = math.log(swing) / -math.log(trough) if 0 < trough < 1 else 1.0
    if power <= 1:
        return list(arrivals)
    scale = len(levels) / (arrivals[-1].at_s or 1.0)
    shares = [_level_at(levels, arrival.at_s * scale - 0.5) ** (power - 1) for arrival in arrivals]
    return _kept(arrivals, shares, random)


def _kept(arrivals: Sequence[Arrival], shares: Sequence[float], random: Random) -> list[Arrival]:
    """Systematic sampling: each arrival adds its share, whoever crosses a whole number stays."""
    total = random.random()
    kept = []
    for arrival, share in zip(arrivals, shares, strict=True):
        before, total = total, total + share
        if math.floor(total) > math.floor(before):
            kept.append(arrival)
    return kept


def _levels(arrivals: Sequence[Arrival]) -> list[float]:
    """Tokens per period as shares of the busiest period's; whole periods of about SWING_PERIOD_S."""
    span_s = arrivals[-1].at_s or 1.0
    count = max(1, round(span_s / SWING_PERIOD_S))
    tokens = [0] * count
    for arrival in arrivals:
        tokens[min(count - 1, int(arrival.at_s / span_s * count))] += _tokens(arrival)
    peak = max(tokens) or 1
    return [one / peak for one in tokens]


def _level_at(levels: Sequence[float], place: float) -> float:
    """Between the middles of two periods, interpolated."""
    low = min(max(0, math.floor(place)), len(levels) - 1)
    high = min(low + 1, len(levels) - 1)
    return levels[low] + (levels[high] - levels[low]) * min(1.0, max(0.0, place - low))


def peak_tokens_per_s(arrivals: Sequence[Arrival], window_s: float) -> float:
    """Most prompt and output tokens that arrive within any window of this length, per second."""
    peak = inside = start = 0
    for arrival in arrivals:
        inside += _tokens(arrival)
        while arrivals[start].at_s <= arrival.at_s - window_s:
            inside -= _tokens(arrivals[start])
            start += 1
        peak = max(peak, inside)
    return peak / window_s


def mean_tokens_per_s(arrivals: Sequence[Arrival], span_s: float) -> float:
    """Prompt and output tokens per second over a span."""
    return sum(_tokens(arrival) for arrival in arrivals) / span_s


def _tokens(arrival: Arrival) -> int:
    return arrival.prompt_tokens + arrival.output_tokens
