"""The one table of vLLM's metric names since 0.6, and what each of them means to us.

One row gives one field of `EngineSample`. Names stand newest first; the first that is on the page
counts and the others are left alone, so that a page with an old and a new name is not counted twice.
Prometheus' own re-exposition spells `vllm_x` what vLLM spells `vllm:x`, and counters go with and
without `_total`: a row takes each spelling. (Name history: vLLM's `v1/metrics/loggers.py`, 0.8.5 to 0.32.0.)

Over the engines of one pod (label `engine`, data parallelism) counts and counters are sums; the KV
usage is their plain mean, since the engines of a pod share one configuration and so one capacity; a
pod is awake when all its engines are. One engine with NaN makes the field None: a part of a sum is a lie.
"""

import dataclasses
from collections.abc import Mapping
from enum import StrEnum

from metrics.sample import EngineSample

_PREFIXES = ("vllm:", "vllm_")


class Shape(StrEnum):
    """How a field is read from its series."""

    SUM = "gauge, sum"
    MEAN = "gauge, mean"
    ALL = "gauge, all"
    CAPACITY = "labels"
    COUNTER = "counter"
    COUNT_OF = "histogram, _count"
    SUM_OF = "histogram, _sum"
    HISTOGRAM = "histogram"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One field of `EngineSample` and the names it may have on a page, newest first, without prefix."""

    field: str
    names: tuple[str, ...]
    shape: Shape
    unit: str
    meaning: str
    picks: frozenset[tuple[str, str]] = dataclasses.field(
        default_factory=frozenset
    )  # any of these labels; empty: every series

    def __post_init__(self) -> None:
        if self.field not in EngineSample.__dataclass_fields__:
            raise ValueError(f"EngineSample has no field {self.field!r}")


def _picks(label: str, *values: str) -> frozenset[tuple[str, str]]:
    return frozenset((label, value) for value in values)


ROWS: tuple[Row, ...] = (
    Row(
        field="running_requests",
        names=("num_requests_running",),
        shape=Shape.SUM,
        unit="requests",
        meaning="in the batch",
    ),
    Row(
        field="waiting_requests",
        names=("num_requests_waiting",),
        shape=Shape.SUM,
        unit="requests",
        meaning="queued in the engine, deferred ones included",
    ),
    Row(
        field="deferred_requests",
        names=("num_requests_waiting_by_reason",),
        picks=_picks("reason", "deferred"),
        shape=Shape.SUM,
        unit="requests",
        meaning="wait for a LoRA slot or a KV transfer: more replicas may not help",
    ),
    Row(
        field="kv_cache_usage_ratio",
        names=("kv_cache_usage_perc", "gpu_cache_usage_perc"),
        shape=Shape.MEAN,
        unit="ratio 0..1",
        meaning="KV blocks in use, despite the name no percentage",
    ),
    Row(
        field="kv_cache_capacity_tokens",
        names=("cache_config_info",),
        shape=Shape.CAPACITY,
        unit="tokens",
        meaning="kv_cache_size_tokens, else num_gpu_blocks × block_size",
    ),
    Row(
        field="prompt_tokens_total",
        names=("prompt_tokens",),
        shape=Shape.COUNTER,
        unit="tokens",
        meaning="prompt tokens, cached ones included",
    ),
    Row(
        field="computed_prompt_tokens_total",
        names=("prompt_tokens_by_source",),
        picks=_picks("source", "local_compute"),
        shape=Shape.COUNTER,
        unit="tokens",
        meaning="prefill really computed here",
    ),
    Row(
        field="generation_tokens_total",
        names=("generation_tokens",),
        shape=Shape.COUNTER,
        unit="tokens",
        meaning="tokens generated",
    ),
    Row(
        field="prefix_cache_queried_tokens_total",
        names=("prefix_cache_queries", "gpu_prefix_cache_queries"),
        shape=Shape.COUNTER,
        unit="tokens",
        meaning="prompt tokens looked up in the prefix cache",
    ),
    Row(
        field="prefix_cache_hit_tokens_total",
        names=("prefix_cache_hits", "gpu_prefix_cache_hits"),
        shape=Shape.COUNTER,
        unit="tokens",
        meaning="prompt tokens found there",
    ),
    Row(
        field="preemptions_total",
        names=("num_preemptions",),
        shape=Shape.COUNTER,
        unit="requests",
        meaning="thrown out of the batch for want of KV blocks",
    ),
    Row(
        field="finished_requests_total",
        names=("request_success",),
        picks=_picks("finished_reason", "stop", "length", "repetition"),
        shape=Shape.COUNTER,
        unit="requests",
        meaning="served; aborts and errors, which vLLM counts here too, are not",
    ),
    Row(
        field="aborted_requests_total",
        names=("request_success",),
        picks=_picks("finished_reason", "abort"),
        shape=Shape.COUNTER,
        unit="requests",
        meaning="given up by the server; one whose client left is not counted (0.32)",
    ),
    Row(
        field="rejected_requests_total",
        names=("admission_rejections",),
        shape=Shape.COUNTER,
        unit="requests",
        meaning="refused with 503 at a queue limit",
    ),
    Row(
        field="iterations_total",
        names=("iteration_tokens_total",),
        shape=Shape.COUNT_OF,
        unit="steps",
        meaning="engine steps",
    ),
    Row(
        field="iteration_tokens_total",
        names=("iteration_tokens_total",),
        shape=Shape.SUM_OF,
        unit="tokens",
        meaning="tokens of all steps, prefill and decode",
    ),
    Row(
        field="ttft_s",
        names=("time_to_first_token_seconds",),
        shape=Shape.HISTOGRAM,
        unit="seconds",
        meaning="arrival to first token",
    ),
    Row(
        field="itl_s",
        names=("inter_token_latency_seconds", "time_per_output_token_seconds"),
        shape=Shape.HISTOGRAM,
        unit="seconds",
        meaning="between tokens, weighted by token",
    ),
    Row(
        field="queue_time_s",
        names=("request_queue_time_seconds",),
        shape=Shape.HISTOGRAM,
        unit="seconds",
        meaning="in the queue; observed at finish only",
    ),
    Row(
        field="e2e_s",
        names=("e2e_request_latency_seconds",),
        shape=Shape.HISTOGRAM,
        unit="seconds",
        meaning="arrival to last token; observed at finish only",
    ),
    Row(
        field="prompt_length_tokens",
        names=("request_prompt_tokens",),
        shape=Shape.HISTOGRAM,
        unit="tokens",
        meaning="prompt lengths of finished requests",
    ),
    Row(
        field="generation_length_tokens",
        names=("request_generation_tokens",),
        shape=Shape.HISTOGRAM,
        unit="tokens",
        meaning="output lengths of finished requests",
    ),
    Row(
        field="is_awake",
        names=("engine_sleep_state",),
        picks=_picks("sleep_state", "awake"),
        shape=Shape.ALL,
        unit="yes/no",
        meaning="not put to sleep",
    ),
)

NOT_USED: Mapping[str, str] = {
    "num_requests_swapped": "V0 only: gone with CPU swapping",
    "cpu_cache_usage_perc": "V0 only: gone with CPU swapping",
    "gpu_prefix_cache_hit_rate": "V0 only: a ratio since start, which no window can be cut from",
    "cpu_prefix_cache_hit_rate": "V0 only: a ratio since start, which no window can be cut from",
    "time_in_queue_requests": "V0 only: request_queue_time_seconds says it",
    "model_forward_time_milliseconds": "V0 only",
    "model_execute_time_milliseconds": "V0 only",
    "avg_prompt_throughput_toks_per_s": "V0 only: we derive rates from counters",
    "avg_generation_throughput_toks_per_s": "V0 only: we derive rates from counters",
    "tokens": "V0 only: prompt and generation tokens in one",
    "request_params_best_of": "V0 only: gone with best_of",
    "spec_decode_draft_acceptance_rate": "V0 only: a ratio since start, which no window can be cut from",
    "spec_decode_efficiency": "V0 only: a ratio since start, which no window can be cut from",
    "spec_decode_num_emitted_tokens": "V0 only",
    "spec_decode_num_drafts": "how tokens are made changes no replica count: generation_tokens counts those kept",
    "spec_decode_num_draft_tokens": "as spec_decode_num_drafts",
    "spec_decode_num_accepted_tokens": "as spec_decode_num_drafts",
    "spec_decode_num_accepted_tokens_per_pos": "as spec_decode_num_drafts",
    "external_prefix_cache_queries": "hits of a shared KV store, not of this engine",
    "external_prefix_cache_hits": "hits of a shared KV store, not of this engine",
    "mm_cache_queries": "counts images, not tokens",
    "mm_cache_hits": "counts images, not tokens",
    "prompt_tokens_cached": "prompt_tokens_by_source says it by source",
    "prompt_tokens_cached_by_source": "where hits came from changes no replica count",
    "request_time_per_output_token_seconds": "a mean per request, at finish: hides stalls",
    "request_prefill_time_seconds": "part of e2e",
    "request_decode_time_seconds": "part of e2e",
    "request_inference_time_seconds": "part of e2e",
    "request_prefill_kv_computed_tokens": "prompt_tokens_by_source says it before the finish",
    "request_num_preemptions": "num_preemptions says it before the finish",
    "request_max_num_generation_tokens": "what was allowed, not what was done",
    "request_params_max_tokens": "what was allowed, not what was done",
    "request_params_n": "parallel samples are requests of their own to the engine",
    "num_requests_kv_fetch_by_stage": "part of the deferred requests",
    "lora_requests_info": "its value is a time, and stale label sets stay",
    "estimated_flops_per_gpu": "0 unless switched on",
    "estimated_read_bytes_per_gpu": "0 unless switched on",
    "estimated_write_bytes_per_gpu": "0 unless switched on",
    "kv_block_lifetime_seconds": "only when switched on",
    "kv_block_idle_before_evict_seconds": "only when switched on",
    "kv_block_reuse_gap_seconds": "only when switched on",
    "sleep_mode_operation_duration_seconds": "developer mode only",
}


def spellings(row: Row, suffix: str = "") -> tuple[str, ...]:
    """Every sample name a row may have on a page, the preferred one first."""
    tails = ("_total", "") if row.shape is Shape.COUNTER else (suffix,)
    return tuple(f"{prefix}{name}{tail}" for name in row.names for prefix in _PREFIXES for tail in tails)


def markdown_table() -> str:
    """The catalog for README, one row per field."""
    lines = ["| field | vLLM name (`vllm:`), newest first | read as | unit | meaning |", "|---|---|---|---|---|"]
    for row in ROWS:
        labels = ", ".join(f"{label}={value}" for label, value in sorted(row.picks))
        names = ", ".join(f"`{name}`" for name in row.names) + (f" {{{labels}}}" if labels else "")
        lines.append(f"| `{row.field}` | {names} | {row.shape} | {row.unit} | {row.meaning} |")
    return "\n".join(lines) + "\n"
