"""Traffic made from figures: an hour that has a real hour's shape and lengths, without being it.

The figures (arrivals per bin, prompt and output length quantiles and how the mix of prompt lengths
moves over time) are derived from a trace by `simulations.derive_figures`. `generate` draws requests
from them; `simulations.traffic_shape` cuts any traffic to size.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from itertools import accumulate
from random import Random
from typing import Any

from simulations.trace import Arrival

AZURE_2023_CONVERSATION = "azure_2023_conversation"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFigures:
    """What the trace itself measures: generated traffic must come near it."""

    requests: int
    requests_per_s: float
    prompt_tokens_mean: float
    prompt_tokens_p50: float
    prompt_tokens_p95: float
    output_tokens_mean: float
    output_tokens_p50: float
    output_tokens_p95: float
    length_correlation: float  # Pearson, prompt against output
    requests_peak_to_mean: float  # of 10 s bins
    tokens_peak_to_mean: float  # prompt + output, of 10 s bins
    gap_variation: float  # standard deviation of the gaps between requests ÷ their mean


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficFigures:
    """What a trace looked like. Prompt bin i spans `prompt_edges[i]` to `prompt_edges[i + 1]` tokens."""

    source: str
    licence: str
    span_s: float
    bin_s: float
    arrivals_per_bin: tuple[int, ...]
    mix_period_s: float
    prompt_edges: tuple[float, ...]
    prompt_mix: tuple[tuple[int, ...], ...]  # requests per prompt bin, for each mix period
    output_probabilities: tuple[float, ...]
    output_quantiles: tuple[tuple[float, ...], ...]  # of each prompt bin
    known: KnownFigures

    def __post_init__(self) -> None:
        bins = len(self.prompt_edges) - 1
        if not self.arrivals_per_bin or sum(self.arrivals_per_bin) == 0:
            raise ValueError("arrivals_per_bin has no arrival")
        if len(self.output_quantiles) != bins or any(len(row) != bins for row in self.prompt_mix):
            raise ValueError(f"output_quantiles and each prompt_mix must have {bins} entries, one per prompt bin")
        if any(len(row) != len(self.output_probabilities) for row in self.output_quantiles):
            raise ValueError(f"each of output_quantiles must have {len(self.output_probabilities)} entries")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFigures:
    """How many requests came when, of a trace that says no more, or of one of which no more is asked."""

    source: str
    licence: str
    bin_s: float
    arrivals_per_bin: tuple[int, ...]

    @property
    def span_s(self) -> float:
        """Of all bins."""
        return self.bin_s * len(self.arrivals_per_bin)


def stored(figures: Any) -> str:
    """Figures of any kind as they are stored: one line per field, so that a change can be read."""
    rows = [f'  "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in asdict(figures).items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def shipped_figures(name: str, needed: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of figures that ship with the package; KeyError says which are not there."""
    folder = resources.files("simulations") / "figures"
    names = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    if name not in names:
        raise KeyError(f"no figures named {name!r}; there are: {', '.join(names)}")
    raw = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    missing = [field for field in needed if field not in raw]
    if missing:
        raise KeyError(f"the figures {name!r} have no {missing[0]}")
    return {key: _frozen(value) for key, value in raw.items()}


def load_figures(name: str = AZURE_2023_CONVERSATION) -> TrafficFigures:
    """Figures of a trace with lengths."""
    raw = shipped_figures(name, (field.name for field in fields(TrafficFigures)))
    known = KnownFigures(**raw.pop("known"))
    return TrafficFigures(known=known, **raw)


def load_rates(name: str) -> RateFigures:
    """The rates of figures of either kind."""
    names = [field.name for field in fields(RateFigures)]
    raw = shipped_figures(name, names)
    return RateFigures(**{field: raw[field] for field in names})


def generate(figures: TrafficFigures, random: Random, *, requests: int | None = None) -> list[Arrival]:
    """Requests over the figures' whole span: a Poisson process of their rates, given its number of requests."""
    count = figures.known.requests if requests is None else requests
    cumulated = list(accumulate(figures.arrivals_per_bin, initial=0))
    times = sorted(_inverse(cumulated, random.random() * cumulated[-1]) * figures.bin_s for _ in range(count))
    return [_arrival(figures, random, min(at_s, figures.span_s)) for at_s in times]


def quantile(ordered: Sequence[float], probability: float) -> float:
    """Quantile of sorted values, interpolated linearly."""
    place = probability * (len(ordered) - 1)
    low = min(int(place), len(ordered) - 1)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _arrival(figures: TrafficFigures, random: Random, at_s: float) -> Arrival:
    period = min(int(at_s / figures.mix_period_s), len(figures.prompt_mix) - 1)
    [prompt_bin] = random.choices(range(len(figures.prompt_edges) - 1), weights=figures.prompt_mix[period])
    low, high = figures.prompt_edges[prompt_bin : prompt_bin + 2]
    output = _at_probability(figures, prompt_bin, random.random())
    return Arrival(
        at_s=at_s, prompt_tokens=round(low + (high - low) * random.random()), output_tokens=max(1, round(output))
    )


def _at_probability(figures: TrafficFigures, prompt_bin: int, probability: float) -> float:
    row, steps = figures.output_quantiles[prompt_bin], figures.output_probabilities
    place = _inverse(steps, probability)
    low = int(place)
    high = min(low + 1, len(row) - 1)
    return row[low] + (row[high] - row[low]) * (place - low)


def _inverse(rising: Sequence[float], value: float) -> float:
    """Where a rising sequence reaches a value: index and fraction; flat stretches are skipped."""
    index = max(0, min(bisect_right(rising, value) - 1, len(rising) - 2))
    low, high = rising[index], rising[index + 1]
    return index + ((value - low) / (high - low) if high > low else 0.0)


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples, all the way down."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
