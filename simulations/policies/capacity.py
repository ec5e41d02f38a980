"""What one replica of a site serves within its objectives: the profile that some peers are configured with."""

import math
from dataclasses import dataclass

from .base import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """At most so many requests per second, and so many at a time."""

    requests_per_s: float
    concurrency: int


def profile(site: Site, lengths_tokens: tuple[float, float], *, ttft_s: float, itl_s: float) -> Profile:
    """The largest steady batch of requests of these mean lengths whose steps keep both objectives.

    In a steady batch of B, B/O requests are prefilled per step and each decoding one reads I + O/2 tokens. Where no
    batch keeps the objectives it is that of one request, as in Dynamo's planner.
    """
    prompt, output = lengths_tokens
    held = prompt + output / 2
    most = max(1, min(site.config.max_num_seqs, int(site.config.kv_capacity_tokens / held)))
    best = 1
    low, high = 1, most
    while low <= high:  # the step only grows with the batch
        middle = (low + high) // 2
        step_s = _step_s(site, middle, prompt, output)
        chunks = math.ceil(prompt / max(1.0, site.config.max_num_batched_tokens - middle))
        if step_s <= itl_s and step_s + _prefill_s(site, prompt, chunks) <= ttft_s:
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return Profile(requests_per_s=best / (output * _step_s(site, best, prompt, output)), concurrency=best)


def _step_s(site: Site, batch: int, prompt: float, output: float) -> float:
    times, prefilled = site.times, batch / output
    return (
        times.base_s
        + times.overhead_s
        + batch * (times.decode_sequence_s + times.kv_token_s * (prompt + output / 2))
        + prefilled * (times.prefill_token_s * prompt + times.attention_pair_s * prompt * prompt / 2)
    )


def _prefill_s(site: Site, prompt: float, chunks: int) -> float:
    """A prompt's own steps beyond the batch's."""
    times = site.times
    fixed_s = (chunks - 1) * (times.base_s + times.overhead_s)
    return fixed_s + times.prefill_token_s * prompt + times.attention_pair_s * prompt * prompt / 2
