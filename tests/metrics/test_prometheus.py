"""The four kinds of answer, from an HTTP server that speaks Prometheus' API; and from a Prometheus, where one is."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from metrics.errors import (
    HistoryError,
    HistoryOutageError,
    HistoryQueryError,
    HistoryUnauthorizedError,
)
from metrics.prometheus import (
    ANSWER_BYTES_MAX,
    STEPS_MAX,
    History,
    HistoryConfig,
    HistoryResult,
    HistorySeries,
    InstantResult,
    demand_query,
)

START_S, END_S, STEP_S = 1_000.0, 1_120.0, 60.0


@dataclass
class Server:
    """Answers `/api/v1/query_range` as told, and keeps what it was asked."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    url: str = ""
    pause: asyncio.Event | None = None
    drips: bool = False

    def says(self, *series: dict[str, Any], **more: object) -> None:
        self.says_now("matrix", list(series), **more)

    def says_now(self, kind: str, result: object, **more: object) -> None:
        self.body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}, **more})

    async def drip(self, request: web.Request) -> web.StreamResponse:
        """Pieces that each come well within a read timeout, for ever."""
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 65_536)
                await asyncio.sleep(0.02)
        return response

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        self.authorizations.append(request.headers.get("Authorization"))
        if self.pause is not None:
            await self.pause.wait()
        if self.drips:
            return await self.drip(request)
        return web.Response(status=self.status, text=self.body, headers=self.headers, content_type="application/json")

    async def ask(self, **config: Any) -> HistoryResult:
        history = History(HistoryConfig(url=self.url, **config))
        return await history.query_range("up", start_s=START_S, end_s=END_S, step_s=STEP_S)

    async def ask_now(self, query: str = "up", **config: Any) -> InstantResult:
        return await History(HistoryConfig(url=self.url, **config)).query(query)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async for one in serving(None):
        yield one


@pytest.fixture
async def tls_server(authority: Path) -> AsyncIterator[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "pod.pem", authority / "pod.key")
    async for one in serving(context):
        one.says()
        yield one


async def serving(context: ssl.SSLContext | None) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/api/v1/query_range", server.answer)
    app.router.add_get("/api/v1/query", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


def series(*values: tuple[float, str], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [list(value) for value in values]}


# --- values ----------------------------------------------------------------------------------------------------------


async def test_data_are_series_of_finite_points(server: Server) -> None:
    server.says(series((1000, "1"), (1060, "NaN"), (1090, "+Inf"), (1120, "2.5"), service="a", zone="b"))

    result = await server.ask()

    assert result.series == (
        HistorySeries(labels=(("service", "a"), ("zone", "b")), points=((1000.0, 1.0), (1120.0, 2.5))),
    )
    assert (result.is_empty, result.is_partial) == (False, False)
    assert server.asked == [{"query": "up", "start": "1000", "end": "1120", "step": "60"}]


@pytest.mark.parametrize("found", [(), (series((1120, "NaN"), service="a"),)], ids=["no series", "nothing but NaN"])
async def test_nothing_is_a_value(server: Server, found: tuple[dict[str, Any], ...]) -> None:
    server.says(*found)

    result = await server.ask()

    assert (result.is_empty, result.is_partial) == (True, False)


async def test_warnings_make_a_part_and_infos_do_not(server: Server) -> None:
    server.says(series((1120, "1")), infos=["metric might not be a counter"])
    whole = await server.ask()
    server.says(series((1120, "1")), warnings=["a store is down"])
    part = await server.ask()

    assert (whole.is_partial, whole.infos) == (False, ("metric might not be a counter",))
    assert (part.is_partial, part.notes) == (True, ("a store is down",))


@pytest.mark.parametrize(
    ("newest_s", "is_partial"),
    [(1120, False), (END_S - 2 * STEP_S, False), (END_S - 2 * STEP_S - 1, True)],
    ids=["to the end", "two steps missing", "more than two steps missing"],
)
async def test_a_missing_tail_makes_a_part(server: Server, newest_s: float, *, is_partial: bool) -> None:
    server.says(series((newest_s, "1")))

    result = await server.ask()

    assert result.is_partial is is_partial
    assert not is_partial or "before the range does" in result.notes[0]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, HistoryUnauthorizedError),
        (403, HistoryUnauthorizedError),
        (400, HistoryQueryError),
        (422, HistoryQueryError),
        (404, HistoryOutageError),
        (429, HistoryOutageError),
        (500, HistoryOutageError),
        (503, HistoryOutageError),
    ],
)
async def test_a_refusal_says_who_acts(server: Server, status: int, kind: type[HistoryError]) -> None:
    server.status, server.body = status, json.dumps({"status": "error", "error": "because of this"})

    with pytest.raises(kind, match="because of this"):
        await server.ask()

    assert len(server.asked) == 1  # no retries behind our back


