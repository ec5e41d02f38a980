"""Derive traffic figures from a real trace: `python -m simulations.derive_figures NAME TRACE > figures.json`.

Anyone with the trace can derive them again and compare; what ships in `simulations/figures/` was made so.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulations.errors import TraceError, UsageError
from simulations.prefixes import PrefixFigures, derive_prefixes
from simulations.traces import Chunk, joined, open_trace
from simulations.traces.chunk import Tokens
from simulations.traces.lengths import Lengths, lengths_of
from simulations.traces.rates import Rates, rates_csv
from simulations.traffic import KnownFigures, RateFigures, TrafficFigures, load_figures, stored

TWENTIETHS = tuple(step / 20 for step in range(20))
# The last twentieth of Azure's prompts spans 4,083 to 14,050 tokens, nearly all below 4,200.
TAIL = (0.99, 0.999, 1.0)
LONG_TAIL = (
    0.96,
    0.97,
    0.98,
    0.985,
    0.99,
    0.995,
    0.998,
    0.999,
    1.0,
)  # of traces in which few requests bring much of the tokens
SAMPLE_MIN, SAMPLE_MAX = 50, 1_000_000  # requests: fewer have no distribution, more add nothing to it
KNOWN_BIN_S = 10.0  # of the peaks among the known figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a trace comes from, and how finely it is looked at."""

    source: str
    licence: str
    bin_s: float = 10.0
    prompt_tail: tuple[float, ...] = LONG_TAIL
    output_tail: tuple[float, ...] = LONG_TAIL
    mix_period_s: float = 120.0  # long enough for ~650 requests to fill 22 bins, short against the hour's waves
    window_s: tuple[float, float] | None = None


AZURE_2023 = "Azure/AzurePublicDataset, AzureLLMInferenceDataset2023"
SOURCES = {
    "azure_2023_conversation": Source(
        source=f"{AZURE_2023}, AzureLLMInferenceTrace_conv.csv",
        licence="CC-BY-4.0",
        prompt_tail=TAIL,
        output_tail=TAIL[::2],
    ),
    # Editors ask in bursts: a fifth of the minutes are empty, and what comes, comes within seconds.
    "azure_2023_code": Source(
        source=f"{AZURE_2023}, AzureLLMInferenceTrace_code.csv", licence="CC-BY-4.0", bin_s=2.0, mix_period_s=600.0
    ),
    # The stamps stand in batches of three seconds.
    "mooncake_conversation": Source(
        source="kvcache-ai/Mooncake, FAST25-release, conversation_trace.jsonl",
        licence="Apache-2.0",
        bin_s=30.0,
        mix_period_s=600.0,
    ),
    "servegen_deepseek_r1": Source(
        source="alibaba/ServeGen, data/reason/deepseek-r1, drawn with seed 1",
        licence="Apache-2.0",
        bin_s=60.0,
        mix_period_s=7200.0,
    ),
}
RATE_SOURCES = {
    "azure_2024_conversation_week": Source(
        source="Azure/AzurePublicDataset, AzureLLMInferenceDataset2024, conversation, read off its per-minute plot",
        licence="CC-BY-4.0",
        bin_s=600.0,
    ),
    # 10 June, the opening match: 22 hours of rising demand, then 3.5 times the mean within the hour.
    "worldcup98_opening_day": Source(
        source="nimamahmoudi/worldcup98-dataset, requests per minute of 10 June 1998",
        licence="MIT",
        bin_s=60.0,
        window_s=(40 * 86_400 + 9_000, 41 * 86_400 + 9_000),
    ),
}
PREFIX_SOURCES = {"mooncake_conversation_prefixes": SOURCES["mooncake_conversation"]}


def derive(found: Chunk, source: Source) -> TrafficFigures:
    """All figures of one trace."""
    prompts, outputs = found.prompt_tokens, found.output_tokens
    edges = _edges(prompts, (*TWENTIETHS, *source.prompt_tail))
    bins = np.clip(np.searchsorted(edges, prompts, side="right") - 1, 0, len(edges) - 2)
    steps = (*TWENTIETHS, *source.output_tail)
    periods = (found.at_s / source.mix_period_s).astype(np.int64)
    mix = np.zeros((int(periods[-1]) + 1, len(edges) - 1), np.int64)
    np.add.at(mix, (periods, bins), 1)
    return TrafficFigures(
        source=source.source,
        licence=source.licence,
        span_s=round(float(found.at_s[-1]), 6),
        bin_s=source.bin_s,
        arrivals_per_bin=tuple(np.bincount((found.at_s / source.bin_s).astype(np.int64)).tolist()),
        mix_period_s=source.mix_period_s,
        prompt_edges=tuple(edges),
        prompt_mix=tuple(map(tuple, mix.tolist())),
        output_probabilities=steps,
        output_quantiles=tuple(_output_quantiles(outputs[bins == number], steps) for number in range(len(edges) - 1)),
        known=_known(found),
    )


