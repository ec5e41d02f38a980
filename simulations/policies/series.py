"""Numbers that peers scale on, read from what the simulator's sensors saw.

Sums over pods are what `sum(…)` gives in Prometheus: None where no pod has the series. What a router of llm-d counts
is put together from the engines and from what waits before them: with its flow control, requests that an engine
cannot start wait in the router, not in the engine; here they wait in the engine, and the sum of both is the same.
"""

import math
from collections.abc import Callable

from autoscaler.policy.types import Observation
from metrics.quantile import merge, quantile
from metrics.sample import Histogram, PodSignals

from .base import SignalsWithPaces, Site, samples
from .hpa import Reading, Total

Latencies = Callable[[PodSignals], Histogram | None]

# Before any request has ended its length is unknown: the mean of Azure's 2023 conversations (CC-BY-4.0).
PROMPT_GUESS_TOKENS, OUTPUT_GUESS_TOKENS = 1155.0, 211.0


def waiting_requests(sample: PodSignals) -> float | None:
    """`vllm:num_requests_waiting`."""
    return sample.waiting_requests


def running_requests(sample: PodSignals) -> float | None:
    """`vllm:num_requests_running`."""
    return sample.running_requests


def kv_cache_usage(sample: PodSignals) -> float | None:
    """`vllm:kv_cache_usage_perc`, despite its name a ratio."""
    return sample.kv_cache_usage_ratio


def outstanding_requests(sample: PodSignals) -> float | None:
    """Running and waiting."""
    if sample.running_requests is None or sample.waiting_requests is None:
        return None
    return sample.running_requests + sample.waiting_requests


def sum_of(read: Reading) -> Total:
    """`sum(series)`."""

    def total(seen: Observation, now_s: float) -> float | None:
        del now_s
        known = [value for sample in samples(seen) if (value := read(sample)) is not None]
        return sum(known) if known else None

    return total


def highest_of(read: Reading) -> Total:
    """`max(series)`."""

    def total(seen: Observation, now_s: float) -> float | None:
        del now_s
        return max((value for sample in samples(seen) if (value := read(sample)) is not None), default=None)

    return total


def mean_of(read: Reading) -> Total:
    """`avg(series)`."""

    def total(seen: Observation, now_s: float) -> float | None:
        del now_s
        known = [value for sample in samples(seen) if (value := read(sample)) is not None]
        return sum(known) / len(known) if known else None

    return total


def zero_if_lost(total: Total) -> Total:
    """KEDA's prometheus scaler with its default `ignoreNullValues: true`; also `… or vector(0)`."""

    def filled(seen: Observation, now_s: float) -> float | None:
        return total(seen, now_s) or 0.0

    return filled


def epp_queue(seen: Observation, now_s: float) -> float | None:
    """`llm_d_epp_flow_control_queue_size`: what no engine has begun."""
    return held_requests(seen) + (sum_of(waiting_requests)(seen, now_s) or 0.0)


def epp_running(seen: Observation, now_s: float) -> float | None:
    """`llm_d_epp_request_running`: what engines work on."""
    return sum_of(running_requests)(seen, now_s)


def held_requests(seen: Observation) -> float:
    """What waits before the service because no replica is ready."""
    return seen.upstream_waiting_requests or 0.0


def outstanding_everywhere(seen: Observation) -> float:
    """All requests that have come and have not been answered."""
    return held_requests(seen) + (sum_of(outstanding_requests)(seen, 0.0) or 0.0)


def finished_per_s(seen: Observation) -> float | None:
    """`sum(rate(vllm:request_success_total))`."""
    return sum_of(lambda sample: sample.finished_requests_per_s)(seen, 0.0)


def mean_lengths_tokens(seen: Observation) -> tuple[float, float] | None:
    """Mean prompt and output of the requests that ended in the window; None where none did."""
    prompt = sum_of(lambda sample: sample.prompt_tokens_per_s)(seen, 0.0)
    output = sum_of(lambda sample: sample.generation_tokens_per_s)(seen, 0.0)
    finished = finished_per_s(seen)
    if not finished or prompt is None or output is None:
        return None
    return prompt / finished, output / finished


def latency_quantile_s(seen: Observation, read: Latencies, q: float) -> float | None:
    """`histogram_quantile(q, sum by (le) (rate(…)))` over the sensors' window."""
    merged = merge(found for sample in samples(seen) if (found := read(sample)) is not None)
    return None if merged is None else quantile(merged, q)


def tpot_s(sample: PodSignals) -> Histogram | None:
    """Of each request the mean, (e2e - TTFT) / (tokens - 1): `RecordRequestTPOT` of llm-d's endpoint picker."""
    return sample.tpot_s if isinstance(sample, SignalsWithPaces) else None


def prefill_tokens_per_s(site: Site) -> float:
    """Prompt tokens that an idle replica computes per second: one full chunk by the time that takes."""
    tokens = site.config.max_num_batched_tokens
    step_s = site.times.duration_s(tokens, 0, kv_tokens=0, attention_pairs=tokens * tokens / 2)
    return tokens / step_s


def kv_capacity_tokens(sample: PodSignals, site: Site) -> float:
    """What a replica says of its KV cache, else what its configuration says."""
    known = sample.kv_cache_capacity_tokens
    return known if known is not None and math.isfinite(known) else float(site.config.kv_capacity_tokens)
