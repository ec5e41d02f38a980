"""What one replica of a site serves within its objectives: the profile that some peers are configured with."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .base import Role, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """At most so many requests per second, and so many at a time."""

    requests_per_s: float
    concurrency: int


def profile(site: Site, lengths_tokens: tuple[float, float], *, ttft_s: float, itl_s: float) -> Profile:
    """The largest steady batch of requests of these mean lengths whose steps keep the objectives of the site's role.

    In a steady batch of B, B/O requests are prefilled per step and each decoding one reads I + O/2 tokens. Where no
    batch keeps the objectives it is that of one request, as in Dynamo's planner. Of a pool that prefills or decodes
    alone: its `find_best_engine_prefill_rps` and `find_best_engine_decode_rps`.
    """
    prompt, output = lengths_tokens
    if site.role is Role.PREFILL:
        return _prefill_profile(site, prompt, ttft_s)

    def keeps(batch: int) -> bool:
        step_s = _step_s(site, batch, prompt, output)
        chunks = math.ceil(prompt / max(1.0, site.config.max_num_batched_tokens - batch))
        is_in_time = site.role is Role.DECODE or step_s + _prefill_s(site, prompt, chunks) <= ttft_s
        return step_s <= itl_s and is_in_time

    held = prompt + output / 2
    best = _largest(max(1, min(site.config.max_num_seqs, int(site.config.kv_capacity_tokens / held))), keeps)
    return Profile(requests_per_s=best / (output * _step_s(site, best, prompt, output)), concurrency=best)


def _prefill_profile(site: Site, prompt: float, ttft_s: float) -> Profile:
    """One after the other: batches of several take as much longer. So many may wait that the last is in time."""
    chunks = max(1, math.ceil(prompt / site.config.max_num_batched_tokens))
    each_s = site.times.base_s + site.times.overhead_s + _prefill_s(site, prompt, chunks)
    return Profile(requests_per_s=1.0 / each_s, concurrency=max(1, int(ttft_s / each_s)))


def _largest(most: int, keeps: Callable[[int], bool]) -> int:
    """From 1 to `most`, by bisection: what a batch keeps, smaller ones keep; 1 where none does."""
    best = low = 1
    high = most
    while low <= high:
        middle = (low + high) // 2
        if keeps(middle):
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return best


def _step_s(site: Site, batch: int, prompt: float, output: float) -> float:
    times, prefilled = site.times, 0.0 if site.role is Role.DECODE else batch / output
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
