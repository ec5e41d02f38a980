"""Completions as OpenAI clients ask for them: lengths, chunks, usage, and errors in vLLM's form."""

import asyncio
from typing import Any

import pytest

PROMPT = [7] * 100


async def test_an_answer_has_as_many_tokens_as_asked_for(serve: Any, client: Any) -> None:
    server = await serve()

    body = {"prompt": PROMPT, "max_tokens": 12, "ignore_eos": True}
    async with client.post(f"{server.url}/v1/completions", json=body) as response:
        answer = await response.json()

    assert response.status == 200
    assert answer["object"] == "text_completion"
    assert answer["usage"] == {"prompt_tokens": 100, "total_tokens": 112, "completion_tokens": 12}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["text"].split()) == 12


async def test_without_ignore_eos_the_model_ends_by_itself(serve: Any, client: Any) -> None:
    server = await serve(answer_tokens=5)

    body = {"messages": [{"role": "user", "content": "How high is the tide?"}], "max_tokens": 50}
    async with client.post(f"{server.url}/v1/chat/completions", json=body) as response:
        answer = await response.json()

    assert answer["object"] == "chat.completion"
    assert answer["usage"] == {"prompt_tokens": 10, "total_tokens": 15, "completion_tokens": 5}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["role"] == "assistant"


async def test_min_tokens_keeps_the_model_going(serve: Any, client: Any) -> None:
    server = await serve(answer_tokens=5)

    body = {"prompt": PROMPT, "max_tokens": 50, "min_tokens": 20}
    async with client.post(f"{server.url}/v1/completions", json=body) as response:
        answer = await response.json()

    assert answer["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize(
    ("interval", "chunks"), [(1, [1] * 10), (4, [1, 4, 4, 1]), (16, [1, 9])], ids=["each", "every 4th", "at the end"]
)
async def test_a_stream_sends_the_first_token_at_once_and_then_every_so_many(
    serve: Any, client: Any, events: Any, interval: int, chunks: list[int]
) -> None:
    server = await serve(stream_interval_tokens=interval)

    body = {"prompt": PROMPT, "max_tokens": 10, "ignore_eos": True, "stream": True, "return_token_ids": True}
    async with client.post(f"{server.url}/v1/completions", json=body) as response:
        sent = events(await response.text())

    assert [len(event["choices"][0]["token_ids"]) for event in sent] == chunks
    assert [event["choices"][0]["finish_reason"] for event in sent] == [None] * (len(chunks) - 1) + ["length"]


async def test_a_chat_stream_is_deltas_and_then_usage(serve: Any, client: Any, events: Any) -> None:
    server = await serve(stream_interval_tokens=4)

    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 6,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with client.post(f"{server.url}/v1/chat/completions", json=body) as response:
        *chunks, usage = events(await response.text())

    assert {event["object"] for event in [*chunks, usage]} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert len("".join(event["choices"][0]["delta"]["content"] for event in chunks).split()) == 6
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6


