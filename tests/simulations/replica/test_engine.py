"""Stories of one replica: who runs when, what it costs, what a full cache does."""

import pytest

from simulations.replica import Engine, EngineConfig, Finished, Request, RequestTooLongError, StepTimes

UNIT = StepTimes(base_s=1.0, prefill_token_s=0.0, decode_sequence_s=0.0, kv_token_s=0.0)


def small(**settings: int | bool) -> EngineConfig:
    defaults: dict[str, int | bool] = {
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "num_gpu_blocks": 33,
        "block_size_tokens": 4,
        "max_model_len_tokens": 64,
    }
    return EngineConfig(**(defaults | settings))  # type: ignore[arg-type] # a table of settings


def request(name: str, prompt: int, output: int, *ids: str, at_s: float = 0.0) -> Request:
    return Request(id=name, prompt_tokens=prompt, output_tokens=output, prefix_block_ids=ids, arrived_at_s=at_s)


def drain(engine: Engine, now_s: float = 0.0) -> dict[str, Finished]:
    done: dict[str, Finished] = {}
    while (step := engine.start_step(now_s)) is not None:
        assert step.duration_s > 0
        result = engine.finish_step()
        now_s = result.ended_at_s
        done |= {finished.request.id: finished for finished in result.finished}
    return done


def test_an_idle_engine_has_nothing_to_compute() -> None:
    engine = Engine(small(), UNIT)

    assert engine.ready_at_s() is None
    assert engine.start_step(0.0) is None


def test_a_prompt_that_fits_the_budget_yields_its_first_token_after_one_step() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("a", prompt=16, output=3))

    done = drain(engine)["a"]

    assert (done.ttft_s, done.e2e_s, done.tpot_s) == (1.0, 3.0, 1.0)


def test_a_longer_prompt_is_computed_in_chunks() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("a", prompt=17, output=1))

    first = engine.start_step(0.0)
    nothing_yet = engine.finish_step()
    second = engine.start_step(1.0)
    result = engine.finish_step()

    assert first is not None
    assert second is not None
    assert (first.prefill_tokens, second.prefill_tokens) == (16, 1)
    assert nothing_yet.tokens == ()
    assert [token.number for token in result.tokens] == [1]


def test_decodes_come_before_prefills_and_leave_them_the_rest_of_the_budget() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("old", prompt=4, output=9))
    engine.start_step(0.0)
    engine.finish_step()
    engine.submit(request("new", prompt=30, output=1))

    step = engine.start_step(1.0)

    assert step is not None
    assert (step.decode_sequences, step.prefill_tokens, step.kv_tokens) == (1, 15, 5)


def test_work_is_priced_by_what_each_step_computes() -> None:
    times = StepTimes(base_s=1, prefill_token_s=10, decode_sequence_s=100, kv_token_s=1000, attention_pair_s=1e5)
    engine = Engine(small(), times)
    engine.submit(request("a", prompt=20, output=2))

    durations = []
    while (step := engine.start_step(0.0)) is not None:
        durations.append(step.duration_s)
        engine.finish_step()

    # 16 tokens with 16²/2 pairs; 4 more that also see the 16 before; one decode that reads 21 tokens.
    assert durations == [1 + 160 + 1e5 * 128, 1 + 40 + 1e5 * 4 * 18, 1 + 100 + 21_000]


@pytest.mark.parametrize(("requests", "running"), [(3, 3), (4, 4), (5, 4)])
def test_no_more_than_max_num_seqs_run(requests: int, running: int) -> None:
    engine = Engine(small(), UNIT)
    for number in range(requests):
        engine.submit(request(str(number), prompt=1, output=2))

    engine.start_step(0.0)

    assert (engine.running_requests, engine.waiting_requests) == (running, requests - running)


def test_a_request_that_arrives_during_a_step_is_not_in_it() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("late", prompt=4, output=1, at_s=5.0))

    too_early = engine.start_step(4.9)
    in_time = engine.start_step(5.0)

    assert too_early is None
    assert engine.ready_at_s() == float("-inf")
    assert in_time is not None


def test_a_cached_prefix_is_not_computed_again() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("a", 12, 1, "x", "y", "z"))
    drain(engine)
    engine.submit(request("b", 12, 1, "x", "y", "other"))

    step = engine.start_step(10.0)

    assert step is not None
    assert step.prefill_tokens == 4
    assert engine.counters.prefix_hit_tokens == 8
    assert engine.counters.prefix_queried_tokens == 24


def test_of_a_prompt_that_is_wholly_cached_the_last_block_is_computed() -> None:
    engine = Engine(small(), UNIT)
    for name in ("a", "b"):
        engine.submit(request(name, 12, 1, "x", "y", "z"))
        done = drain(engine)[name]

    assert done.cached_tokens == 8


def test_the_next_turn_finds_the_answer_of_the_turn_before() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("turn 1", 8, 9, "x", "y", "answer 1", "answer 2"))
    drain(engine)
    engine.submit(request("turn 2", 20, 1, "x", "y", "answer 1", "answer 2"))

    done = drain(engine)["turn 2"]

    assert done.cached_tokens == 16


