"""What we read from a real server's page: every field is there, right to the last digit, and moves as it should."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics.catalog import read_sample
from metrics.clock import WallClock
from metrics.sample import EngineSample, Histogram
from simulations.cluster.loadgen import LoadGenerator, Outcome
from simulations.cluster.real_vllm import SERVED_NAME
from simulations.replica import EngineConfig
from simulations.trace import Arrival

PROMPT, OUTPUT = 700, 400  # nine blocks each: four of them want 36 of the 32 there are
REQUESTS = 12


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def page_of(
    session: aiohttp.ClientSession, url: str, accept: str = "text/plain", path: str = "/metrics"
) -> bytes:
    async with session.get(f"{url}{path}", headers={"Accept": accept}) as response:
        assert response.status == 200
        return await response.read()


async def sample_of(session: aiohttp.ClientSession, url: str) -> EngineSample:
    return read_sample(await page_of(session, url), observed_at_s=0.0)


async def until(
    session: aiohttp.ClientSession, url: str, holds: Callable[[EngineSample], bool], within_s: float = 60.0
) -> EngineSample:
    """The first sample of which something holds."""
    async with asyncio.timeout(within_s):
        while not holds(sample := await sample_of(session, url)):  # noqa: ASYNC110 - it lies behind HTTP and sets no event
            await asyncio.sleep(0.05)
        return sample


def is_idle(sample: EngineSample) -> bool:
    return sample.running_requests == 0 and sample.waiting_requests == 0


def load(url: str, seed: int) -> LoadGenerator:
    return LoadGenerator(url, SERVED_NAME, WallClock(), seed=seed)


async def test_every_field_is_on_an_idle_page(
    session: aiohttp.ClientSession, server: Any, limits: EngineConfig
) -> None:
    sample = await until(session, server.url, is_idle)

    missing = [field.name for field in fields(sample) if getattr(sample, field.name) is None]
    assert missing == []
    assert sample.kv_cache_usage_ratio == 0.0
    assert sample.kv_cache_capacity_tokens == limits.num_gpu_blocks * limits.block_size_tokens
    assert sample.deferred_requests == sample.rejected_requests_total == 0.0
    assert sample.is_awake is True


async def test_gauges_show_the_load_and_counters_every_token_of_it(
    session: aiohttp.ClientSession, server: Any, limits: EngineConfig
) -> None:
    before = await until(session, server.url, is_idle)
    arrivals = [Arrival(at_s=0.0, prompt_tokens=PROMPT, output_tokens=OUTPUT)] * REQUESTS
    async with asyncio.TaskGroup() as group:
        run = group.create_task(load(server.url, seed=1).run(arrivals))
        loaded = await until(session, server.url, lambda s: (s.waiting_requests or 0) >= REQUESTS - 5)
        full = await until(session, server.url, lambda s: (s.kv_cache_usage_ratio or 0.0) > 0.8)
    after = await until(session, server.url, is_idle)

    assert {record.outcome for record in run.result()} == {Outcome.SERVED}
    for seen in (loaded, full):
        assert 0 < (seen.running_requests or 0) <= limits.max_num_seqs
        assert 0 < (seen.kv_cache_usage_ratio or 0) <= 1.0
        assert (seen.running_requests or 0) + (seen.waiting_requests or 0) <= REQUESTS
    assert after.kv_cache_usage_ratio == 0.0
    assert increase(before, after, "prompt_tokens_total") == REQUESTS * PROMPT
    assert increase(before, after, "generation_tokens_total") == REQUESTS * OUTPUT
    assert increase(before, after, "finished_requests_total") == REQUESTS
    assert increase(before, after, "aborted_requests_total") == 0
    assert increase(before, after, "preemptions_total") > 0
    assert increase(before, after, "iterations_total") > 0
    assert increase(before, after, "iteration_tokens_total") >= REQUESTS * (PROMPT + OUTPUT)
    assert observations(before, after, "ttft_s") == REQUESTS
    assert observations(before, after, "itl_s") == REQUESTS * (OUTPUT - 1)
    for name in ("queue_time_s", "e2e_s", "prompt_length_tokens", "generation_length_tokens"):
        assert observations(before, after, name) == REQUESTS, name
    assert difference(before, after, "prompt_length_tokens") == REQUESTS * PROMPT
    assert difference(before, after, "generation_length_tokens") == REQUESTS * OUTPUT
    assert difference(before, after, "e2e_s") > difference(before, after, "queue_time_s") > 0


async def test_a_prompt_seen_before_is_found_in_the_prefix_cache(
    session: aiohttp.ClientSession, server: Any, limits: EngineConfig
) -> None:
    first = await until(session, server.url, is_idle)
    await load(server.url, seed=2).run([Arrival(at_s=0.0, prompt_tokens=PROMPT, output_tokens=2)])
    before = await until(session, server.url, is_idle)
    await load(server.url, seed=2).run([Arrival(at_s=0.0, prompt_tokens=PROMPT, output_tokens=2)])
    after = await until(session, server.url, is_idle)

    cached = PROMPT // limits.block_size_tokens * limits.block_size_tokens
    assert increase(first, before, "prefix_cache_hit_tokens_total") == 0
    assert increase(before, after, "prefix_cache_queried_tokens_total") == PROMPT
    assert increase(before, after, "prefix_cache_hit_tokens_total") == cached
    assert increase(before, after, "prompt_tokens_total") == PROMPT
    assert increase(before, after, "computed_prompt_tokens_total") == PROMPT - cached


async def test_a_client_that_leaves_frees_its_place_and_is_counted_nowhere(
    session: aiohttp.ClientSession, server: Any
) -> None:
    before = await until(session, server.url, is_idle)
    body = {"model": SERVED_NAME, "prompt": [7] * 64, "max_tokens": 1900, "ignore_eos": True, "stream": True}
    async with session.post(f"{server.url}/v1/completions", json=body) as response:
        assert await response.content.readany()
        await until(session, server.url, lambda sample: sample.running_requests == 1)
        response.close()
    after = await until(session, server.url, is_idle)

    assert 0 < increase(before, after, "generation_tokens_total") < 1900
    assert increase(before, after, "aborted_requests_total") == 0
    assert increase(before, after, "finished_requests_total") == 0


@pytest.mark.parametrize(
    ("path", "accept", "spelling"),
    [
        pytest.param("/metrics", "text/plain; version=0.0.4", b"vllm:", id="as we ask"),
        pytest.param("/metrics", "application/openmetrics-text; version=1.0.0", b"vllm:", id="as Prometheus asks"),
        pytest.param("/metrics/", "application/openmetrics-text; version=1.0.0", b"vllm_", id="with a slash"),
        pytest.param(
            "/metrics/",
            "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8",
            b"vllm:",
            id="Prometheus 3",
        ),
    ],
)
async def test_both_spellings_read_the_same_and_as_prometheus_own_parser_does(
    session: aiohttp.ClientSession, server: Any, path: str, accept: str, spelling: bytes
) -> None:
    await until(session, server.url, is_idle)
    page = await page_of(session, server.url, accept, path)
    plain = await page_of(session, server.url)
    sample = read_sample(page, observed_at_s=1.0)

    assert b"\n" + spelling + b"num_requests_running{" in page
    assert sample == read_sample(plain, observed_at_s=1.0)
    theirs = values_by_name(plain.decode())
    assert sample.prompt_tokens_total == theirs["vllm:prompt_tokens_total"]
    assert sample.generation_tokens_total == theirs["vllm:generation_tokens_total"]
    assert sample.preemptions_total == theirs["vllm:num_preemptions_total"]
    assert sample.iterations_total == theirs["vllm:iteration_tokens_total_count"]
    assert sample.ttft_s is not None
    assert sample.ttft_s.count == theirs["vllm:time_to_first_token_seconds_count"]
    assert sample.ttft_s.sum == theirs["vllm:time_to_first_token_seconds_sum"]


def values_by_name(text: str) -> dict[str, float]:
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


def increase(before: EngineSample, after: EngineSample, name: str) -> float:
    return float(getattr(after, name) - getattr(before, name))


def observations(before: EngineSample, after: EngineSample, name: str) -> float:
    first, second = histogram(before, name), histogram(after, name)
    return second.count - first.count


def difference(before: EngineSample, after: EngineSample, name: str) -> float:
    return histogram(after, name).sum - histogram(before, name).sum


def histogram(sample: EngineSample, name: str) -> Histogram:
    found = getattr(sample, name)
    assert isinstance(found, Histogram)
    return found
