"""Typed values of what one vLLM server said: a sample, and what two samples tell about a window.

Everything is optional: a series that a server does not expose is `None`, never 0.
Values are sums over the engines (`engine` label) of one pod.
"""

from dataclasses import dataclass

from metrics.quick import quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Cumulative histogram: `counts[i]` observations were ≤ `bounds[i]`; the last bound is +Inf."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float

    def __post_init__(self) -> None:
        if len(self.bounds) != len(self.counts):
            raise ValueError(f"{len(self.bounds)} bounds but {len(self.counts)} counts")

    @property
    def count(self) -> float:
        """All observations."""
        return self.counts[-1] if self.counts else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSample:
    """One scrape of one pod's metrics page. Counters end in `_total`."""

    observed_at_s: float
    running_requests: float | None = None
    waiting_requests: float | None = None
    deferred_requests: float | None = None  # part of waiting that more replicas may not help
    kv_cache_usage_ratio: float | None = None  # 0..1
    kv_cache_capacity_tokens: float | None = None
    prompt_tokens_total: float | None = None  # all prompt tokens, cached ones included
    computed_prompt_tokens_total: float | None = None  # prefill work really done
    generation_tokens_total: float | None = None
    prefix_cache_queried_tokens_total: float | None = None
    prefix_cache_hit_tokens_total: float | None = None
    preemptions_total: float | None = None
    finished_requests_total: float | None = None  # stop and length; aborts and errors are not work done
    aborted_requests_total: float | None = None
    rejected_requests_total: float | None = None
    iterations_total: float | None = None
    iteration_tokens_total: float | None = None
    ttft_s: Histogram | None = None
    itl_s: Histogram | None = None
    queue_time_s: Histogram | None = None
    e2e_s: Histogram | None = None
    prompt_length_tokens: Histogram | None = None
    generation_length_tokens: Histogram | None = None
    is_awake: bool | None = None


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class PodSignals:
    """What one pod's recent samples say: the newest gauges, and rates over the window.

    `observed_at_s` is when the newest sample was taken; `window_s` is what the rates span
    (0 when there is one sample only: then every rate is None).
    """

    observed_at_s: float
    window_s: float
    running_requests: float | None = None
    waiting_requests: float | None = None
    deferred_requests: float | None = None
    kv_cache_usage_ratio: float | None = None
    kv_cache_capacity_tokens: float | None = None
    prompt_tokens_per_s: float | None = None
    computed_prompt_tokens_per_s: float | None = None
    generation_tokens_per_s: float | None = None
    prefix_hit_ratio: float | None = None
    preemptions_per_s: float | None = None
    finished_requests_per_s: float | None = None
    rejected_requests_per_s: float | None = None
    iterations_per_s: float | None = None
    iteration_tokens_per_s: float | None = None
    ttft_s: Histogram | None = None  # observations of the window only
    itl_s: Histogram | None = None
    queue_time_s: Histogram | None = None
    stalled_for_s: float | None = None  # requests in the engine, yet no counter moved for so long; 0: it moves
    is_awake: bool | None = None
