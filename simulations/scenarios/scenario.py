"""A scenario: traffic, the machine that serves it, and what its users expect."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from simulations.compiled.layout import Records
from simulations.compiled.records import requests_of
from simulations.policies.base import Bounds
from simulations.replica import EngineConfig, StepTimes
from simulations.scenarios.draw import Traffic
from simulations.traces import Chunk, joined
from simulations.world.startup import StartupTimes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scenario:
    """All that a setting needs but a seed."""

    name: str
    says: str
    traffic: Traffic
    profile: str  # of model and GPU, a name for people
    engine: EngineConfig
    times: StepTimes
    bounds: Bounds
    ttft_s: float = 2.0
    startup: StartupTimes = field(default_factory=StartupTimes)

    def chunks(self, seed: int) -> Iterator[Chunk]:
        """The traffic of a seed, streamed."""
        return self.traffic.chunks(seed)

    def make(self, seed: int) -> Records:
        """The same at once, as the engine takes it: without what a server would refuse."""
        return servable(joined(list(self.chunks(seed))), self.engine)[0]


def servable(found: Chunk, config: EngineConfig) -> tuple[Records, int]:
    """The requests that a server takes, as records, and how many it does not: empty, or too long for the model."""
    total_tokens = found.prompt_tokens.astype(np.int64) + found.output_tokens
    fits = (found.prompt_tokens > 0) & (found.output_tokens > 0) & (total_tokens <= config.max_model_len_tokens)
    kept = found.take(np.flatnonzero(fits))
    return requests_of(kept.at_s, kept.prompt_tokens, kept.output_tokens), len(found) - len(kept)