async def test_a_bad_query_names_the_query(server: Server) -> None:
    server.status, server.body = 400, json.dumps({"status": "error", "error": "parse error"})
    history = History(HistoryConfig(url=server.url))

    with pytest.raises(HistoryQueryError, match=r"sum\(") as caught:
        await history.query_range("sum(", start_s=START_S, end_s=END_S, step_s=STEP_S)

    assert caught.value.query == "sum("


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<html>log in</html>", id="HTML"),
        pytest.param("[]", id="no object"),
        pytest.param('{"status":"success"}', id="no data"),
        pytest.param('{"data":{"resultType":"vector","result":[]}}', id="a vector"),
        pytest.param('{"data":{"resultType":"matrix","result":[{"values":[]}]}}', id="no labels"),
        pytest.param('{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1]]}]}}', id="half a point"),
        pytest.param('{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"x"]]}]}}', id="no number"),
        pytest.param('{"data":{"resultType":"matrix","result":[3]}}', id="no series"),
    ],
)
async def test_an_answer_that_is_not_prometheus_is_an_outage(server: Server, body: str) -> None:
    server.body = body

    with pytest.raises(HistoryOutageError):
        await server.ask()


async def test_nobody_listening_is_an_outage() -> None:
    with socket.socket() as taken:  # bound but not listening
        taken.bind(("127.0.0.1", 0))
        history = History(HistoryConfig(url=f"http://127.0.0.1:{taken.getsockname()[1]}"))

        with pytest.raises(HistoryOutageError, match=r"127\.0\.0\.1"):
            await history.query_range("up", start_s=START_S, end_s=END_S, step_s=STEP_S)


async def test_silence_is_an_outage(server: Server) -> None:
    server.pause = asyncio.Event()

    with pytest.raises(HistoryOutageError):
        await server.ask(timeout_s=0.2)

    server.pause.set()


async def test_an_answer_that_drips_is_cut_at_its_deadline(server: Server) -> None:
    server.drips = True

    with pytest.raises(HistoryOutageError, match="no whole answer"):
        await server.ask(timeout_s=0.3)


async def test_an_answer_without_end_is_an_outage(server: Server) -> None:
    server.body = " " * (ANSWER_BYTES_MAX + 1)

    with pytest.raises(HistoryOutageError, match="exceeds"):
        await server.ask()


async def test_a_redirect_is_not_followed(server: Server) -> None:
    server.status, server.headers = 302, {"Location": "/api/v1/query_range?login=1"}

    with pytest.raises(HistoryOutageError, match="HTTP 302"):
        await server.ask()

    assert len(server.asked) == 1


# --- one number of now -----------------------------------------------------------------------------------------------


def sample(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1120.5, value]}


@pytest.mark.parametrize(
    ("kind", "result", "expected"),
    [
        ("vector", [sample("12")], InstantResult(value=12.0, said="12")),
        ("vector", [sample("0", pod="a")], InstantResult(value=0.0, said="0")),
        ("scalar", [1120.5, "3.5"], InstantResult(value=3.5, said="3.5")),
        ("vector", [], InstantResult(value=None)),
        ("vector", [sample("NaN")], InstantResult(value=None, said="NaN")),
        ("vector", [sample("+Inf")], InstantResult(value=None, said="+Inf")),
    ],
    ids=["a series", "an explicit zero", "a scalar", "no series", "not a number", "infinite"],
)
async def test_a_number_of_now_is_one_and_nothing_is_not_zero(
    server: Server, kind: str, result: object, expected: InstantResult
) -> None:
    server.says_now(kind, result)

    assert await server.ask_now("sum(queue)") == expected
    assert expected.is_empty is (expected.value is None)
    assert server.asked == [{"query": "sum(queue)"}]


async def test_a_number_with_warnings_is_a_part(server: Server) -> None:
    server.says_now("vector", [sample("2")], warnings=["a store is down"], infos=["not a counter"])

    result = await server.ask_now()

    assert (result.value, result.is_partial, result.notes) == (2.0, True, ("a store is down",))


@pytest.mark.parametrize(
    ("kind", "result", "said"),
    [
        ("vector", [sample("1", pod="a"), sample("2", pod="b")], r"2 series, not one number: aggregate with sum\(\)"),
        ("matrix", [series((1120, "1"))], "a matrix, not one number"),
        ("string", [1120.5, "up"], "a string, not one number"),
    ],
)
async def test_what_is_not_one_number_is_the_querys_fault(server: Server, kind: str, result: object, said: str) -> None:
    server.says_now(kind, result)

    with pytest.raises(HistoryQueryError, match=said):
        await server.ask_now()


