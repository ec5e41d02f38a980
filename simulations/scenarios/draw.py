"""Traffic of a scenario: drawn from figures by seed, or read from a trace; both streamed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from simulations.prefixes import PrefixFigures, with_prefixes
from simulations.traces import Chunk, Drawing, joined, open_trace
from simulations.traces.chunk import Floats
from simulations.traces.lengths import Lengths, lengths_of
from simulations.traces.reshape import Scale, cut, scaled
from simulations.traffic import RateFigures, TrafficFigures

PIECE_S = 3600.0  # drawn at once
GAPS_AT_ONCE = 4096
AS_IT_IS = Scale()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of a longer span."""

    begin_s: float = 0.0
    end_s: float = float("inf")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Generated:
    """Requests at the rates of one trace, as long as those of the same or another.

    `waves` gives coarse rates the ups and downs within an hour that another trace has; its span is repeated.
    `burstiness` is that of `vllm bench serve`: the shape of the gaps' Gamma distribution, in a time in which the rate
    is always the same. 1 is a Poisson process, whose gaps vary as much as their mean; 0.25 has twice that.
    """

    rates: RateFigures
    lengths: TrafficFigures
    requests_per_s: float  # mean of the whole
    window: Window = Window()
    waves: RateFigures | None = None
    prompt_ratio: float = 1.0
    output_ratio: float = 1.0
    prefixes: PrefixFigures | None = None
    burstiness: float = 1.0

    def chunks(self, seed: int) -> Iterator[Chunk]:
        """A renewal process of these rates."""
        rng = np.random.default_rng(seed)
        pieces = self._pieces(rng)
        if self.prefixes is None:
            yield from pieces
        else:  # conversations go on over the whole span
            yield with_prefixes(joined(list(pieces)), self.prefixes, rng)

    @property
    def span_s(self) -> float:
        """Of the window."""
        return min(self.window.end_s, self.rates.span_s) - self.window.begin_s

    def per_s(self) -> tuple[Floats, float]:
        """Requests per second in bins of equal width, and that width."""
        source = self.waves or self.rates
        width_s = source.bin_s
        middles_s = np.arange(width_s / 2, self.span_s, width_s)
        shape = _at(self.rates, middles_s + self.window.begin_s, is_smooth=self.waves is not None)
        if self.waves is not None:
            shape = shape * _at(self.waves, middles_s % self.waves.span_s, is_smooth=False)
        return shape / shape.mean() * self.requests_per_s, width_s

    def _pieces(self, rng: np.random.Generator) -> Iterator[Chunk]:
        per_s, width_s = self.per_s()
        bins = max(1, round(PIECE_S / width_s))
        lengths = lengths_of(self.lengths, prompt_ratio=self.prompt_ratio, output_ratio=self.output_ratio)
        drawn = _poisson if self.burstiness == 1 else partial(_in_bursts, self.burstiness)
        for at_s in drawn(per_s, width_s, bins, rng):
            if len(at_s):
                yield self._with_lengths(at_s, lengths, rng)

    def _with_lengths(self, at_s: Floats, lengths: Lengths, rng: np.random.Generator) -> Chunk:
        """As long as at that time in the trace, where rates and lengths are of one; else as on the whole."""
        if self.lengths.source != self.rates.source:
            prompts, outputs = lengths.draw(rng, len(at_s))
            return Chunk(at_s=at_s, prompt_tokens=prompts, output_tokens=outputs)
        periods = ((at_s + self.window.begin_s) / self.lengths.mix_period_s).astype(np.int64)
        last = len(self.lengths.prompt_mix) - 1
        parts = []
        for period in np.unique(periods).tolist():
            inside = at_s[periods == period]
            weights = np.array(self.lengths.prompt_mix[min(period, last)], np.float64)
            prompts, outputs = lengths.draw_mixed(rng, weights if weights.any() else lengths.weights, len(inside))
            parts.append(Chunk(at_s=inside, prompt_tokens=prompts, output_tokens=outputs))
        return joined(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The requests of a trace file, cut and scaled."""

    path: Path
    format_name: str | None = None
    window: Window = Window()
    scale: Scale = AS_IT_IS
    lengths: Lengths | None = None  # where the file has rates only; None: those of Azure's conversations of 2023

    def chunks(self, seed: int) -> Iterator[Chunk]:
        """Read anew; the seed is that of what is drawn, and of who is repeated."""
        found = open_trace(self.path, self.format_name, Drawing(seed=seed, given_lengths=self.lengths)).chunks()
        windowed = found if self.window == Window() else cut(found, self.window.begin_s, self.window.end_s)
        return windowed if self.scale == AS_IT_IS else scaled(windowed, self.scale, np.random.default_rng(seed))


class Traffic(Protocol):
    """Anything that gives requests by seed."""

    def chunks(self, seed: int) -> Iterator[Chunk]:
        """In order of time, from 0 on."""
        ...


def _poisson(per_s: Floats, width_s: float, bins: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Arrivals of so many bins at a time, at these rates."""
    for begin in range(0, len(per_s), bins):
        counts = rng.poisson(per_s[begin : begin + bins] * width_s)
        begins_s = (begin + np.arange(len(counts))) * width_s
        yield np.sort(np.repeat(begins_s, counts) + rng.random(counts.sum()) * width_s)


def _in_bursts(
    burstiness: float, per_s: Floats, width_s: float, bins: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """The same with Gamma gaps, of a mean of 1 in the number of requests expected by then."""
    expected = np.concatenate([np.zeros(1), np.cumsum(per_s * width_s)])
    marks_s = np.arange(len(expected)) * width_s
    ahead = np.cumsum(rng.gamma(burstiness, 1 / burstiness, GAPS_AT_ONCE))
    for begin in range(0, len(per_s), bins):
        end = expected[min(begin + bins, len(per_s))]
        while ahead[-1] < end:
            ahead = np.concatenate([ahead, ahead[-1] + np.cumsum(rng.gamma(burstiness, 1 / burstiness, GAPS_AT_ONCE))])
        inside = int(np.searchsorted(ahead, end))
        yield np.interp(ahead[:inside], expected, marks_s)
        ahead = ahead[inside:]


def _at(figures: RateFigures, at_s: Floats, *, is_smooth: bool) -> Floats:
    """Requests per bin at these times: of the bin, or between the middles of two."""
    counts = np.array(figures.arrivals_per_bin, np.float64)
    if not is_smooth:
        return counts[np.minimum((at_s / figures.bin_s).astype(np.int64), len(counts) - 1)]
    middles_s = (np.arange(len(counts)) + 0.5) * figures.bin_s
    return np.interp(at_s, middles_s, counts)
