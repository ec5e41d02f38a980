"""The demo's traffic: a real trace or the shipped figures, cut to the demo's seconds and to a fleet of eight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from simulations.demo.setting import HOUR_S, OUTPUT_RATIO, PEAK_REPLICAS, SWING, Setting
from simulations.demo.static_fleet import capacity_tokens_per_s
from simulations.errors import TraceError
from simulations.trace import Arrival
from simulations.traces import read_arrivals
from simulations.traffic import generate, load_figures
from simulations.traffic_shape import compress, peak_tokens_per_s, shorten_outputs, stretch_swing, thin

REQUESTS_MIN = 50  # fewer say nothing about a 95 % objective
RECORDED_MAX = 2_000_000  # requests of a file that are held in memory; ten times Azure's busiest hour
REQUESTS_PER_S_MAX = 60.0  # what client, proxy and emulators carry on two shared cores
PEAK_WINDOW_S = 4.5  # the busiest moments, not the busiest instant; a replica takes as long to start


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What will be sent, and where it comes from."""

    arrivals: tuple[Arrival, ...]
    recorded: int  # requests of the source
    source: str
    capacity_tokens_per_s: float  # of one saturated replica, for just these requests


def make_traffic(setting: Setting, trace: Path | None) -> Traffic:
    """Read or generate an hour, then cut it to size. Deterministic for a seed; TraceError for a bad file."""
    random = Random(setting.seed)
    if trace is None:
        figures = load_figures()
        hour, source = generate(figures, random), f"generated from figures of {figures.source} ({figures.licence})"
    else:
        hour, source = _read(trace, setting), f"replayed from {trace.name}"
    arrivals = _cut(hour, setting, random)
    capacity = capacity_tokens_per_s(arrivals, setting)
    return Traffic(arrivals=tuple(arrivals), recorded=len(hour), source=source, capacity_tokens_per_s=capacity)


def _read(trace: Path, setting: Setting) -> list[Arrival]:
    """The first hour of a file."""
    hour: list[Arrival] = []
    for arrival in read_arrivals(trace):
        if arrival.at_s > HOUR_S or len(hour) >= RECORDED_MAX:
            break
        hour.append(arrival)
    if len(hour) < REQUESTS_MIN:
        raise TraceError(trace, f"expected at least {REQUESTS_MIN} requests within its first hour, got {len(hour)}")
    longest = max(hour, key=lambda arrival: arrival.prompt_tokens + arrival.output_tokens)
    limit = setting.engine.max_model_len_tokens
    if longest.prompt_tokens + longest.output_tokens * OUTPUT_RATIO > limit - 1:
        raise TraceError(trace, f"a prompt of {longest.prompt_tokens} tokens exceeds the emulated model's {limit}")
    if hour[-1].at_s <= 0:
        raise TraceError(trace, "all requests come at the same time; expected some seconds of traffic")
    return hour


def _cut(hour: Sequence[Arrival], setting: Setting, random: Random) -> list[Arrival]:
    swinging = stretch_swing(hour, SWING, random)
    span_s = max(hour[-1].at_s, 1.0)
    served = [replace(a, prompt_tokens=max(1, a.prompt_tokens)) for a in shorten_outputs(swinging, OUTPUT_RATIO)]
    faster = compress(served, span_s / setting.seconds)
    keep_ratio = PEAK_REPLICAS * capacity_tokens_per_s(faster, setting) / peak_tokens_per_s(faster, PEAK_WINDOW_S)
    requests = min(round(len(faster) * keep_ratio), round(REQUESTS_PER_S_MAX * setting.seconds))
    return thin(faster, max(REQUESTS_MIN, requests), random)