def _edges(prompts: Tokens, steps: Sequence[float]) -> list[float]:
    """Quantiles as edges of bins of which none is empty."""
    edges = sorted({_quantile(prompts, step) for step in steps})
    if len(edges) == 1:  # all prompts are of one length
        return [edges[0], edges[0] + 1.0]
    counts, _ = np.histogram(prompts, edges)
    return [*(edge for edge, count in zip(edges, counts.tolist(), strict=False) if count), edges[-1]]


def derive_rates(rates: Rates, source: Source) -> RateFigures:
    """Requests per bin of a source that has rates only; bins of its own width or coarser."""
    ends_s = np.concatenate([np.zeros(1), np.cumsum(rates.widths_s)])
    cumulated = np.concatenate([np.zeros(1), np.cumsum(rates.widths_s * rates.per_s)])
    begin_s, end_s = source.window_s or (0.0, float(ends_s[-1]))
    marks_s = np.arange(begin_s, end_s + source.bin_s / 2, source.bin_s)
    counts = np.diff(np.interp(marks_s, ends_s, cumulated))
    return RateFigures(
        source=source.source,
        licence=source.licence,
        bin_s=source.bin_s,
        arrivals_per_bin=tuple(np.rint(counts).astype(int).tolist()),
    )


def _output_quantiles(outputs: Tokens, steps: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(_quantile(outputs, step), 1) for step in steps)


def _quantile(values: Tokens, step: float) -> float:
    return float(np.quantile(values, step))


def _known(found: Chunk) -> KnownFigures:
    prompts, outputs = found.prompt_tokens, found.output_tokens
    places = (found.at_s / KNOWN_BIN_S).astype(np.int64)
    per_bin, tokens = np.bincount(places), np.bincount(places, weights=prompts + outputs)
    gaps_s = np.diff(found.at_s)
    return KnownFigures(
        requests=len(found),
        requests_per_s=round(len(found) / float(found.at_s[-1]), 4),
        prompt_tokens_mean=round(float(prompts.mean()), 2),
        prompt_tokens_p50=_quantile(prompts, 0.5),
        prompt_tokens_p95=_quantile(prompts, 0.95),
        output_tokens_mean=round(float(outputs.mean()), 2),
        output_tokens_p50=_quantile(outputs, 0.5),
        output_tokens_p95=_quantile(outputs, 0.95),
        length_correlation=round(_correlation(prompts, outputs), 4),
        requests_peak_to_mean=round(float(per_bin.max() / per_bin.mean()), 3),
        tokens_peak_to_mean=round(float(tokens.max() / tokens.mean()), 3),
        gap_variation=round(float(gaps_s.std() / gaps_s.mean()), 3),
    )


def _correlation(prompts: Tokens, outputs: Tokens) -> float:
    """Pearson's; 0 where one does not vary."""
    return float(np.corrcoef(prompts, outputs)[0, 1]) if prompts.std() and outputs.std() else 0.0


def lengths_from(name: str) -> Lengths:
    """Lengths to draw from: of figures that ship, or of the requests in a trace file. UsageError, TraceError."""
    path = Path(name)
    if not path.exists():
        try:
            return lengths_of(load_figures(name))
        except KeyError as exc:
            raise UsageError(f"lengths: {exc.args[0]}, or the file of a trace") from exc
    some: list[Chunk] = []
    for chunk in open_trace(path).chunks():
        some.append(chunk)
        if sum(map(len, some)) >= SAMPLE_MAX:
            break
    found = joined(some)
    if len(found) < SAMPLE_MIN:
        raise TraceError(path, f"expected at least {SAMPLE_MIN} requests to draw lengths from, got {len(found)}")
    span_s = max(1.0, float(found.at_s[-1]))
    return lengths_of(derive(found, Source(source=path.name, licence="", bin_s=span_s, mix_period_s=2 * span_s)))


def figures_of(name: str, path: Path) -> "TrafficFigures | RateFigures | PrefixFigures":
    """The figures of this name from its trace."""
    if name in RATE_SOURCES:
        return derive_rates(rates_csv(path), RATE_SOURCES[name])
    found = joined(list(open_trace(path).chunks()))
    if name in PREFIX_SOURCES:
        if found.blocks is None:
            raise TraceError(path, "expected a trace with the blocks that prompts share")
        return derive_prefixes(found, PREFIX_SOURCES[name].source, PREFIX_SOURCES[name].licence)
    return derive(found, SOURCES[name])


def main(arguments: Sequence[str]) -> int:
    """Print the figures of the named trace."""
    names = (*SOURCES, *RATE_SOURCES, *PREFIX_SOURCES)
    if len(arguments) != 2 or arguments[0] not in names:
        sys.stderr.write("usage: python -m simulations.derive_figures NAME TRACE > NAME.json\n")
        sys.stderr.write(f"NAME is one of {', '.join(names)}\n")
        return 2
    try:
        figures = figures_of(arguments[0], Path(arguments[1]))
    except TraceError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    sys.stdout.write(stored(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
