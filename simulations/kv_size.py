"""How many KV blocks a model gets on a GPU, by vLLM's own code; needs the extra `vllm`, and no GPU.

The memory left for the cache is what a server prints at its start ("Available KV cache memory"): weights, activations
and graphs are not guessed. The configuration is validated by vLLM on the way: what it refuses, no server would start.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulations.errors import UsageError

GIB = 1 << 30
BLOCK_SIZE_TOKENS = 16  # vLLM's default on GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class KvSize:
    """What such a server's cache holds. Its other limits depend on the device, which is not here."""

    num_gpu_blocks: int
    block_size_tokens: int
    max_model_len_tokens: int


def kv_size(
    model: Path, *, cache_gib: float, tensor_parallel: int = 1, block_size_tokens: int = BLOCK_SIZE_TOKENS
) -> KvSize:
    """For a folder with the model's `config.json`; UsageError where vLLM is absent or refuses the configuration."""
    # Sizing needs no accelerator, and nothing of this may look at the network.
    os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from vllm.engine.arg_utils import EngineArgs
    except ModuleNotFoundError as exc:
        raise UsageError("KV sizes come from vLLM, which is not installed: pip install '.[sim,vllm]'") from exc
    try:
        arguments = EngineArgs(
            model=str(model),
            tensor_parallel_size=tensor_parallel,
            block_size=block_size_tokens,
            skip_tokenizer_init=True,
        )
        config = arguments.create_engine_config()
    except (ValueError, OSError) as exc:
        raise UsageError(f"vLLM refuses {model}: {' '.join(str(exc).split())[:300]}") from exc
    return KvSize(
        num_gpu_blocks=_blocks(config, round(cache_gib * GIB)),
        block_size_tokens=block_size_tokens,
        max_model_len_tokens=config.model_config.max_model_len,
    )


def _blocks(config: Any, cache_bytes: int) -> int:
    """Of plain attention in every layer, which is what a replica here models."""
    from vllm.v1.core.kv_cache_utils import get_kv_cache_configs
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    model, parallel = config.model_config, config.parallel_config
    spec = FullAttentionSpec(
        block_size=config.cache_config.block_size,
        num_kv_heads=model.get_num_kv_heads(parallel),
        head_size=model.get_head_size(),
        dtype=model.dtype,
    )
    layers = {f"layer.{number}": spec for number in range(model.get_num_layers(parallel))}
    config.cache_config.kv_cache_layout = "LBHNC"  # resolved by the device, which is not here
    [sized] = get_kv_cache_configs(config, [layers], [cache_bytes])
    return int(sized.num_blocks)
