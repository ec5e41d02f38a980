"""What a replica is: its limits (`EngineConfig`) and what its iterations cost (`StepTimes`).

The cost is linear: t = a + b·P + c·B + d·K + e·A with P prefill tokens, B decoding sequences,
K KV tokens read by them, A pairs of prefill tokens that attend to each other.
"""

import re
from dataclasses import dataclass, replace

from .errors import BadEngineConfigError

# vLLM keeps block 0 as a placeholder: a pool of N blocks holds N - 1 (BlockPool.null_block).
NULL_BLOCKS = 1

# vLLM's scheduler and sampler in Python: 1-3 ms per step on published profiles, which hold GPU time only.
PYTHON_OVERHEAD_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """vLLM's scheduling limits. The defaults are those of an 8B model on one 80 GB GPU."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    num_gpu_blocks: int = 28_233  # 80 GB x 0.9 - weights, computed by vLLM's own KV sizing for Llama-3.1-8B
    block_size_tokens: int = 16
    max_model_len_tokens: int = 8192
    caches_prefixes: bool = True
    # `scheduler_reserve_full_isl`: admit a request only if all of its prompt finds blocks, not just the first chunk.
    reserves_full_prompt: bool = True

    def __post_init__(self) -> None:
        for name in (
            "max_num_seqs",
            "max_num_batched_tokens",
            "num_gpu_blocks",
            "block_size_tokens",
            "max_model_len_tokens",
        ):
            if getattr(self, name) < 1:
                raise BadEngineConfigError(f"EngineConfig.{name} is {getattr(self, name)}, must be at least 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise BadEngineConfigError(
                f"EngineConfig.max_num_batched_tokens is {self.max_num_batched_tokens}, "
                f"must be at least max_num_seqs ({self.max_num_seqs})"
            )
        if self.max_model_len_tokens > self.kv_capacity_tokens:
            raise BadEngineConfigError(
                f"EngineConfig.max_model_len_tokens is {self.max_model_len_tokens}, "
                f"but the KV cache holds {self.kv_capacity_tokens} tokens"
            )

    @property
    def usable_blocks(self) -> int:
        """Blocks that requests can have."""
        return self.num_gpu_blocks - NULL_BLOCKS

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the usable blocks hold."""
        return self.usable_blocks * self.block_size_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Coefficients of one iteration's duration, all in seconds."""

    base_s: float  # a
    prefill_token_s: float  # b
    decode_sequence_s: float  # c
    kv_token_s: float  # d
    attention_pair_s: float = 0.0  # e
    overhead_s: float = 0.0  # joins a; apart because it is of the host, not of the GPU

    def __post_init__(self) -> None:
        for name in ("base_s", "prefill_token_s", "decode_sequence_s", "kv_token_s", "attention_pair_s", "overhead_s"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise BadEngineConfigError(f"StepTimes.{name} is {getattr(self, name)}, must be finite and >= 0")
        if self.base_s + self.overhead_s <= 0:
            raise BadEngineConfigError("StepTimes.base_s + overhead_s is 0: time would stand still")

    def duration_s(
        self, prefill_tokens: int, decode_sequences: int, *, kv_tokens: int, attention_pairs: float
    ) -> float:
        """How long one iteration takes."""
        return (
            self.base_s
            + self.overhead_s
            + self.prefill_token_s * prefill_tokens
            + self.decode_sequence_s * decode_sequences
            + self.kv_token_s * kv_tokens
            + self.attention_pair_s * attention_pairs
        )

    def sped_up(self, factor: float) -> "StepTimes":
        """The same machine, `factor` times as fast."""
        if not 0.0 < factor < float("inf"):
            raise BadEngineConfigError(f"a speed-up of {factor} is not a positive number")
        return replace(
            self,
            base_s=self.base_s / factor,
            prefill_token_s=self.prefill_token_s / factor,
            decode_sequence_s=self.decode_sequence_s / factor,
            kv_token_s=self.kv_token_s / factor,
            attention_pair_s=self.attention_pair_s / factor,
            overhead_s=self.overhead_s / factor,
        )


def _published(base_ms: float, *, prefill_us: float, decode_us: float, kv_ns: float, pair_ns: float) -> StepTimes:
    return StepTimes(
        base_s=base_ms / 1e3,
        prefill_token_s=prefill_us / 1e6,
        decode_sequence_s=decode_us / 1e6,
        kv_token_s=kv_ns / 1e9,
        # The fits have e·tokens²; a prefill of n tokens has n²/2 pairs.
        attention_pair_s=2 * pair_ns / 1e9,
        overhead_s=PYTHON_OVERHEAD_S,
    )


# Fitted on the step times of aiconfigurator 0.12.0 (Apache-2.0), vLLM backend, 72 decode points each:
# decode error 1.4-3.9 %, prefill 1.5-6.8 % on average. UNCALIBRATED for any machine of yours.
PROFILES = {
    "llama-3.1-8b-h100": _published(6.353, prefill_us=14.56, decode_us=10.92, kv_ns=41.30, pair_ns=1.291),
    "llama-3.1-8b-h200": _published(4.895, prefill_us=15.44, decode_us=11.87, kv_ns=29.70, pair_ns=1.178),
    "llama-3.1-8b-a100": _published(11.467, prefill_us=53.23, decode_us=35.60, kv_ns=82.63, pair_ns=1.774),
    "llama-3.1-8b-l40s": _published(22.274, prefill_us=45.91, decode_us=36.73, kv_ns=191.2, pair_ns=5.268),
    "llama-3.1-70b-h100-tp4": _published(15.182, prefill_us=49.10, decode_us=31.98, kv_ns=27.06, pair_ns=2.711),
    "llama-3.1-70b-h100-tp8": _published(9.906, prefill_us=34.74, decode_us=26.84, kv_ns=13.91, pair_ns=0.897),
    "qwen3-32b-h100-tp2": _published(13.608, prefill_us=37.45, decode_us=23.95, kv_ns=43.00, pair_ns=2.799),
    "qwen3-8b-h100": _published(6.548, prefill_us=14.54, decode_us=11.53, kv_ns=46.50, pair_ns=1.327),
}
TENSOR_PARALLEL = re.compile(r"-tp(\d+)$")


def profile_gpus(name: str) -> int | None:
    """The GPUs of one replica, where a profile's name ends in -tpN; None: it does not say."""
    found = TENSOR_PARALLEL.search(name)
    return None if found is None else int(found[1])


LLAMA_8B_H100 = PROFILES["llama-3.1-8b-h100"]
