"""Derive traffic figures from an Azure trace: `python -m simulations.derive_figures TRACE.csv > figures.json`.

Anyone with the trace can derive them again and compare; what ships in `simulations/figures/` was made so.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import correlation, fmean

from simulations.errors import TraceError
from simulations.trace import Arrival
from simulations.traces import read_arrivals
from simulations.traffic import KnownFigures, TrafficFigures, quantile

SOURCE = "Azure/AzurePublicDataset, AzureLLMInferenceDataset2023, AzureLLMInferenceTrace_conv.csv"
LICENCE = "CC-BY-4.0"
BIN_S = 10.0
MIX_PERIOD_S = 120.0  # long enough for ~650 requests to fill 22 bins, short against the hour's waves
TWENTIETHS = tuple(step / 20 for step in range(20))
TAIL = (
    0.99,
    0.999,
    1.0,
)  # the last twentieth spans 4,083 to 14,050 tokens, nearly all below 4,200


def derive(arrivals: Sequence[Arrival]) -> TrafficFigures:
    """All figures of one trace."""
    prompts = sorted(arrival.prompt_tokens for arrival in arrivals)
    edges = sorted({quantile(prompts, step) for step in (*TWENTIETHS, *TAIL)})
    bins = list(pairwise(edges))
    members = [[a for a in arrivals if _inside(a, pair, last=pair == bins[-1])] for pair in bins]
    steps = (*TWENTIETHS, *TAIL[::2])
    return TrafficFigures(
        source=SOURCE,
        licence=LICENCE,
        span_s=arrivals[-1].at_s,
        bin_s=BIN_S,
        arrivals_per_bin=_per_bin(arrivals, BIN_S),
        mix_period_s=MIX_PERIOD_S,
        prompt_edges=tuple(edges),
        prompt_mix=tuple(zip(*(_padded(member, arrivals) for member in members), strict=True)),
        output_probabilities=steps,
        output_quantiles=tuple(_output_quantiles(member, steps) for member in members),
        known=_known(arrivals),
    )


def _inside(arrival: Arrival, pair: tuple[float, float], *, last: bool) -> bool:
    return pair[0] <= arrival.prompt_tokens < pair[1] or (last and arrival.prompt_tokens == pair[1])


def _output_quantiles(members: Sequence[Arrival], steps: Sequence[float]) -> tuple[float, ...]:
    ordered = sorted(arrival.output_tokens for arrival in members)
    return tuple(round(quantile(ordered, step), 1) for step in steps)


def _per_bin(arrivals: Sequence[Arrival], bin_s: float) -> tuple[int, ...]:
    counts = Counter(int(arrival.at_s / bin_s) for arrival in arrivals)
    return tuple(counts[index] for index in range(max(counts) + 1))


def _padded(members: Sequence[Arrival], arrivals: Sequence[Arrival]) -> tuple[int, ...]:
    """Counts per mix period over the whole span, also where the bin ends earlier."""
    counts = Counter(int(arrival.at_s / MIX_PERIOD_S) for arrival in members)
    return tuple(counts[index] for index in range(int(arrivals[-1].at_s / MIX_PERIOD_S) + 1))


def _known(arrivals: Sequence[Arrival]) -> KnownFigures:
    prompts = [arrival.prompt_tokens for arrival in arrivals]
    outputs = [arrival.output_tokens for arrival in arrivals]
    tokens: Counter[int] = Counter()
    for arrival in arrivals:
        tokens[int(arrival.at_s / BIN_S)] += arrival.prompt_tokens + arrival.output_tokens
    per_bin = _per_bin(arrivals, BIN_S)
    return KnownFigures(
        requests=len(arrivals),
        requests_per_s=round(len(arrivals) / arrivals[-1].at_s, 4),
        prompt_tokens_mean=round(fmean(prompts), 2),
        prompt_tokens_p50=quantile(sorted(prompts), 0.5),
        prompt_tokens_p95=quantile(sorted(prompts), 0.95),
        output_tokens_mean=round(fmean(outputs), 2),
        output_tokens_p50=quantile(sorted(outputs), 0.5),
        output_tokens_p95=quantile(sorted(outputs), 0.95),
        length_correlation=round(correlation(prompts, outputs), 4),
        requests_peak_to_mean=round(max(per_bin) / fmean(per_bin), 3),
        tokens_peak_to_mean=round(max(tokens.values()) / (sum(tokens.values()) / len(per_bin)), 3),
    )


def main(arguments: Sequence[str]) -> int:
    """Print the figures of the named trace."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m simulations.derive_figures TRACE.csv > figures.json\n")
        return 2
    try:
        figures = derive(list(read_arrivals(Path(arguments[0]))))
    except TraceError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    sys.stdout.write(figures.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
