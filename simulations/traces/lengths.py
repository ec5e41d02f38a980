"""How long prompts and answers are, drawn from figures of a trace, many at a time."""

import math
from dataclasses import dataclass

import numpy as np

from simulations.traces.chunk import TOKENS_MAX, Floats, Longs, Tokens
from simulations.traces.stairs import Stairs
from simulations.traffic import TrafficFigures


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Lengths:
    """Joint lengths: a prompt's bin by weight, its place in the bin evenly, its answer by the bin's quantiles.

    `prompt_ratio` and `output_ratio` stretch what is drawn: another service's means with this one's spread.
    """

    prompt_edges: Floats
    weights: Floats  # of the bins between the edges; sums to 1
    output_probabilities: Floats  # rising from 0 to 1
    output_quantiles: Floats  # bins x probabilities
    prompt_ratio: float = 1.0
    output_ratio: float = 1.0

    def __post_init__(self) -> None:
        for name in ("prompt_ratio", "output_ratio"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"lengths: {name} must be > 0 and finite, got {getattr(self, name)}")

    def draw(self, rng: np.random.Generator, requests: int) -> tuple[Tokens, Tokens]:
        """Prompt and output tokens of so many requests, at least one each."""
        return self.draw_mixed(rng, self.weights, requests)

    def draw_mixed(self, rng: np.random.Generator, weights: Floats, requests: int) -> tuple[Tokens, Tokens]:
        """The same with other weights of the bins: the mix of an hour."""
        bins = _drawn(rng, weights / weights.sum(), requests)
        low, high = self.prompt_edges.take(bins), self.prompt_edges.take(bins + 1)
        prompts = (low + (high - low) * rng.random(requests)) * self.prompt_ratio
        outputs = self._outputs(bins, rng.random(requests)) * self.output_ratio
        return _whole(prompts), _whole(outputs)

    def _outputs(self, bins: Longs, probabilities: Floats) -> Floats:
        steps, quantiles = self.output_probabilities, self.output_quantiles.ravel()
        low = Stairs.of(steps).find(probabilities) - 1
        share = (probabilities - steps.take(low)) / np.diff(steps).take(low)
        places = bins * len(steps) + low
        below, above = quantiles.take(places), quantiles.take(places + 1)
        outputs: Floats = below + (above - below) * share
        return outputs


def _drawn(rng: np.random.Generator, shares: Floats, draws: int) -> Longs:
    """`rng.choice(len(shares), draws, p=shares)`, to the same numbers."""
    edges = shares.cumsum()
    return Stairs.of(edges / edges[-1]).find(rng.random(draws))


def lengths_of(figures: TrafficFigures, *, prompt_ratio: float = 1.0, output_ratio: float = 1.0) -> Lengths:
    """The lengths of a trace's figures, over its whole span."""
    weights = np.array(figures.prompt_mix, np.float64).sum(axis=0)
    return Lengths(
        prompt_edges=np.array(figures.prompt_edges),
        weights=weights / weights.sum(),
        output_probabilities=np.array(figures.output_probabilities),
        output_quantiles=np.array(figures.output_quantiles),
        prompt_ratio=prompt_ratio,
        output_ratio=output_ratio,
    )


def _whole(tokens: Floats) -> Tokens:
    whole: Tokens = np.clip(np.rint(tokens), 1, TOKENS_MAX).astype(np.int32)
    return whole
