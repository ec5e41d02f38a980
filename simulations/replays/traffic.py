"""Requests like those of the past: as many in each step, as long on average, with the spread of a trace's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from simulations.replays.history import History
from simulations.traces.chunk import Chunk, joined
from simulations.traces.lengths import Lengths, lengths_of
from simulations.traces.rates import DRAWN_ROWS
from simulations.traffic import KnownFigures, load_figures

RATIO_MIN = 1e-3  # of the figures' mean length: a step whose requests had nearly no tokens


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """Traffic of a scenario: a history, drawn by seed."""

    history: History

    def chunks(self, seed: int) -> Iterator[Chunk]:
        """A Poisson process of the history's rates."""
        rng = np.random.default_rng(seed)
        figures, pending = load_figures(), list[Chunk]()
        lengths = lengths_of(figures)
        for number, per_s in enumerate(self.history.requests_per_s.tolist()):
            pending.append(self._step(number, per_s, self._sized(lengths, figures.known, number), rng))
            if sum(map(len, pending)) >= DRAWN_ROWS:
                yield joined(pending)
                pending = []
        if any(map(len, pending)):
            yield joined(pending)

    def _step(self, number: int, per_s: float, lengths: Lengths, rng: np.random.Generator) -> Chunk:
        step_s = self.history.step_s
        requests = int(rng.poisson(per_s * step_s))
        prompts, outputs = lengths.draw(rng, requests)
        at_s = (number + np.sort(rng.random(requests))) * step_s
        return Chunk(at_s=at_s, prompt_tokens=prompts, output_tokens=outputs)

    def _sized(self, lengths: Lengths, known: KnownFigures, number: int) -> Lengths:
        """As long on average as those of a step."""
        prompt_tokens, output_tokens = self.history.prompt_tokens[number], self.history.output_tokens[number]
        return replace(
            lengths,
            prompt_ratio=max(RATIO_MIN, float(prompt_tokens) / known.prompt_tokens_mean),
            output_ratio=max(RATIO_MIN, float(output_tokens) / known.output_tokens_mean),
        )
