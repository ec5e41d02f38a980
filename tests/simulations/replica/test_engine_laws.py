"""Laws of a replica, for any requests on any small configuration."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.replica import Engine, EngineConfig, Finished, Request, Step, StepResult, StepTimes

BLOCK_TOKENS = 4
CONTEXT_TOKENS = 48
TIMES = StepTimes(
    base_s=0.01, prefill_token_s=1e-3, decode_sequence_s=2e-3, kv_token_s=1e-5, attention_pair_s=1e-6, overhead_s=1e-3
)

configs = st.builds(
    EngineConfig,
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.integers(6, 40),
    num_gpu_blocks=st.integers(CONTEXT_TOKENS // BLOCK_TOKENS + 1, 40),
    block_size_tokens=st.just(BLOCK_TOKENS),
    max_model_len_tokens=st.just(CONTEXT_TOKENS),
    caches_prefixes=st.booleans(),
    reserves_full_prompt=st.booleans(),
)


@st.composite
def workloads(draw: st.DrawFn) -> list[Request]:
    """Up to 14 requests; some share beginnings, because names depend only on (family, position)."""
    requests = []
    at_s = 0.0
    for number in range(draw(st.integers(1, 14))):
        at_s += draw(st.sampled_from([0.0, 0.0, 0.005, 0.2]))
        prompt = draw(st.integers(1, CONTEXT_TOKENS - 1))
        family = draw(st.sampled_from(["", "x", "y"]))
        named = prompt // BLOCK_TOKENS if family else 0
        requests.append(
            Request(
                id=str(number),
                prompt_tokens=prompt,
                output_tokens=draw(st.integers(1, CONTEXT_TOKENS - prompt)),
                prefix_block_ids=tuple(f"{family}{index}" for index in range(named)),
                arrived_at_s=at_s,
            )
        )
    return requests


class Run:
    """A workload run to its end, with everything that was seen on the way."""

    def __init__(self, config: EngineConfig, requests: list[Request], aborted: frozenset[int] = frozenset()) -> None:
        self.engine = Engine(config, TIMES)
        self.steps: list[Step] = []
        self.results: list[StepResult] = []
        self.usage_ratios: list[float] = []
        self.running: list[int] = []
        for request in requests:
            self.engine.submit(request)
        now_s = 0.0
        while (ready_at_s := self.engine.ready_at_s()) is not None:
            step = self.engine.start_step(max(now_s, ready_at_s))
            assert step is not None
            self.usage_ratios.append(self.engine.kv_usage_ratio)
            self.running.append(self.engine.running_requests)
            if len(self.steps) in aborted:
                self.engine.abort(step.admitted[0] if step.admitted else "0")
            self.steps.append(step)
            self.results.append(self.engine.finish_step())
            now_s = step.ends_at_s

    @property
    def finished(self) -> list[Finished]:
        return [done for result in self.results for done in result.finished]


@given(configs, workloads())
@settings(max_examples=150, deadline=None)
def test_every_request_ends_with_exactly_its_tokens_in_order(config: EngineConfig, requests: list[Request]) -> None:
    run = Run(config, requests)

    numbers: dict[str, list[int]] = {}
    for result in run.results:
        for token in result.tokens:
            numbers.setdefault(token.request_id, []).append(token.number)
    assert numbers == {request.id: list(range(1, request.output_tokens + 1)) for request in requests}
    assert Counter(done.request.id for done in run.finished) == Counter(request.id for request in requests)


@given(configs, workloads())
@settings(max_examples=150, deadline=None)
def test_no_step_exceeds_its_limits(config: EngineConfig, requests: list[Request]) -> None:
    run = Run(config, requests)

    assert all(0 <= ratio <= 1 for ratio in run.usage_ratios)
    assert all(running <= config.max_num_seqs for running in run.running)
    for step in run.steps:
        assert 1 <= step.prefill_tokens + step.decode_sequences <= config.max_num_batched_tokens
        assert step.decode_sequences <= config.max_num_seqs
        assert not (step.preempted and step.admitted)


@given(configs, workloads(), st.frozensets(st.integers(0, 30), max_size=4))
@settings(max_examples=150, deadline=None)
def test_all_blocks_are_free_again_at_the_end(
    config: EngineConfig, requests: list[Request], aborted: frozenset[int]
) -> None:
    run = Run(config, requests, aborted)

    assert run.engine.kv_usage_ratio == 0.0
    assert run.engine.outstanding_requests == 0


@given(configs, workloads())
@settings(max_examples=100, deadline=None)
def test_first_admissions_are_first_come_first_served(config: EngineConfig, requests: list[Request]) -> None:
    run = Run(config, requests)

    admitted = list(dict.fromkeys(name for step in run.steps for name in step.admitted))
    assert admitted == [request.id for request in requests]


@given(configs, workloads())
@settings(max_examples=100, deadline=None)
def test_nobody_runs_before_it_arrived_and_time_only_grows(config: EngineConfig, requests: list[Request]) -> None:
    run = Run(config, requests)

    for done in run.finished:
        assert done.request.arrived_at_s <= done.scheduled_at_s < done.first_token_at_s <= done.finished_at_s
    for step, following in zip(run.steps, run.steps[1:], strict=False):
        assert step.started_at_s < step.ends_at_s <= following.started_at_s


@given(configs, workloads())
@settings(max_examples=100, deadline=None)
def test_cached_tokens_are_whole_blocks_and_never_the_whole_prompt(
    config: EngineConfig, requests: list[Request]
) -> None:
    run = Run(config, requests)

    for done in run.finished:
        assert done.cached_tokens % BLOCK_TOKENS == 0
        assert 0 <= done.cached_tokens < done.request.prompt_tokens
    counters = run.engine.counters
    assert counters.prefix_hit_tokens <= counters.prefix_queried_tokens
    assert counters.prompt_tokens == sum(request.prompt_tokens for request in requests)
    assert counters.generation_tokens == sum(request.output_tokens for request in requests)
    assert counters.preemptions == sum(done.preemptions for done in run.finished)


@given(configs, workloads())
@settings(max_examples=50, deadline=None)
def test_the_same_requests_always_take_the_same_way(config: EngineConfig, requests: list[Request]) -> None:
    assert Run(config, requests).results == Run(config, requests).results


@given(workloads())
@settings(max_examples=50, deadline=None)
def test_gaps_between_tokens_add_up_to_the_decode_time(requests: list[Request]) -> None:
    run = Run(EngineConfig(num_gpu_blocks=20, block_size_tokens=4, max_model_len_tokens=CONTEXT_TOKENS), requests)

    gaps_s: dict[str, float] = {}
    for result in run.results:
        for token in result.tokens:
            gaps_s[token.request_id] = gaps_s.get(token.request_id, 0.0) + (token.gap_s or 0.0)
    for done in run.finished:
        assert abs(gaps_s[done.request.id] - (done.finished_at_s - done.first_token_at_s)) < 1e-9