@pytest.mark.parametrize(
    "result", [[{"metric": {}}], [{"metric": {}, "value": [1]}], [{"metric": {}, "value": [1, "many"]}]]
)
async def test_a_value_that_is_not_as_the_api_says_is_an_outage(server: Server, result: object) -> None:
    server.says_now("vector", result)

    with pytest.raises(HistoryOutageError, match="not as its API says"):
        await server.ask_now()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, HistoryUnauthorizedError), (422, HistoryQueryError), (503, HistoryOutageError), (200, HistoryOutageError)],
    ids=["refused", "bad query", "down", "no API"],
)
async def test_a_number_of_now_fails_as_a_history_does(server: Server, status: int, kind: type[HistoryError]) -> None:
    server.status, server.body = status, json.dumps({"status": "error", "error": "because"})

    with pytest.raises(kind):
        await server.ask_now()


async def test_a_number_of_now_has_a_deadline(server: Server) -> None:
    server.pause = asyncio.Event()

    with pytest.raises(HistoryOutageError):
        await server.ask_now(timeout_s=0.2)

    server.pause.set()


# --- being let in ----------------------------------------------------------------------------------------------------


async def test_the_token_is_sent_and_read_anew_for_each_query(server: Server, tmp_path: Path) -> None:
    server.says()
    file = tmp_path / "token"
    for token in ("one\n", "two\n"):
        file.write_text(token)
        await server.ask(bearer_token_file=file)

    assert server.authorizations == ["Bearer one", "Bearer two"]


async def test_a_token_file_that_is_not_there_needs_a_human(server: Server) -> None:
    with pytest.raises(HistoryUnauthorizedError, match="/no/such/token"):
        await server.ask(bearer_token_file=Path("/no/such/token"))

    assert server.asked == []


async def test_a_netrc_does_not_replace_the_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "token").write_text("ours")
    server.says()

    await server.ask(bearer_token_file=tmp_path / "token")

    assert server.authorizations == ["Bearer ours"]


async def test_an_own_authority_is_trusted_where_named(tls_server: Server, authority: Path) -> None:
    assert (await tls_server.ask(ca_file=authority / "ca.pem")).is_empty


async def test_any_certificate_is_taken_where_asked_for(tls_server: Server) -> None:
    assert (await tls_server.ask(insecure=True)).is_empty


async def test_an_unknown_authority_is_an_outage_that_says_so(tls_server: Server) -> None:
    with pytest.raises(HistoryOutageError, match="certificate verify failed"):
        await tls_server.ask()

    assert tls_server.asked == []


async def test_a_ca_file_that_is_not_there_is_an_outage_that_names_it() -> None:
    history = History(HistoryConfig(url="https://127.0.0.1:1", ca_file=Path("/no/such/ca.pem")))

    with pytest.raises(HistoryOutageError, match=r"/no/such/ca\.pem"):
        await history.query_range("up", start_s=START_S, end_s=END_S, step_s=STEP_S)


@pytest.mark.parametrize(("url", "timeout_s"), [("prometheus:9090", 1.0), ("http://", 1.0), ("http://p", 0.0)])
def test_a_bad_address_or_timeout_is_refused(url: str, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="Prometheus"):
        HistoryConfig(url=url, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("start_s", "end_s", "step_s"), [(0.0, 60.0, 0.0), (60.0, 0.0, 1.0), (0.0, (STEPS_MAX + 1) * 15.0, 15.0)]
)
async def test_a_range_that_prometheus_would_refuse_is_not_asked_for(
    server: Server, start_s: float, end_s: float, step_s: float
) -> None:
    with pytest.raises(ValueError, match="steps"):
        await History(HistoryConfig(url=server.url)).query_range("up", start_s=start_s, end_s=end_s, step_s=step_s)

    assert server.asked == []


# --- queries ---------------------------------------------------------------------------------------------------------


def test_the_demand_query_takes_both_spellings_and_quotes_its_arguments() -> None:
    query = demand_query("team.a", r'llama-\d+"x', window_s=90.0)

    for name in ("prompt_tokens_total", "generation_tokens_total"):
        for prefix in ("vllm:", "vllm_"):
            assert f'rate({prefix}{name}{{namespace=~"team[.]a",pod=~"llama-\\\\d+\\"x"}}[90s])' in query