def test_without_prefix_caching_everything_is_computed() -> None:
    engine = Engine(small(caches_prefixes=False), UNIT)
    for name in ("a", "b"):
        engine.submit(request(name, 12, 1, "x", "y", "z"))
        done = drain(engine)[name]

    assert done.cached_tokens == 0


def test_two_that_share_a_prefix_share_its_blocks() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("a", 8, 8, "x", "y"))
    engine.start_step(0.0)
    engine.finish_step()
    alone_ratio = engine.kv_usage_ratio
    engine.submit(request("b", 9, 8, "x", "y"))

    engine.start_step(1.0)

    assert alone_ratio == 2 / 32
    assert engine.kv_usage_ratio == 4 / 32  # a's third block and b's third


def test_when_the_cache_is_full_the_youngest_gives_way_and_loses_no_token() -> None:
    engine = Engine(small(num_gpu_blocks=17, caches_prefixes=False), UNIT)
    engine.submit(request("old", prompt=15, output=40))
    engine.submit(request("young", prompt=1, output=40))
    preempted: list[str] = []
    tokens: dict[str, list[int]] = {"old": [], "young": []}
    now_s = 0.0
    while (step := engine.start_step(now_s)) is not None:
        preempted += step.preempted
        result = engine.finish_step()
        now_s = result.ended_at_s
        for token in result.tokens:
            tokens[token.request_id].append(token.number)

    assert preempted == ["young"]
    assert tokens == {"old": list(range(1, 41)), "young": list(range(1, 41))}


def test_a_preempted_request_is_first_in_the_queue_and_waits_until_it_fits() -> None:
    engine = Engine(small(num_gpu_blocks=17, max_num_seqs=2, caches_prefixes=False), UNIT)
    engine.submit(request("old", prompt=15, output=40))
    engine.submit(request("young", prompt=1, output=40))
    engine.submit(request("newcomer", prompt=1, output=1))  # waits for a place before anyone is preempted
    now_s, order = 0.0, []
    while (step := engine.start_step(now_s)) is not None:
        order += step.admitted
        now_s = engine.finish_step().ended_at_s

    assert engine.counters.preemptions == 1
    assert order == ["old", "young", "young", "newcomer"]


@pytest.mark.parametrize(("reserves", "admitted"), [(True, ("a",)), (False, ("a", "b"))])
def test_a_prompt_is_admitted_only_if_all_of_it_fits(reserves: bool, admitted: tuple[str, ...]) -> None:
    config = small(num_gpu_blocks=17, reserves_full_prompt=reserves)
    engine = Engine(config, UNIT)
    engine.submit(request("a", prompt=12, output=8))
    engine.submit(request("b", prompt=60, output=1))

    step = engine.start_step(0.0)

    assert step is not None
    assert step.admitted == admitted


def test_an_abort_frees_the_blocks_at_once_even_in_a_step() -> None:
    engine = Engine(small(caches_prefixes=False), UNIT)
    engine.submit(request("a", prompt=8, output=8))
    engine.submit(request("b", prompt=8, output=8))
    engine.start_step(0.0)

    was_there = engine.abort("a")
    result = engine.finish_step()

    assert was_there
    assert [token.request_id for token in result.tokens] == ["b"]
    assert (engine.outstanding_requests, engine.kv_usage_ratio) == (1, 2 / 32)


def test_a_waiting_request_can_be_aborted_and_an_unknown_one_is_none() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("a", prompt=8, output=8))

    assert engine.abort("a")
    assert not engine.abort("a")
    assert engine.start_step(0.0) is None


@pytest.mark.parametrize(("prompt", "fits"), [(62, True), (63, True), (64, False)])
def test_what_exceeds_the_context_is_refused(prompt: int, fits: bool) -> None:
    engine = Engine(small(), UNIT)
    if fits:
        engine.submit(request("a", prompt=prompt, output=1))
        assert "a" in drain(engine)
    else:
        with pytest.raises(RequestTooLongError, match="request a has 64"):
            engine.submit(request("a", prompt=prompt, output=1))


def test_an_id_that_is_on_its_way_is_refused() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("a", prompt=1, output=1))

    with pytest.raises(ValueError, match="request a is on its way"):
        engine.submit(request("a", prompt=1, output=1))


@pytest.mark.parametrize(("prompt", "output"), [(0, 1), (1, 0), (-1, 1)])
def test_a_request_without_tokens_is_refused(prompt: int, output: int) -> None:
    with pytest.raises(ValueError, match="request a"):
        request("a", prompt, output)


def test_steps_alternate() -> None:
    engine = Engine(small(), UNIT)
    engine.submit(request("a", prompt=1, output=2))

    with pytest.raises(RuntimeError, match="no step"):
        engine.finish_step()
    engine.start_step(0.0)
    with pytest.raises(RuntimeError, match="must be finished"):
        engine.start_step(0.0)
