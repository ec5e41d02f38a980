"""The proxy: fewest outstanding first, no request lost before its first byte, breaks passed on after it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from metrics.clock import WallClock
from simulations.cluster.api import Object, Resource, WatchEvent
from simulations.cluster.proxy import Backends, Proxy, address_of, follow_pods

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[tuple[str, int]]]


def answering(word: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(text=f"{word} {request.method} {request.rel_url} {await request.text()}")

    return handle


async def empty(_: web.Request) -> web.StreamResponse:
    return web.Response()


async def shutting_down(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="cannot schedule new futures after shutdown")


async def over_at_once(_: web.Request) -> web.StreamResponse:
    return web.Response(text="data: [DONE]\n\n")


async def over_at_once_with_usage(_: web.Request) -> web.StreamResponse:
    usage = 'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"total_tokens":3,"completion_tokens":0}}'
    return web.Response(text=f"{usage}\n\ndata: [DONE]\n\n")


async def aborted_before_the_first_token(_: web.Request) -> web.StreamResponse:
    choice = '{"index":0,"text":"","finish_reason":"abort"}'
    return web.Response(text=f'{{"choices":[{choice}],"usage":{{"prompt_tokens":3,"completion_tokens":0}}}}')


async def breaks_before_the_first_byte(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def breaks_after_the_first_byte(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"data: half")
    assert request.transport is not None
    request.transport.close()
    return response


async def post(url: str, body: str = "hello") -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        return response.status, await response.text()


async def test_a_request_passes_with_method_path_query_and_body(serve: Serve) -> None:
    backends = Backends()
    backends.put("a", *await serve(answering("a")))

    async with Proxy(backends) as proxy:
        assert await post(f"{proxy.url}/v1/completions?x=1") == (200, "a POST /v1/completions?x=1 hello")


NO_ANSWER = [
    empty,
    shutting_down,
    over_at_once,
    over_at_once_with_usage,
    aborted_before_the_first_token,
    breaks_before_the_first_byte,
]


@pytest.mark.parametrize("bad", NO_ANSWER, ids=lambda bad: bad.__name__)
async def test_before_the_first_byte_another_replica_is_tried(serve: Serve, bad: Handler) -> None:
    backends = Backends()
    backends.put("bad", *await serve(bad))
    backends.put("good", *await serve(answering("good")))

    async with Proxy(backends) as proxy:
        assert (await post(f"{proxy.url}/v1"))[1].startswith("good")
        assert proxy.retried == 1


async def test_a_refused_connection_is_tried_elsewhere(serve: Serve, unused_tcp_port: int) -> None:
    backends = Backends()
    backends.put("gone", "127.0.0.1", unused_tcp_port)
    backends.put("good", *await serve(answering("good")))

    async with Proxy(backends) as proxy:
        assert (await post(proxy.url + "/v1"))[1].startswith("good")


async def test_after_the_first_byte_a_break_is_passed_on(serve: Serve) -> None:
    backends = Backends()
    backends.put("half", *await serve(breaks_after_the_first_byte))

    async with Proxy(backends) as proxy:
        with pytest.raises(aiohttp.ClientError):
            await post(proxy.url + "/v1")
        assert proxy.retried == 0


async def test_a_client_error_is_the_answer_and_not_retried(serve: Serve) -> None:
    async def too_long(_: web.Request) -> web.StreamResponse:
        return web.Response(status=400, text="too long")

    backends = Backends()
    backends.put("a", *await serve(too_long))

    async with Proxy(backends) as proxy:
        assert await post(proxy.url + "/v1") == (400, "too long")


async def test_a_request_waits_for_the_first_replica(serve: Serve) -> None:
    backends = Backends()

    async with Proxy(backends) as proxy, asyncio.TaskGroup() as group:
        asked = group.create_task(post(proxy.url + "/v1"))
        while not backends.waiting:
            await WallClock().sleep(0.001)
        backends.put("late", *await serve(answering("late")))

        assert (await asked)[1].startswith("late")


async def test_nobody_waits_for_ever() -> None:
    async with Proxy(Backends(), wait_s=0.01) as proxy:
        status, text = await post(proxy.url + "/v1")

    assert status == 503
    assert "no replica was ready within 0.01 s" in text


async def test_a_lone_replica_that_failed_is_tried_again(serve: Serve) -> None:
    answers = iter([empty, answering("second")])

    async def first_empty(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)

    backends = Backends()
    backends.put("lone", *await serve(first_empty))

    async with Proxy(backends) as proxy:
        assert (await post(proxy.url + "/v1"))[1].startswith("second")


async def test_the_replica_with_the_fewest_outstanding_is_taken_and_ties_go_round() -> None:
    backends = Backends()
    for name in ("a", "b", "c"):
        backends.put(name, "127.0.0.1", 1)
    held = []

    for _ in range(6):
        backend = await backends.take(set(), within_s=1.0)
        assert backend is not None
        busy = backend.busy()
        busy.__enter__()
        held.append((backend.name, busy))

    assert sorted(name for name, _ in held) == ["a", "a", "b", "b", "c", "c"]
    held[3][1].__exit__(None, None, None)
    freed = await backends.take(set(), within_s=1.0)
    assert freed is not None
    assert freed.name == held[3][0]


def pod(name: str = "p", *, ready: bool = True, port: int | None = 8080, **metadata: Any) -> Object:
    ports = [] if port is None else [{"containerPort": port}]
    return {
        "metadata": {"name": name, "namespace": "demo", "labels": {"app": "x"}, **metadata},
        "spec": {"containers": [{"name": "kserve-container", "ports": ports}]},
        "status": {"podIP": "127.0.0.9", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


@pytest.mark.parametrize(
    ("given", "address"),
    [
        pytest.param(pod(), ("127.0.0.9", 8080), id="ready"),
        pytest.param(pod(port=None), ("127.0.0.9", 8080), id="names no port"),
        pytest.param(pod(annotations={"prometheus.kserve.io/port": "9001"}), ("127.0.0.9", 9001), id="annotated"),
        pytest.param(pod(ready=False), None, id="starting"),
        pytest.param(pod(deletionTimestamp="2026-01-01T00:00:00Z"), None, id="terminating"),
        pytest.param({"metadata": {"name": "p"}, "spec": {"containers": []}}, None, id="new"),
    ],
)
def test_only_a_ready_pod_that_stays_has_an_address(given: Object, address: tuple[str, int] | None) -> None:
    assert address_of(given) == address


class ScriptedApi:
    """Only the watch of an ObjectApi: it says what the script says, then ends."""

    def __init__(self, *events: WatchEvent) -> None:
        self.events = events

    async def watch(self, resources: Sequence[Resource]) -> AsyncIterator[WatchEvent]:
        del resources
        for event in self.events:
            yield event


async def test_backends_follow_the_pods_of_the_service_only() -> None:
    backends = Backends()
    other = pod("other")
    other["metadata"]["labels"] = {"app": "y"}
    script = ScriptedApi(
        WatchEvent("ADDED", pod("a")),
        WatchEvent("ADDED", pod("b", ready=False)),
        WatchEvent("ADDED", pod("c")),
        WatchEvent("ADDED", pod("d")),
        WatchEvent("ADDED", other),
        WatchEvent("MODIFIED", pod("b")),
        WatchEvent("MODIFIED", pod("c", deletionTimestamp="2026-01-01T00:00:00Z")),
        WatchEvent("DELETED", pod("d")),
    )

    await follow_pods(script, backends, "demo", {"app": "x"})  # type: ignore[arg-type]  # only watch is used

    assert sorted(backend.name for backend in backends) == ["a", "b"]


async def test_requests_under_way_on_a_replica_that_goes_are_counted() -> None:
    backends = Backends()
    backends.put("a", "127.0.0.1", 1)
    taken = await backends.take(set(), within_s=1.0)
    assert taken is not None

    with taken.busy(), taken.busy():
        backends.drop("a")
        backends.drop("a")

    assert backends.left_to_drain == 2
