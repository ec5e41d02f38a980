"""SIGTERM as a 0.32 server treats it, SIGKILL, and stops during the start-up."""

import asyncio
from typing import Any

import aiohttp
import pytest

from simulations.cluster.vllm import ServerOptions, VLLMEmulator
from simulations.replica import StepTimes

TWO_MILLISECOND_STEPS = StepTimes(base_s=2e-3, prefill_token_s=0, decode_sequence_s=0, kv_token_s=0)
LONG = {"prompt": [7] * 10, "max_tokens": 1900, "ignore_eos": True, "stream": True}


async def test_by_default_the_unfinished_ends_with_200_and_abort_and_the_socket_closes(
    serve: Any, client: Any, events: Any
) -> None:
    server = await serve(stream_interval_tokens=8)
    url = server.url

    async with client.post(f"{url}/v1/completions", json=LONG) as response:
        first = await response.content.readuntil(b"\n\n")
        await server.terminate(grace_s=30.0)
        rest = await response.text()

    sent = events(first.decode() + rest)
    assert response.status == 200
    assert sent[-1]["choices"][0]["finish_reason"] == "abort"
    assert server.exited.is_set()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(f"{url}/health")


async def test_an_unstreamed_answer_that_is_cut_says_abort_too(
    serve: Any, client: Any, until: Any, frozen: Any
) -> None:
    server = await serve(tracks_load=True, step_times=frozen)

    async def it_is_in() -> bool:
        async with client.get(f"{server.url}/load") as response:
            return (await response.json()) == {"server_load": 1}

    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(client.post(f"{server.url}/v1/completions", json={"prompt": "x"}))
        await until(it_is_in)
        await server.terminate(grace_s=30.0)
    answer = await asked.result().json()

    assert (asked.result().status, answer["choices"][0]["finish_reason"]) == (200, "abort")
    assert answer["usage"]["completion_tokens"] == 0


async def test_with_a_shutdown_timeout_what_was_admitted_completes_and_health_cannot_tell(
    serve: Any, client: Any, events: Any
) -> None:
    server = await serve(shutdown_timeout_s=20.0, step_times=TWO_MILLISECOND_STEPS)
    body = LONG | {"max_tokens": 700}
    # The headers of a stream come when it was admitted; four of these wait, because eight run at most.
    admitted = [await client.post(f"{server.url}/v1/completions", json=body) for _ in range(12)]

    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(server.terminate(grace_s=30.0))
        await asyncio.sleep(0)
        async with client.post(f"{server.url}/v1/completions", json={"prompt": "x"}) as late:
            error = (await late.json())["error"]
        statuses = []
        for path in ("/health", "/metrics"):
            async with client.get(f"{server.url}{path}") as response:
                statuses.append(response.status)
        answers = [events(await response.text()) for response in admitted]
        await stopping

    assert (late.status, error["message"]) == (500, "cannot schedule new futures after shutdown")
    assert statuses == [200, 200]
    assert [answer[-1]["choices"][0]["finish_reason"] for answer in answers] == ["length"] * 12
    assert server.exited.is_set()


@pytest.mark.parametrize("usage", [False, True], ids=["without usage", "with usage"])
async def test_token_ids_that_come_while_it_drains_get_200_and_no_token(
    serve: Any, client: Any, events: Any, usage: bool
) -> None:
    server = await serve(shutdown_timeout_s=20.0, step_times=TWO_MILLISECOND_STEPS)
    url = f"{server.url}/v1/completions"
    late = {"prompt": [5, 6, 7], "max_tokens": 2}
    admitted = await client.post(url, json=LONG | {"max_tokens": 300})

    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(server.terminate(grace_s=30.0))
        await asyncio.sleep(0)
        async with client.post(url, json=late) as response:
            status, whole = response.status, await response.json()
        streamed = late | {"stream": True, "stream_options": {"include_usage": usage}}
        async with client.post(url, json=streamed) as response:
            stream = events(await response.text())
        await admitted.text()
        await stopping

    assert (status, whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == (200, "abort", 0)
    assert response.status == 200
    assert [event["choices"] for event in stream] == ([[]] if usage else [])


async def test_when_the_shutdown_timeout_is_over_the_rest_ends_without_a_token(
    serve: Any, client: Any, until: Any, frozen: Any, events: Any
) -> None:
    server = await serve(shutdown_timeout_s=0.05, step_times=frozen)

    async def is_admitted() -> bool:
        return stream.done()  # the headers of a stream come when it was

    async with asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(client.post(f"{server.url}/v1/completions", json=LONG))
        await until(is_admitted)
        await server.terminate(grace_s=30.0)
    text = await stream.result().text()

    assert events(text) == []  # a real server says nothing of a choice that has no token yet
    assert server.exited.is_set()


async def test_when_the_grace_is_over_before_that_connections_are_reset(serve: Any, client: Any, frozen: Any) -> None:
    server = await serve(shutdown_timeout_s=600.0, step_times=frozen)

    async with client.post(f"{server.url}/v1/completions", json=LONG) as response:
        await server.terminate(grace_s=0.05)
        with pytest.raises(aiohttp.ClientError):
            await response.read()

    assert server.exited.is_set()


async def test_a_kill_resets_connections_and_frees_the_port(serve: Any, client: Any) -> None:
    server = await serve()
    url = server.url

    async with client.post(f"{url}/v1/completions", json=LONG) as response:
        await response.content.readline()
        await server.kill()
        with pytest.raises(aiohttp.ClientError):
            await response.read()

    assert server.exited.is_set()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(f"{url}/health")


async def test_a_server_that_is_stopped_while_it_starts_never_listens() -> None:
    async with asyncio.TaskGroup() as tasks:
        server = VLLMEmulator(ServerOptions(startup_s=0.05), tasks)
        starting = tasks.create_task(server.start("127.0.0.1", 0))
        await asyncio.sleep(0)
        await server.terminate(grace_s=1.0)
        await starting

    assert server.exited.is_set()
    with pytest.raises(RuntimeError, match="does not listen"):
        _ = server.address


async def test_stopping_twice_is_stopping_once(serve: Any) -> None:
    server = await serve()

    await server.terminate(grace_s=1.0)
    await server.terminate(grace_s=1.0)
    await server.kill()

    assert server.exited.is_set()
