"""What a server's page says: values by family, updated by engine steps only."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from simulations.replica import Engine, EngineConfig, Finished, StepResult

from .families import FAMILIES, Family, length_bounds


class Buckets:
    """A histogram."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0.0] * (len(bounds) + 1)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value that was seen so many times."""
        self._counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def cumulative(self) -> Iterable[float]:
        """Observations at or below each bound, +Inf last."""
        return accumulate(self._counts)


class EngineStats:
    """Values of every family in the table. Gauges are as old as the last step, as in the real server."""

    def __init__(self, config: EngineConfig) -> None:
        lengths = length_bounds(config.max_model_len_tokens)
        self.scalars: dict[str, list[float]] = {}
        self.histograms: dict[str, Buckets] = {}
        for family in FAMILIES:
            if family.kind == "histogram":
                bounds = lengths if family.bounds is None else family.bounds
                self.histograms.setdefault(family.key, Buckets(bounds))
            else:
                self.scalars.setdefault(family.key, [0.0] * len(family.values))
        self.scalars["engine_sleep_state"][0] = 1.0
        self._reasons = _values_of("request_success")
        self._limits = _values_of("admission_rejections")

    def refresh(self, engine: Engine) -> None:
        """Take gauges and counters over, as at the end of a step."""
        scalars, counters = self.scalars, engine.counters
        waiting = float(engine.waiting_requests)
        scalars["num_requests_running"][0] = float(engine.running_requests)
        scalars["num_requests_waiting"][0] = waiting
        scalars["num_requests_waiting_by_reason"][0] = waiting
        scalars["kv_cache_usage_perc"][0] = engine.kv_usage_ratio
        scalars["prefix_cache_queries"][0] = float(counters.prefix_queried_tokens)
        scalars["prefix_cache_hits"][0] = float(counters.prefix_hit_tokens)
        scalars["num_preemptions"][0] = float(counters.preemptions)
        scalars["prompt_tokens"][0] = float(counters.prompt_tokens)
        computed_tokens = counters.prompt_tokens - counters.cached_prompt_tokens
        scalars["prompt_tokens_by_source"][:2] = float(computed_tokens), float(counters.cached_prompt_tokens)
        scalars["prompt_tokens_cached"][0] = float(counters.cached_prompt_tokens)
        scalars["prompt_tokens_cached_by_source"][0] = float(counters.prefix_hit_tokens)
        scalars["generation_tokens"][0] = float(counters.generation_tokens)

    def step_ended(self, result: StepResult) -> None:
        """Observe a step's size and the gaps between its tokens."""
        if not result.tokens:
            return  # vLLM observes nothing where a step only went on with a prefill
        self.histograms["iteration_tokens_total"].observe(len(result.tokens) + result.prompt_tokens)
        gaps = self.histograms["inter_token_latency_seconds"]
        same_gap_s, times = 0.0, 0
        for token in result.tokens:
            if token.gap_s is None:
                continue
            if token.gap_s != same_gap_s:
                gaps.observe(same_gap_s, times)
                same_gap_s, times = token.gap_s, 0
            times += 1
        gaps.observe(same_gap_s, times)

    def first_token(self, ttft_s: float) -> None:
        """Observe a request's first token when it is made."""
        self.histograms["time_to_first_token_seconds"].observe(ttft_s)

    def finished(self, done: Finished, *, reason: str, max_tokens: int, copies: int) -> None:
        """Observe a request at its end, which is when vLLM records its times."""
        request, observe = done.request, self._observe
        observe("request_prompt_tokens", request.prompt_tokens)
        observe("request_generation_tokens", request.output_tokens)
        observe("request_max_num_generation_tokens", request.output_tokens)
        observe("request_params_max_tokens", max_tokens)
        observe("request_params_n", copies)
        observe("request_time_per_output_token_seconds", done.tpot_s)
        observe("e2e_request_latency_seconds", done.e2e_s)
        observe("request_queue_time_seconds", done.queue_s)
        observe("request_inference_time_seconds", done.finished_at_s - done.scheduled_at_s)
        observe("request_prefill_time_seconds", done.first_token_at_s - done.scheduled_at_s)
        observe("request_decode_time_seconds", done.finished_at_s - done.first_token_at_s)
        observe("request_num_preemptions", done.preemptions)
        observe("request_prefill_kv_computed_tokens", request.prompt_tokens - done.cached_tokens)
        self.ended(reason)

    def ended(self, reason: str) -> None:
        """Count a request's end."""
        self.scalars["request_success"][self._reasons.index(reason)] += 1

    def rejected(self, limit: str) -> None:
        """Count a request that a queue limit refused."""
        self.scalars["admission_rejections"][self._limits.index(limit)] += 1

    def _observe(self, name: str, value: float) -> None:
        self.histograms[name].observe(value)


def _values_of(name: str) -> tuple[str, ...]:
    family: Family = next(family for family in FAMILIES if family.name == name)
    return family.values
