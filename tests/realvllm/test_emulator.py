"""The emulator beside the real server: the same page, and the same course on the same requests.

Users send the same requests in the same order, each the next when it has its answer, so that the course depends on how
the server batches, not on how fast the machine happens to be. Step times are fitted to the real server just before and
just after its run, read by the same sampler; the duration is a ratio.
"""

import asyncio
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics.catalog import read_sample
from metrics.clock import WallClock
from metrics.sample import EngineSample, Histogram
from simulations.cluster.loadgen import LoadGenerator, Outcome
from simulations.cluster.real_vllm import SERVED_NAME
from simulations.cluster.vllm import ServerOptions, serving
from simulations.replica import EngineConfig, StepTimes
from simulations.trace import Arrival

SAMPLE_S = 0.05
REPEATS = 5  # of each calibration request: the median counts
LONG_PROMPT = 1500  # three steps of 512 tokens
# (requests ended, users until then): full, calm, fuller, calm. Closed loops: the course depends on no machine's speed.
PHASES = ((20, 8), (28, 2), (60, 12), (70, 3))
LENGTHS = ((700, 500), (300, 200), (900, 400), (600, 300), (100, 600))  # prompt and answer, 3 to 11 of the 32 blocks
# Bounds on what may differ, real ÷ emulated or the other way round.
RATIOS = {
    "generation_tokens": 1.05,
    "prompt_tokens": 1.05,
    "running_mean": 1.15,
    "waiting_mean": 1.15,
    "kv_mean_ratio": 1.15,
    "preemptions": 1.6,
    "duration_s": 1.6,  # the one thing that the load of the machine changes between calibration and run
}
DIFFERENCES = {
    "requests": 3.0,  # the last users' requests are sent or not by a moment's chance
    "waiting_peak": 2.0,
}
# How often the comparison is repeated; each turn is held against the bounds. A turn takes two minutes.
TURNS = int(os.environ.get("WARMTIDE_VLLM_TURNS", "1"))
# What a CPU server says of its cache that a GPU server, which the emulator is, says otherwise.
CPU_LABELS = {"kv_cache_memory_bytes", "num_gpu_blocks_override"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One run, seen from its metrics page."""

    requests: int
    duration_s: float
    running_mean: float
    waiting_mean: float
    waiting_peak: float
    kv_mean_ratio: float
    preemptions: float
    prompt_tokens: float
    generation_tokens: float


async def sample_of(session: aiohttp.ClientSession, url: str, at_s: float) -> EngineSample:
    async with session.get(f"{url}/metrics") as response:
        return read_sample(await response.read(), observed_at_s=at_s)


async def course_of(url: str) -> Course:
    """The users of every phase send their requests, each the next when it has its answer."""
    clock, samples = WallClock(), []
    load = LoadGenerator(url, SERVED_NAME, clock, seed=3)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        before = await sample_of(session, url, clock.now_s())
        run = group.create_task(load.converse(lambda: users_at(len(load.records)), lambda _: request(load.sent)))
        while not run.done():
            samples.append(await sample_of(session, url, clock.now_s()))
            await clock.sleep(SAMPLE_S)
        after = await sample_of(session, url, clock.now_s())
    assert {record.outcome for record in run.result()} == {Outcome.SERVED}

    def mean(name: str) -> float:
        """Over tokens made, not over seconds: a machine that is slow for a while must not weigh more."""
        steps = [
            (getattr(one, name), difference(one, two, "generation_tokens_total")) for one, two in pairwise(samples)
        ]
        return float(sum(value * tokens for value, tokens in steps) / sum(tokens for _, tokens in steps))

    return Course(
        requests=len(run.result()),
        duration_s=max(record.end_s for record in run.result()),
        running_mean=mean("running_requests"),
        waiting_mean=mean("waiting_requests"),
        waiting_peak=max(sample.waiting_requests or 0.0 for sample in samples),
        kv_mean_ratio=mean("kv_cache_usage_ratio"),
        preemptions=difference(before, after, "preemptions_total"),
        prompt_tokens=difference(before, after, "prompt_tokens_total"),
        generation_tokens=difference(before, after, "generation_tokens_total"),
    )


def users_at(ended: int) -> int:
    """Users while so many requests have ended."""
    return next((users for until, users in PHASES if ended < until), 0)


def request(number: int) -> Arrival:
    """The same lengths for the same request on both servers."""
    prompt_tokens, output_tokens = LENGTHS[number % len(LENGTHS)]
    return Arrival(at_s=0.0, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def difference(before: EngineSample, after: EngineSample, name: str) -> float:
    return float(getattr(after, name) - getattr(before, name))


async def fitted(url: str) -> StepTimes:
    """A few requests alone and four at a time, short and long: what a step costs on this machine, now."""
    decode_1 = await token_gap_s(url, together=1, prompt_tokens=10)
    decode_4 = await token_gap_s(url, together=4, prompt_tokens=10)
    decode_4_long = await token_gap_s(url, together=4, prompt_tokens=800)
    first_short, first_long = [await first_token_s(url, prompt_tokens=count) for count in (10, LONG_PROMPT)]
    sequence_s = max(0.0, (decode_4 - decode_1) / 3)
    base_s = decode_1 - sequence_s
    prefill_s = first_long - first_short - 2 * base_s
    return StepTimes(
        base_s=base_s,
        decode_sequence_s=sequence_s,
        kv_token_s=max(0.0, (decode_4_long - decode_4) / (4 * 790)),
        prefill_token_s=max(0.0, prefill_s / (LONG_PROMPT - 10)),
    )


def mean_steps(one: StepTimes, other: StepTimes) -> StepTimes:
    return StepTimes(
        **{field.name: (getattr(one, field.name) + getattr(other, field.name)) / 2 for field in fields(one)}
    )


async def token_gap_s(url: str, *, together: int, prompt_tokens: int) -> float:
    arrivals = [Arrival(at_s=0.0, prompt_tokens=prompt_tokens, output_tokens=250)] * together
    return await mean_of(url, "itl_s", arrivals)


async def first_token_s(url: str, *, prompt_tokens: int) -> float:
    one = [Arrival(at_s=0.0, prompt_tokens=prompt_tokens, output_tokens=2)]
    return sorted([await mean_of(url, "ttft_s", one, seed=100 + turn) for turn in range(REPEATS)])[REPEATS // 2]


async def mean_of(url: str, name: str, arrivals: Sequence[Arrival], seed: int = 99) -> float:
    """Mean of a histogram over what these requests added to it."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        before = histogram(await sample_of(session, url, 0.0), name)
        run = group.create_task(LoadGenerator(url, SERVED_NAME, WallClock(), seed=seed).run(arrivals))
        while not run.done():
            await sample_of(session, url, 0.0)
            await asyncio.sleep(SAMPLE_S)
        after = histogram(await sample_of(session, url, 0.0), name)
    return (after.sum - before.sum) / (after.count - before.count)


def histogram(sample: EngineSample, name: str) -> Histogram:
    found = getattr(sample, name)
    assert isinstance(found, Histogram)
    return found


async def one_turn(real_url: str, limits: EngineConfig) -> dict[str, float]:
    """Both servers through the same course, one after the other: how far apart they are, figure by figure."""
    steps = await fitted(real_url)
    real = await course_of(real_url)
    steps = mean_steps(steps, await fitted(real_url))
    async with serving(ServerOptions(model_name=SERVED_NAME, engine=limits, step_times=steps)) as emulator:
        emulated = await course_of(emulator.url)
    print(f"\n{steps}\nreal     {real}\nemulated {emulated}")
    assert real.preemptions > 0
    apart = {name: ratio(getattr(real, name), getattr(emulated, name)) for name in RATIOS}
    return apart | {name: abs(getattr(real, name) - getattr(emulated, name)) for name in DIFFERENCES}


async def test_the_same_requests_take_the_same_course(server: Any, limits: EngineConfig) -> None:
    turns = [await one_turn(server.url, limits) for _ in range(TURNS)]
    worst = {name: max(turn[name] for turn in turns) for name in turns[0]}
    for name, bound in (RATIOS | DIFFERENCES).items():
        each = [turn[name] for turn in turns]
        median, by_turn = statistics.median(each), ", ".join(f"{apart:.3g}" for apart in each)
        print(f"{name}: {median:.3g} apart in the median (bound {bound:g}), turn by turn {by_turn}")

    assert {name: apart for name, apart in worst.items() if apart > (RATIOS | DIFFERENCES)[name]} == {}


def ratio(one: float, other: float) -> float:
    """How many times the smaller the larger is."""
    return max(one, other) / max(min(one, other), 1e-9)


Shape = dict[str, tuple[str, frozenset[tuple[tuple[str, str], ...]], tuple[str, ...]]]


def shape_of(text: str) -> Shape:
    """Family → type, label sets, bucket bounds."""
    shape: Shape = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("vllm:"):
            labels = frozenset(
                tuple(sorted((name, value) for name, value in sample.labels.items() if name not in {"le", *CPU_LABELS}))
                for sample in family.samples
            )
            bounds = tuple(dict.fromkeys(sample.labels["le"] for sample in family.samples if "le" in sample.labels))
            shape[family.name] = (family.type, labels, bounds)
    return shape


async def test_both_pages_have_the_same_series_types_labels_and_buckets(server: Any, limits: EngineConfig) -> None:
    async with serving(ServerOptions(model_name=SERVED_NAME, engine=limits)) as emulator:
        pages = []
        async with aiohttp.ClientSession() as session:
            for url in (server.url, emulator.url):
                await LoadGenerator(url, SERVED_NAME, WallClock()).run(
                    [Arrival(at_s=0.0, prompt_tokens=200, output_tokens=20)]
                )
                async with session.get(f"{url}/metrics") as response:
                    pages.append(await response.text())
    real, emulated = map(shape_of, pages)

    assert emulated.keys() == real.keys()
    assert {name: shape for name, shape in emulated.items() if shape != real[name]} == {}
    assert lengths(pages[1]) == pytest.approx(lengths(pages[0]), rel=0.15)


def lengths(page: str) -> int:
    return sum(len(line) for line in page.splitlines() if "vllm:" in line)