async def test_several_prompts_and_copies_are_choices_of_one_answer(serve: Any, client: Any, events: Any) -> None:
    server = await serve()

    body = {"prompt": [PROMPT, PROMPT[:50]], "n": 2, "max_tokens": 3, "ignore_eos": True}
    async with client.post(f"{server.url}/v1/completions", json=body) as response:
        whole = await response.json()
    async with client.post(f"{server.url}/v1/completions", json=body | {"stream": True}) as response:
        streamed = events(await response.text())

    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert whole["usage"]["completion_tokens"] == 12
    ends = sorted(event["choices"][0]["index"] for event in streamed if event["choices"][0]["finish_reason"])
    assert ends == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("body", "status", "kind", "named"),
    [
        pytest.param({"prompt": [1] * 2040}, 400, "BadRequestError", "maximum context length is 2048", id="too long"),
        pytest.param({"prompt": "x", "model": "other"}, 404, "NotFoundError", "`other`", id="unknown model"),
        pytest.param({"prompt": [-1]}, 400, "BadRequestError", "no token id", id="negative token"),
        pytest.param({"prompt": ["a", 5]}, 400, "BadRequestError", "token ids", id="mixed prompts"),
        pytest.param({}, 400, "BadRequestError", "prompt must be", id="no prompt"),
        pytest.param({"prompt": "x", "max_tokens": 0}, 400, "BadRequestError", "max_tokens", id="no tokens"),
        pytest.param({"prompt": "x", "n": True}, 400, "BadRequestError", "n must be", id="n is no number"),
        pytest.param({"prompt": "x", "n": 1000}, 400, "BadRequestError", "256 choices", id="too many choices"),
        pytest.param({"prompt": "x", "min_tokens": 20}, 400, "BadRequestError", "min_tokens is 20", id="min over max"),
        pytest.param({"prompt": "x", "stream": "yes"}, 400, "BadRequestError", "stream", id="stream is a text"),
        pytest.param([1], 400, "BadRequestError", "JSON object", id="a list"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_in_openais_form(
    serve: Any, client: Any, body: Any, status: int, kind: str, named: str
) -> None:
    server = await serve()

    async with client.post(f"{server.url}/v1/completions", json=body) as response:
        error = (await response.json())["error"]

    assert (response.status, error["code"], error["type"]) == (status, status, kind)
    assert named in error["message"]


async def test_a_body_that_is_no_json_is_refused(serve: Any, client: Any) -> None:
    server = await serve()

    async with client.post(f"{server.url}/v1/completions", data=b"\xff{") as response:
        error = (await response.json())["error"]

    assert (response.status, error["type"]) == (400, "BadRequestError")


async def test_paths_that_tools_ask_for(serve: Any, client: Any) -> None:
    server = await serve(model_name="tide")
    answers = {}

    for path in ("/health", "/version", "/load", "/v1/models", "/nowhere", "/v1/completions"):
        async with client.get(f"{server.url}{path}") as response:
            answers[path] = (response.status, await response.text())

    assert answers["/health"] == (200, "")
    assert answers["/version"] == (200, '{"version": "0.32.0"}')
    assert answers["/load"] == (200, '{"server_load": 0}')
    assert '"id": "tide"' in answers["/v1/models"][1]
    assert answers["/nowhere"] == (404, '{"detail": "Not Found"}')
    assert answers["/v1/completions"][0] == 405


async def test_load_counts_requests_in_flight_where_tracking_is_on(
    serve: Any, client: Any, until: Any, frozen: Any
) -> None:
    server = await serve(tracks_load=True, step_times=frozen)

    async def load() -> int:
        async with client.get(f"{server.url}/load") as response:
            return int((await response.json())["server_load"])

    async def three_are_there() -> bool:
        return await load() == 3

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(client.post(f"{server.url}/v1/completions", json={"prompt": "x"}))
        await until(three_are_there)
        await server.terminate(grace_s=0.0)


async def test_over_the_queue_limit_requests_are_refused_and_counted(
    serve: Any, client: Any, until: Any, frozen: Any
) -> None:
    server = await serve(max_num_queued_reqs=2, tracks_load=True, step_times=frozen)

    async def both_are_in() -> bool:
        async with client.get(f"{server.url}/load") as response:
            return (await response.json()) == {"server_load": 2}

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(client.post(f"{server.url}/v1/completions", json={"prompt": "x"}))
        await until(both_are_in)
        async with client.post(f"{server.url}/v1/completions", json={"prompt": "x"}) as refused:
            error = (await refused.json())["error"]
        async with client.get(f"{server.url}/metrics") as response:
            page = await response.text()
        await server.terminate(grace_s=0.0)

    assert (refused.status, error["code"]) == (503, 503)
    assert 'vllm:admission_rejections_total{model_name="m",reason="max_num_queued_reqs"} 1.0' in page


async def test_over_the_limit_of_queued_tokens_requests_are_refused(
    serve: Any, client: Any, until: Any, frozen: Any
) -> None:
    server = await serve(max_num_queued_tokens=100, tracks_load=True, step_times=frozen)

    async def it_is_in() -> bool:
        async with client.get(f"{server.url}/load") as response:
            return (await response.json()) == {"server_load": 1}

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.post(f"{server.url}/v1/completions", json={"prompt": PROMPT}))
        await until(it_is_in)
        async with client.post(f"{server.url}/v1/completions", json={"prompt": "x"}) as refused:
            await refused.read()
        await server.terminate(grace_s=0.0)

    assert refused.status == 503


async def test_a_client_that_leaves_frees_its_place(
    serve: Any, client: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    body = {"prompt": PROMPT, "max_tokens": 1900, "ignore_eos": True, "stream": True}

    async with client.post(f"{server.url}/v1/completions", json=body) as response:
        await response.content.readline()
        response.close()

    async def it_left_the_batch() -> bool:
        async with client.get(f"{server.url}/metrics") as metrics:
            page = await metrics.text()
        gone = 'vllm:num_requests_running{engine="0",model_name="m"} 0.0' in page
        return gone and 'vllm:prompt_tokens_total{engine="0",model_name="m"} 0.0' not in page

    await until(it_left_the_batch)
    async with client.get(f"{server.url}/metrics") as metrics:
        assert 'finished_reason="abort",model_name="m"} 0.0' in await metrics.text()  # as the real server: not counted
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []  # it is nobody's fault


async def test_the_load_header_comes_where_it_is_asked_for(serve: Any, client: Any) -> None:
    server = await serve()

    async with client.post(
        f"{server.url}/v1/completions", json={"prompt": "x"}, headers={"endpoint-load-metrics-format": "json"}
    ) as asked:
        await asked.read()
    async with client.post(f"{server.url}/v1/completions", json={"prompt": "x"}) as not_asked:
        await not_asked.read()

    assert asked.headers["endpoint-load-metrics"].startswith('JSON {"named_metrics": {"num_requests_running"')
    assert "endpoint-load-metrics" not in not_asked.headers
