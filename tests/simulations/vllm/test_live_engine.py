"""The engine in (virtual) real time: exactly the pure engine's times, and idle when there is nothing to do."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.clock import ManualClock
from simulations.cluster.vllm.errors import RefusedError
from simulations.cluster.vllm.live_engine import Delivery, Job, LiveEngine
from simulations.cluster.vllm.options import ServerOptions
from simulations.replica import LLAMA_8B_H100, Engine, EngineConfig, Request

CONFIG = EngineConfig(max_num_seqs=4, max_num_batched_tokens=64, num_gpu_blocks=80, max_model_len_tokens=512)
OPTIONS = ServerOptions(engine=CONFIG, step_times=LLAMA_8B_H100)


def job(request: Request, deliveries: "asyncio.Queue[Delivery]", interval_tokens: int = 1) -> Job:
    return Job(
        request=request,
        choice=int(request.id),
        finish_reason="length",
        max_tokens=request.output_tokens,
        copies=1,
        interval_tokens=interval_tokens,
        deliveries=deliveries,
    )


async def run_live(requests: list[Request]) -> tuple[LiveEngine, ManualClock, dict[int, int]]:
    """Serve requests that are all there at time 0, until each has ended."""
    clock = ManualClock()
    live = LiveEngine(OPTIONS, clock)
    deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
    tokens = dict.fromkeys(range(len(requests)), 0)
    async with asyncio.TaskGroup() as tasks:
        driver = tasks.create_task(live.run())
        for request in requests:
            live.submit(job(request, deliveries))
        open_requests = len(requests)
        while open_requests:
            delivery = await deliveries.get()
            tokens[delivery.choice] += delivery.tokens
            open_requests -= delivery.finish_reason is not None
        driver.cancel()
    return live, clock, tokens


def pure_end_s(requests: list[Request]) -> float:
    engine, now_s = Engine(CONFIG, LLAMA_8B_H100), 0.0
    for request in requests:
        engine.submit(request)
    while engine.start_step(now_s) is not None:
        now_s = engine.finish_step().ended_at_s
    return now_s


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 100)), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_clock_stands_where_the_pure_engine_ends(lengths: list[tuple[int, int]]) -> None:
    requests = [Request(id=str(n), prompt_tokens=p, output_tokens=o) for n, (p, o) in enumerate(lengths)]

    live, clock, tokens = asyncio.run(run_live(requests))

    assert abs(clock.now_s() - pure_end_s(requests)) < 1e-9
    assert tokens == {number: output for number, (_, output) in enumerate(lengths)}
    assert live.stats.scalars["generation_tokens"] == [sum(output for _, output in lengths)]
    assert live.load == {"num_requests_running": 0, "num_requests_waiting": 0, "kv_cache_usage_perc": 0}


async def test_a_driver_that_wakes_late_catches_up_to_the_moment() -> None:
    clock = ManualClock()
    live = LiveEngine(OPTIONS, clock)
    deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
    request = Request(id="0", prompt_tokens=10, output_tokens=50)
    end_s = pure_end_s([request])

    async with asyncio.TaskGroup() as tasks:
        live.submit(job(request, deliveries, interval_tokens=0))
        clock.advance(end_s * 3)  # the machine was busy with something else for all of that time
        driver = tasks.create_task(live.run())
        delivery = await deliveries.get()
        driver.cancel()

    assert delivery == (0, 50, "length")
    assert clock.now_s() == end_s * 3  # nothing was slept
    e2e = live.stats.histograms["e2e_request_latency_seconds"]
    assert abs(e2e.sum - end_s) < 1e-9  # and the engine's own times are as if it had been on time


async def test_an_idle_engine_sleeps_without_a_timer() -> None:
    clock = ManualClock()
    live = LiveEngine(OPTIONS, clock)

    async with asyncio.TaskGroup() as tasks:
        driver = tasks.create_task(live.run())
        for _ in range(10):
            await asyncio.sleep(0)
        driver.cancel()

    assert clock.now_s() == 0.0


async def test_the_limit_of_queued_tokens_counts_prompts_without_a_first_token() -> None:
    live = LiveEngine(ServerOptions(engine=CONFIG, max_num_queued_tokens=100), ManualClock())
    deliveries: asyncio.Queue[Delivery] = asyncio.Queue()

    async with asyncio.TaskGroup() as tasks:
        live.submit(job(Request(id="0", prompt_tokens=99, output_tokens=300), deliveries))
        live.check_limits(1)
        live.submit(job(Request(id="1", prompt_tokens=1, output_tokens=300), deliveries))
        with pytest.raises(RefusedError) as refused:
            live.check_limits(1)
        driver = tasks.create_task(live.run())
        for _ in range(2):
            await deliveries.get()  # both have their first tokens
        live.check_limits(1)
        driver.cancel()

    assert refused.value.status == 503
    assert live.stats.scalars["admission_rejections"] == [0, 1]


async def test_aborting_everything_tells_everyone() -> None:
    live = LiveEngine(OPTIONS, ManualClock())
    deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
    for number in range(3):
        live.submit(job(Request(id=str(number), prompt_tokens=1, output_tokens=1), deliveries))

    live.abort_all()
    live.abort("0")  # it has ended: nothing to tell

    assert [deliveries.get_nowait() for _ in range(3)] == [(number, 0, "abort") for number in range(3)]
    assert deliveries.empty()
    assert live.jobs == 0
    assert live.stats.scalars["request_success"] == [0, 0, 3, 0, 0]
