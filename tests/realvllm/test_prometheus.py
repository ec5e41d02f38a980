"""A real Prometheus that scrapes a real vLLM and emulated ones: both spellings, stored side by side, are read back."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from metrics.catalog import read_sample
from metrics.clock import WallClock
from metrics.prometheus import History, HistoryConfig, demand_query
from simulations.cluster.loadgen import LoadGenerator, Outcome
from simulations.cluster.real_prometheus import is_installed, prometheus, scraping
from simulations.cluster.real_vllm import SERVED_NAME
from simulations.cluster.vllm import ServerOptions, serving
from simulations.replica import EngineConfig, StepTimes
from simulations.trace import Arrival

TOKENS_REGEX = '{__name__=~"vllm[:_](prompt|generation)_tokens_total"}'
STEPS = StepTimes(base_s=2e-3, prefill_token_s=1e-6, decode_sequence_s=1e-6, kv_token_s=1e-9)

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="no prometheus and promtool on PATH (Debian package: prometheus)"
)


async def test_both_spellings_are_stored_and_read_back(server: Any, limits: EngineConfig, tmp_path: Path) -> None:
    clock = WallClock()
    options = ServerOptions(model_name=SERVED_NAME, engine=limits, step_times=STEPS)
    async with serving(options) as emulator:
        # vLLM answers /metrics in plain text whatever is asked for; what is mounted behind /metrics/ negotiates.
        paths = {"plain": f"{server.url}/metrics", "negotiated": f"{server.url}/metrics/"}
        paths["emulated"] = f"{emulator.url}/metrics"
        targets = {f"{pod}-a-b": url.removeprefix("http://") for pod, url in paths.items()}
        async with prometheus(tmp_path, clock, config=scraping(targets)) as url:
            history = History(HistoryConfig(url=url))
            await stored(history, clock, series=6)
            began_s = clock.now_s()
            arrivals = [Arrival(at_s=0.3 * i, prompt_tokens=200, output_tokens=50) for i in range(20)]
            loads = [LoadGenerator(one, SERVED_NAME, clock, seed=9) for one in (server.url, emulator.url)]
            async with asyncio.TaskGroup() as group:
                runs = [group.create_task(load.run(arrivals)) for load in loads]
            await clock.sleep(1.0)  # two scrapes more
            ended_s = clock.now_s()
            names = await stored(history, clock, series=6)
            demand = {pod: await demand_of(history, pod, began_s, ended_s) for pod in paths}
            pages = {pod: await federated(url, pod) for pod in targets}
            live = await page_of(server.url)

    assert {record.outcome for run in runs for record in run.result()} == {Outcome.SERVED}
    assert {name for pod, name in names if pod == "negotiated-a-b"} == {
        "vllm_prompt_tokens_total",
        "vllm_generation_tokens_total",
    }
    for pod in ("plain-a-b", "emulated-a-b"):
        assert {name for one, name in names if one == pod} == {
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
        }
    sent_tokens = sum(arrival.prompt_tokens + arrival.output_tokens for arrival in arrivals)
    for tokens in demand.values():
        assert tokens == pytest.approx(sent_tokens, rel=0.1)  # `rate` extrapolates to its window's borders
    sample = read_sample(live, observed_at_s=0.0)
    again = {pod: read_sample(page, observed_at_s=0.0) for pod, page in pages.items()}
    assert again["negotiated-a-b"] == again["plain-a-b"] == sample
    assert again["emulated-a-b"].prompt_tokens_total == 20 * 200


async def stored(history: History, clock: WallClock, *, series: int) -> set[tuple[str, str]]:
    """(pod, name) of the token counters, once so many are there."""
    async with asyncio.timeout(30):
        while True:
            now_s = clock.now_s()
            result = await history.query_range(TOKENS_REGEX, start_s=now_s - 5, end_s=now_s, step_s=1)
            labels = [dict(one.labels) for one in result.series]
            if len(labels) == series:
                return {(one["pod"], one["__name__"]) for one in labels}
            await clock.sleep(0.2)


async def demand_of(history: History, pod: str, began_s: float, ended_s: float) -> float:
    """Tokens of a whole run, as the query of the back-fill sees them."""
    window_s = ended_s - began_s
    query = demand_query("ns", f"{pod}-[a-z0-9]+-[a-z0-9]+", window_s=window_s)
    result = await history.query_range(query, start_s=ended_s, end_s=ended_s, step_s=1)
    (found,) = result.series
    return found.points[-1][1] * round(window_s)


async def federated(url: str, pod: str) -> bytes:
    """A pod's series as Prometheus exposes them again."""
    match = {"match[]": f'{{pod="{pod}",__name__=~"vllm.*"}}'}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/federate", params=match) as response:
        assert response.status == 200
        return await response.read()


async def page_of(url: str) -> bytes:
    plain = {"Accept": "text/plain"}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics", headers=plain) as response:
        return await response.read()
