"""SIGTERM to a real server, as the drain of our manifests relies on it."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import aiohttp

from metrics.catalog import read_sample
from metrics.clock import WallClock
from simulations.cluster.loadgen import LoadGenerator, Outcome, RequestRecord
from simulations.cluster.real_vllm import SERVED_NAME
from simulations.trace import Arrival

REQUESTS = 8  # four run, four wait
GRACE_S = 40.0  # more than the drain of 30 s
ARRIVALS = [Arrival(at_s=0.0, prompt_tokens=100, output_tokens=1000)] * REQUESTS

Start = Callable[[list[str]], AbstractContextManager[Any]]


async def all_are_on_the_server(session: aiohttp.ClientSession, url: str) -> None:
    """Half of them run and have tokens, half of them wait."""
    async with asyncio.timeout(30):
        while True:
            async with session.get(f"{url}/metrics") as response:
                sample = read_sample(await response.read(), observed_at_s=0.0)
            here = (sample.running_requests or 0) + (sample.waiting_requests or 0)
            if here == REQUESTS and (sample.generation_tokens_total or 0) > 100:
                return


async def status_of(session: aiohttp.ClientSession, url: str) -> int | None:
    try:
        async with session.get(url) as response:
            return response.status
    except aiohttp.ClientError:
        return None


async def late_request(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    body = {"model": SERVED_NAME, "prompt": [5, 6, 7], "max_tokens": 2}
    async with session.post(f"{url}/v1/completions", json=body) as response:
        return response.status, await response.read()


async def told_to_go(server: Any) -> tuple[list[RequestRecord], dict[str, Any]]:
    """Eight requests, SIGTERM to the server while all are on it, and what was seen after that."""
    seen: dict[str, Any] = {}
    load = LoadGenerator(server.url, SERVED_NAME, WallClock(), seed=5)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        run = group.create_task(load.run(ARRIVALS))
        await all_are_on_the_server(session, server.url)
        server.process.terminate()  # the first process alone, as a kubelet does
        await asyncio.sleep(0.5)  # it has had time to hear; a drain takes seconds
        seen["ended"] = len(load.records)
        for path in ("health", "metrics"):
            seen[path] = await status_of(session, f"{server.url}/{path}")
        if seen["health"] == 200:
            seen["late"] = await late_request(session, server.url)
        await asyncio.wait([run], timeout=GRACE_S)
        seen["hung"] = load.outstanding
        if not run.done():
            os.killpg(server.process.pid, signal.SIGKILL)  # the end of a pod's grace
        records = await run
    seen["exit"] = await asyncio.to_thread(server.process.wait, 30)
    return records, seen


async def test_with_a_shutdown_timeout_everything_admitted_completes(serving: Start, flags: list[str]) -> None:
    with serving(flags) as server:
        records, seen = await told_to_go(server)

    print(seen, [(r.outcome, r.detail, round(r.end_s, 2)) for r in records])
    assert [record.outcome for record in records] == [Outcome.SERVED] * REQUESTS
    assert seen["ended"] < REQUESTS
    assert seen["exit"] == 0
    assert (seen["health"], seen["metrics"]) == (200, 200)  # neither tells a server that drains from one that serves
    status, answer = seen["late"]
    assert status == 200  # and yet no answer: whoever routes must not send any more before the SIGTERM
    assert json.loads(answer)["choices"][0]["finish_reason"] == "abort"
    assert json.loads(answer)["usage"]["completion_tokens"] == 0


async def test_without_one_no_answer_under_way_is_completed(serving: Start, flags: list[str]) -> None:
    with serving([flag for flag in flags if not flag.startswith("--shutdown-timeout")]) as server:
        records, seen = await told_to_go(server)

    print(seen, [(r.outcome, r.detail, round(r.end_s, 2)) for r in records])
    assert seen["health"] is None
    # Those that ran say that they were aborted, those that queued just end, and now and then 0.32 lets all of them hang
    # until it is killed, or its engine is gone before its front and each stream ends with an error event that says so:
    # whichever it is, nobody gets a whole answer.
    told = [record for record in records if record.outcome is Outcome.HTTP_ERROR]
    assert all("EngineCore" in record.detail for record in told)
    ends = Counter(record.outcome for record in records)
    assert ends.keys() <= {Outcome.ABORTED, Outcome.TRUNCATED, Outcome.CONNECTION, Outcome.HTTP_ERROR}
    assert ends.total() == REQUESTS
