"""Every `vllm:` metric family of a server's page: name, type, labels, buckets, and which versions show it.

One table, written from the facts of vLLM's releases 0.8.5 to 0.32.0. A family under an older name shares
the values of the newer one. `since` and `until` are minor versions (0.x), both inclusive.
"""

from dataclasses import dataclass
from typing import Literal

# Versions whose pages differ from their predecessor's, newest last.
VERSIONS = ("0.8", "0.10", "0.11", "0.12", "0.16", "0.20", "0.30", "0.32")
MINOR_NEWEST = 32

TTFT_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TOKEN_GAP_BOUNDS_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST_BOUNDS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
STEP_BOUNDS_TOKENS = (1.0, *(float(2**power) for power in range(3, 15)))
PREEMPTION_BOUNDS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
COPIES_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0)
LENGTH_BOUNDS = None  # 1, 2, 5, 10 … up to the model's context length


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family. With a `label` it has one series per value, without it one series."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str  # after `vllm:`; counters without their `_total`
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    bounds: tuple[float, ...] | None = ()
    shares: str = ""  # whose values it shows, where not its own
    has_engine: bool = True
    since: int = 0
    until: int = MINOR_NEWEST

    @property
    def key(self) -> str:
        """The family whose values it shows."""
        return self.shares or self.name

    def is_shown_by(self, version: str) -> bool:
        """Whether that version's page has it."""
        return self.since <= int(version.split(".")[1]) <= self.until


FAMILIES = (
    # The history does not say when the three estimates came; 0.16 is the first version after they were merged.
    Family("counter", "estimated_flops_per_gpu", "Estimated floating point operations per GPU.", since=16),
    Family("counter", "estimated_read_bytes_per_gpu", "Estimated bytes read from memory per GPU.", since=16),
    Family("counter", "estimated_write_bytes_per_gpu", "Estimated bytes written to memory per GPU.", since=16),
    Family("gauge", "num_requests_running", "Requests in the batch."),
    Family("gauge", "num_requests_waiting", "Requests in the queue."),
    Family(
        "gauge",
        "num_requests_waiting_by_reason",
        "Requests in the queue by reason: capacity, or deferred by a transient constraint. Sums to the queue.",
        "reason",
        ("capacity", "deferred"),
        since=20,
    ),
    Family(
        "gauge",
        "engine_sleep_state",
        "1 for the state that the engine is in: awake, sleeping at level 1 or at level 2.",
        "sleep_state",
        ("awake", "weights_offloaded", "discard_all"),
        since=12,
    ),
    Family("gauge", "gpu_cache_usage_perc", "Share of KV blocks in use.", shares="kv_cache_usage_perc", until=10),
    Family("counter", "gpu_prefix_cache_queries", "Tokens looked up.", shares="prefix_cache_queries", until=10),
    Family("counter", "gpu_prefix_cache_hits", "Tokens found.", shares="prefix_cache_hits", until=10),
    Family("gauge", "kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.", since=10),
    Family("counter", "prefix_cache_queries", "Tokens looked up in the prefix cache.", since=10),
    Family("counter", "prefix_cache_hits", "Tokens found in the prefix cache.", since=10),
    Family("counter", "external_prefix_cache_queries", "Tokens looked up at other instances.", since=12),
    Family("counter", "external_prefix_cache_hits", "Tokens found at other instances.", since=12),
    Family("counter", "mm_cache_queries", "Items looked up in the multi-modal cache.", since=12),
    Family("counter", "mm_cache_hits", "Items found in the multi-modal cache.", since=12),
    Family("counter", "num_preemptions", "Requests that lost their KV blocks to others."),
    Family("counter", "prompt_tokens", "Prompt tokens of finished prefills."),
    Family(
        "counter",
        "prompt_tokens_by_source",
        "Prompt tokens by where their KV came from.",
        "source",
        ("local_compute", "local_cache_hit", "external_kv_transfer"),
        since=16,
    ),
    Family("counter", "prompt_tokens_cached", "Prompt tokens that were cached, here or elsewhere.", since=16),
    Family(
        "counter",
        "prompt_tokens_cached_by_source",
        "Cached prompt tokens by the tier that held them, counted at admission.",
        "source",
        ("device", "host", "p2p", "disk", "external_unspecified"),
        since=32,
    ),
    Family("counter", "generation_tokens", "Tokens generated."),
    Family(
        "counter",
        "request_success",
        "Requests that ended, by reason.",
        "finished_reason",
        ("stop", "length", "abort", "error", "repetition"),
    ),
    Family(
        "counter",
        "admission_rejections",
        "Requests refused by a queue limit, by limit.",
        "reason",
        ("max_num_queued_reqs", "max_num_queued_tokens"),
        has_engine=False,
        since=32,
    ),
    Family("histogram", "request_prompt_tokens", "Prompt tokens per request.", bounds=LENGTH_BOUNDS),
    Family("histogram", "request_generation_tokens", "Generated tokens per request.", bounds=LENGTH_BOUNDS),
    # A histogram despite its name.
    Family("histogram", "iteration_tokens_total", "Tokens per engine step.", bounds=STEP_BOUNDS_TOKENS),
    Family("histogram", "request_max_num_generation_tokens", "Longest answer per request.", bounds=LENGTH_BOUNDS),
    Family("histogram", "request_params_n", "Answers asked for.", bounds=COPIES_BOUNDS),
    Family("histogram", "request_params_max_tokens", "Length limits asked for.", bounds=LENGTH_BOUNDS),
    Family("histogram", "time_to_first_token_seconds", "Arrival to first token.", bounds=TTFT_BOUNDS_S),
    Family(
        "histogram",
        "time_per_output_token_seconds",
        "Time between two tokens.",
        bounds=TOKEN_GAP_BOUNDS_S,
        shares="inter_token_latency_seconds",
        until=12,
    ),
    Family(
        "histogram",
        "inter_token_latency_seconds",
        "Time between two tokens.",
        bounds=TOKEN_GAP_BOUNDS_S,
        since=11,
    ),
    Family(
        "histogram",
        "request_time_per_output_token_seconds",
        "Mean time between two tokens, per request.",
        bounds=TOKEN_GAP_BOUNDS_S,
        since=11,
    ),
    Family("histogram", "e2e_request_latency_seconds", "Arrival to last token.", bounds=REQUEST_BOUNDS_S),
    Family("histogram", "request_queue_time_seconds", "Arrival to first batch.", bounds=REQUEST_BOUNDS_S),
    Family("histogram", "request_inference_time_seconds", "First batch to last token.", bounds=REQUEST_BOUNDS_S),
    Family("histogram", "request_prefill_time_seconds", "First batch to first token.", bounds=REQUEST_BOUNDS_S),
    Family("histogram", "request_decode_time_seconds", "First token to last token.", bounds=REQUEST_BOUNDS_S),
    Family("histogram", "request_num_preemptions", "Preemptions per request.", bounds=PREEMPTION_BOUNDS, since=30),
    Family(
        "histogram",
        "request_prefill_kv_computed_tokens",
        "Prompt tokens computed, not cached, per request.",
        bounds=LENGTH_BOUNDS,
        since=16,
    ),
)


def length_bounds(max_model_len_tokens: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 … as far as the model's context reaches."""
    bounds: list[float] = []
    decade = 1
    while decade <= max_model_len_tokens:
        bounds += [float(digit * decade) for digit in (1, 2, 5) if digit * decade <= max_model_len_tokens]
        decade *= 10
    return tuple(bounds)
