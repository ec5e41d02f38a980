"""The past of a service from its Prometheus: how much was asked for, how many replicas there were, how it went."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from metrics.prometheus import HistoryResult, rate_query
from simulations.errors import ReplayError
from simulations.replays.course import Course, course_of
from simulations.traces.chunk import Floats

STEPS_MAX = 10_000  # of one query; Prometheus itself takes 11,000
RATE_WINDOW_MIN_S = 60.0  # two scrapes of the usual 30 s
KNOWN_RATIO_MIN = 0.5  # of the steps: with fewer, most of the past would be invented


class Source(Protocol):
    """A Prometheus server."""

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Whose past: pods of a namespace whose names match."""

    namespace: str
    pods: str  # a regex

    @property
    def matchers(self) -> Mapping[str, str]:
        """As `rate_query` takes them."""
        return {"namespace": self.namespace.replace(".", "[.]"), "pod": self.pods}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class History:
    """Steps of equal length from `begin_s` (Unix time) on."""

    begin_s: float
    step_s: float
    requests_per_s: Floats
    prompt_tokens: Floats  # mean of a request
    output_tokens: Floats
    replicas: Course | None  # that were serving, by seconds from `begin_s`; None: nobody counted
    ttft_ratio: float | None  # of requests whose first token came in time; None: no histogram
    unknown_steps: int  # without data: taken to be between their neighbours

    @property
    def span_s(self) -> float:
        """Of all steps."""
        return self.step_s * len(self.requests_per_s)


async def read_past(
    source: Source,
    service: Service,
    *,
    begin_s: float,
    end_s: float,
    step_s: float,
    ttft_s: float,
    tell: Callable[[str], None] = lambda _: None,
) -> History:
    """Ask for it; a HistoryError is the server's, a ReplayError says what the server does not know."""
    window_s = max(step_s, RATE_WINDOW_MIN_S)
    times_s = np.arange(begin_s + step_s, end_s + step_s / 2, step_s)  # a rate is of the time before it
    read = _Reader(source, times_s, step_s, tell)
    rates = {
        name: await read.one(name, rate_query(series, service.matchers, window_s=window_s))
        for name, series in (
            ("requests", "request_success_total"),
            ("prompt tokens", "prompt_tokens_total"),
            ("generated tokens", "generation_tokens_total"),
        )
    }
    known = np.all([np.isfinite(values) for values in rates.values()], axis=0)
    if known.mean() < KNOWN_RATIO_MIN:
        missing = [name for name, values in rates.items() if not np.isfinite(values).any()]
        what = f"no {' and no '.join(missing)}" if missing else f"data for {known.mean():.0%} of the time only"
        raise ReplayError(f"Prometheus has {what} of pods {service.pods!r} in namespace {service.namespace!r}")
    requests, prompts, outputs = (_filled(values, known) for values in rates.values())
    replicas = await read.one("replicas", _replicas_query(service))
    return History(
        begin_s=begin_s,
        step_s=step_s,
        requests_per_s=requests,
        prompt_tokens=_mean(prompts, requests),
        output_tokens=_mean(outputs, requests),
        replicas=_course(times_s - begin_s, replicas),
        ttft_ratio=await read.in_time(_buckets_query(service, window_s), ttft_s),
        unknown_steps=int((~known).sum()),
    )


class _Reader:
    """Range queries at the same times, in pieces that a server takes."""

    def __init__(self, source: Source, times_s: Floats, step_s: float, tell: Callable[[str], None]) -> None:
        self._source, self._times_s, self._step_s, self._tell = source, times_s, step_s, tell

    async def one(self, name: str, promql: str) -> Floats:
        """One series; NaN where there is no answer."""
        self._tell(name)
        values = np.full(len(self._times_s), math.nan)
        for _, points in await self._all(promql):
            values = np.where(np.isnan(values), points, values)
        return values

    async def in_time(self, promql: str, ttft_s: float) -> float | None:
        """The share of a histogram's observations that are at most so long, linear within a bucket."""
        self._tell("latency")
        counts = {
            float(labels["le"]): np.nansum(points) for labels, points in await self._all(promql) if "le" in labels
        }
        total = counts.get(math.inf, 0.0)
        if not total or len(counts) < 2:
            return None
        bounds = sorted(bound for bound in counts if math.isfinite(bound))
        return float(np.interp(ttft_s, [0.0, *bounds], [0.0, *(counts[bound] for bound in bounds)]) / total)

    async def _all(self, promql: str) -> list[tuple[Mapping[str, str], Floats]]:
        found: dict[tuple[tuple[str, str], ...], Floats] = {}
        for begin in range(0, len(self._times_s), STEPS_MAX):
            part = self._times_s[begin : begin + STEPS_MAX]
            answer = await self._source.query_range(
                promql, start_s=float(part[0]), end_s=float(part[-1]), step_s=self._step_s
            )
            for series in answer.series:
                values = found.setdefault(series.labels, np.full(len(self._times_s), math.nan))
                for at_s, value in series.points:
                    place = round((at_s - float(self._times_s[0])) / self._step_s)
                    if 0 <= place < len(values):
                        values[place] = value
        return [(dict(labels), values) for labels, values in found.items()]


def _replicas_query(service: Service) -> str:
    """Pods that have a metrics page: those that serve."""
    inside = _inside(service)
    return f"count(count by (pod) (vllm:num_requests_running{{{inside}}} or vllm_num_requests_running{{{inside}}}))"


def _buckets_query(service: Service, window_s: float) -> str:
    inside, window = _inside(service), f"[{window_s:.0f}s]"
    names = (f"{prefix}time_to_first_token_seconds_bucket" for prefix in ("vllm:", "vllm_"))
    first, second = (f"rate({name}{{{inside}}}{window})" for name in names)
    return f"sum by (le) ({first} or {second})"


def _inside(service: Service) -> str:
    quoted = {label: regex.replace("\\", "\\\\").replace('"', '\\"') for label, regex in service.matchers.items()}
    return ",".join(f'{label}=~"{regex}"' for label, regex in quoted.items())


def _filled(values: Floats, known: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Floats:
    places = np.arange(len(values))
    return np.maximum(0.0, np.interp(places, places[known], values[known]))


def _mean(tokens_per_s: Floats, requests_per_s: Floats) -> Floats:
    """Tokens of a request; the mean of the whole where there was none."""
    whole = tokens_per_s.sum() / max(requests_per_s.sum(), 1e-9)
    return np.where(requests_per_s > 0, tokens_per_s / np.maximum(requests_per_s, 1e-9), whole)


def _course(times_s: Floats, replicas: Floats) -> Course | None:
    points = [(at_s, value) for at_s, value in zip(times_s.tolist(), replicas.tolist(), strict=True) if value == value]
    return course_of(points) if points else None
