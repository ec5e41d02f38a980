"""What was measured on a real server: per request when it came, how long it was, when its tokens came."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulations.kv_size import BLOCK_SIZE_TOKENS
from simulations.replica import EngineConfig

Floats = NDArray[np.float64]
Tokens = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The server's scheduling limits as far as they are known; None: not said."""

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    num_gpu_blocks: int | None = None
    block_size_tokens: int | None = None
    max_model_len_tokens: int | None = None

    def over(self, other: "Limits") -> "Limits":
        """These, and the other's where these say nothing."""
        return Limits(
            **{
                name: getattr(other, name) if getattr(self, name) is None else getattr(self, name)
                for name in self.__slots__
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """One run on one replica, requests in order of arrival; all columns are of the same length."""

    name: str
    path: Path
    arrived_at_s: Floats  # after the first
    prompt_tokens: Tokens
    output_tokens: Tokens
    ttft_s: Floats
    e2e_s: Floats
    seen_by_client: bool  # else the times are the engine's own
    limits: Limits = Limits()

    def __len__(self) -> int:
        return len(self.arrived_at_s)

    @property
    def total_tokens_max(self) -> int:
        """Of the longest request."""
        return int((self.prompt_tokens.astype(np.int64) + self.output_tokens).max())


def engine_config(limits: Limits, runs: list[MeasuredRun]) -> tuple[EngineConfig, tuple[str, ...]]:
    """What the simulated server may do, and what had to be assumed for it, in words."""
    defaults = EngineConfig()
    assumed: list[str] = []
    total_tokens_max = max(run.total_tokens_max for run in runs)
    seqs = _known(limits.max_num_seqs, defaults.max_num_seqs, "max_num_seqs", assumed)
    budget = _known(limits.max_num_batched_tokens, defaults.max_num_batched_tokens, "max_num_batched_tokens", assumed)
    size = _known(limits.block_size_tokens, BLOCK_SIZE_TOKENS, "block_size_tokens", assumed)
    if limits.num_gpu_blocks is None:
        assumed.append("num_gpu_blocks is not known: taken as many as never run out")
    roomy = seqs * -(-total_tokens_max // size) + 1
    config = EngineConfig(
        max_num_seqs=seqs,
        max_num_batched_tokens=budget,
        num_gpu_blocks=limits.num_gpu_blocks or roomy,
        block_size_tokens=size,
        # What was served was not too long; the limit itself plays no part in the times.
        max_model_len_tokens=total_tokens_max,
        caches_prefixes=False,
    )
    return config, tuple(assumed)


def _known(given: int | None, default: int, name: str, assumed: list[str]) -> int:
    if given is None:
        assumed.append(f"{name} is not known: taken as {default}, vLLM's default on most GPUs")
        return default
    return given
