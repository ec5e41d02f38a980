"""Labels of `vllm:cache_config_info` as a 0.32 server on one GPU has them: capacity straight from a scrape."""

from simulations.replica import EngineConfig

# What the emulator does not vary. Values are text, "None" included.
_FIXED = {
    "_block_size_resolved": "True",
    "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "gpu_memory_utilization": "0.92",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_cache_memory_bytes": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "float32",
    "num_cpu_blocks": "None",
    "num_gpu_blocks_override": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "False",
}


def cache_config_labels(engine: EngineConfig) -> dict[str, str]:
    """Every label but `engine`, in the page's order. The size counts the placeholder block, as vLLM does."""
    size_tokens = engine.num_gpu_blocks * engine.block_size_tokens
    return dict(
        sorted(
            {
                **_FIXED,
                "block_size": str(engine.block_size_tokens),
                "effective_attention_block_size": str(engine.block_size_tokens),
                "enable_prefix_caching": str(engine.caches_prefixes),
                "kv_cache_max_concurrency": str(size_tokens / engine.max_model_len_tokens),
                "kv_cache_size_tokens": str(size_tokens),
                "num_gpu_blocks": str(engine.num_gpu_blocks),
            }.items()
        )
    )
