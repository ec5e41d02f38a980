"""What one replica's sample says in our terms."""

from metrics.sample import PodSignals

# A server that holds requests, yet moved no counter for so long, is stuck: its gauges say nothing.
# Thirty seconds are many times the longest engine step seen (a 1 M token prefill).
STALLED_S = 30.0


def says_nothing(sample: PodSignals) -> bool:
    """Stuck, or without a single series that we know: renamed, or not a vLLM page."""
    if sample.stalled_for_s is not None and sample.stalled_for_s >= STALLED_S:
        return True
    return (
        sample.running_requests is None
        and sample.waiting_requests is None
        and sample.kv_cache_usage_ratio is None
        and sample.generation_tokens_per_s is None
    )


def tokens_per_s(sample: PodSignals) -> float | None:
    """Work of one replica: prompt tokens really computed where the server says so, plus generated ones."""
    generated = sample.generation_tokens_per_s
    prompt = sample.computed_prompt_tokens_per_s
    if prompt is None:
        prompt = sample.prompt_tokens_per_s
    if generated is None or prompt is None:
        return None
    return (prompt if prompt > 0 else 0.0) + (generated if generated > 0 else 0.0)


def waiting_requests(sample: PodSignals) -> float | None:
    """Requests that another replica could take."""
    waiting = sample.waiting_requests
    if waiting is None:
        return None
    if sample.deferred_requests:
        waiting -= sample.deferred_requests
    return waiting if waiting > 0 else 0.0
