"""The load generator: sends when due, and calls lost whatever did not end with exactly its tokens."""

import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from metrics.clock import WallClock
from simulations.cluster.loadgen import CompletionStream, LoadGenerator, Outcome, RequestRecord, lost_by_reason
from simulations.trace import Arrival

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[tuple[str, int]]]


def event(text: str = "x", finish: str | None = None, tokens: int | None = None) -> bytes:
    body: dict[str, object] = {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}
    if tokens is not None:
        body = {"choices": [], "usage": {"completion_tokens": tokens}}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = event(tokens=3)
WHOLE = [event(), event(), event(finish="length"), USAGE, DONE]


@pytest.mark.parametrize(
    ("stream", "outcome"),
    [
        pytest.param(WHOLE, Outcome.SERVED, id="whole"),
        pytest.param([b": ping\n", b"\n", *WHOLE], Outcome.SERVED, id="comments between"),
        pytest.param(WHOLE[:-1], Outcome.TRUNCATED, id="no end mark"),
        pytest.param(WHOLE[:2], Outcome.TRUNCATED, id="broken off"),
        pytest.param([], Outcome.TRUNCATED, id="empty 200"),
        pytest.param([event(), event(finish="abort"), event(tokens=2), DONE], Outcome.ABORTED, id="aborted"),
        pytest.param([event(finish="length"), event(tokens=2), DONE], Outcome.TRUNCATED, id="too few"),
        pytest.param([event(finish="length"), event(tokens=4), DONE], Outcome.TRUNCATED, id="too many"),
        pytest.param([event(finish="stop"), USAGE, DONE], Outcome.TRUNCATED, id="stopped early"),
        pytest.param([b'data: {"error": {"message": "full", "code": 503}}\n', DONE], Outcome.HTTP_ERROR, id="error"),
    ],
)
def test_only_a_whole_answer_counts_as_served(stream: list[bytes], outcome: Outcome) -> None:
    seen = CompletionStream()

    for line in b"".join(stream).splitlines(keepends=True):
        seen.feed(line, 1.0)

    assert seen.verdict(3)[0] is outcome


def test_the_first_token_is_the_first_event_with_a_choice() -> None:
    seen = CompletionStream()

    seen.feed(b": connected\n", 1.0)
    seen.feed(event(), 2.0)
    seen.feed(event(), 3.0)

    assert seen.first_token_s == 2.0


async def generated(serve: Serve, handler: Handler, arrivals: list[Arrival]) -> list[RequestRecord]:
    host, port = await serve(handler)
    return await LoadGenerator(f"http://{host}:{port}", "llm", WallClock()).run(arrivals)


async def test_each_request_asks_for_its_exact_lengths_and_is_recorded(serve: Serve) -> None:
    asked = []

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
        tokens = body["max_tokens"]
        return web.Response(body=event() + event(finish="length") + event(tokens=tokens) + DONE)

    arrivals = [Arrival(at_s=at_s, prompt_tokens=7, output_tokens=5) for at_s in (0.0, 0.0, 0.02)]

    records = await generated(serve, handle, arrivals)

    assert [record.outcome for record in records] == [Outcome.SERVED] * 3
    assert [record.received_tokens for record in records] == [5] * 3
    assert all(record.sent_s >= record.scheduled_s for record in records)
    assert all(record.ttft_s is not None and 0 <= record.ttft_s <= record.end_s for record in records)
    assert {(len(body["prompt"]), body["max_tokens"], body["stream"], body["ignore_eos"]) for body in asked} == {
        (7, 5, True, True)
    }
    assert len({body["prompt"][0] for body in asked}) > 1  # no shared prefix


async def fails(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="busy")


async def breaks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(event())
    assert request.transport is not None
    request.transport.close()
    return response


async def babbles(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"data: {nonsense\n")


@pytest.mark.parametrize(
    ("handler", "outcome", "detail"),
    [
        pytest.param(fails, Outcome.HTTP_ERROR, "HTTP 503 busy", id="http error"),
        pytest.param(breaks, Outcome.CONNECTION, "Payload", id="broken stream"),
        pytest.param(babbles, Outcome.CONNECTION, "JSONDecodeError", id="not json"),
    ],
)
async def test_a_lost_request_keeps_its_reason(serve: Serve, handler: Handler, outcome: Outcome, detail: str) -> None:
    [record] = await generated(serve, handler, [Arrival(at_s=0.0, prompt_tokens=1, output_tokens=3)])

    assert record.outcome is outcome
    assert detail in record.detail
    assert lost_by_reason([record]) == {outcome.value: 1}


async def test_a_server_that_is_not_there_loses_requests_not_the_generator(unused_tcp_port: int) -> None:
    generator = LoadGenerator(f"http://127.0.0.1:{unused_tcp_port}", "llm", WallClock())

    [record] = await generator.run([Arrival(at_s=0.0, prompt_tokens=1, output_tokens=3)])

    assert record.outcome is Outcome.CONNECTION
    assert generator.outstanding == 0


async def test_each_user_has_one_request_on_its_way_and_the_next_one_when_it_was_answered(serve: Serve) -> None:
    together: list[int] = []

    async def answer(_: web.Request) -> web.StreamResponse:
        together.append(load.outstanding)
        return web.Response(body=b"".join(WHOLE))

    host, port = await serve(answer)
    load = LoadGenerator(f"http://{host}:{port}", "m", WallClock())

    records = await load.converse(
        lambda: 3 if len(together) < 12 else 0, lambda at_s: Arrival(at_s=at_s, prompt_tokens=2, output_tokens=3)
    )

    assert {record.outcome for record in records} == {Outcome.SERVED}
    assert len(records) == load.sent == len(together) >= 12
    assert 1 <= max(together) <= 3
