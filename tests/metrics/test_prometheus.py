"""The four kinds of answer, from an HTTP server that speaks Prometheus' API; and from a Prometheus, where one is."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

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
    HistorySeries,
    demand_query,
)

START_S, END_S, STEP_S = 1_000.0, 1_120.0, 60.0


def series(*values: tuple[float, str], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [list(value) for value in values]}


# --- values ----------------------------------------------------------------------------------------------------------


async def test_data_are_series_of_finite_points(server) -> None:
    server.says(series((1000, "1"), (1060, "NaN"), (1090, "+Inf"), (1120, "2.5"), service="a", zone="b"))

    result = await server.ask()

    assert result.series == (
        HistorySeries(labels=(("service", "a"), ("zone", "b")), points=((1000.0, 1.0), (1120.0, 2.5))),
    )
    assert (result.is_empty, result.is_partial) == (False, False)
    assert server.asked == [{"query": "up", "start": "1000", "end": "1120", "step": "60"}]


@pytest.mark.parametrize("found", [(), (series((1120, "NaN"), service="a"),)], ids=["no series", "nothing but NaN"])
async def test_nothing_is_a_value(server, found: tuple[dict[str, Any], ...]) -> None:
    server.says(*found)

    result = await server.ask()

    assert (result.is_empty, result.is_partial) == (True, False)


async def test_warnings_make_a_part_and_infos_do_not(server) -> None:
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
async def test_a_missing_tail_makes_a_part(server, newest_s: float, *, is_partial: bool) -> None:
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
async def test_a_refusal_says_who_acts(server, status: int, kind: type[HistoryError]) -> None:
    server.status, server.body = status, json.dumps({"status": "error", "error": "because of this"})

    with pytest.raises(kind, match="because of this"):
        await server.ask()

    assert len(server.asked) == 1  # no retries behind our back


async def test_a_bad_query_names_the_query(server) -> None:
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
async def test_an_answer_that_is_not_prometheus_is_an_outage(server, body: str) -> None:
    server.body = body

    with pytest.raises(HistoryOutageError):
        await server.ask()


async def test_nobody_listening_is_an_outage() -> None:
    with socket.socket() as taken:  # bound but not listening
        taken.bind(("127.0.0.1", 0))
        history = History(HistoryConfig(url=f"http://127.0.0.1:{taken.getsockname()[1]}"))

        with pytest.raises(HistoryOutageError, match=r"127\.0\.0\.1"):
            await history.query_range("up", start_s=START_S, end_s=END_S, step_s=STEP_S)


async def test_silence_is_an_outage(server) -> None:
    server.pause = asyncio.Event()

    with pytest.raises(HistoryOutageError, match=r"^Prometheus http://\S+ gave no answer: Read timed out\."):
        await server.ask(timeout_s=0.2)

    server.pause.set()


async def test_an_answer_that_drips_is_cut_at_its_deadline(server) -> None:
    server.drips = True

    with pytest.raises(HistoryOutageError, match="no whole answer"):
        await server.ask(timeout_s=0.3)


async def test_an_answer_without_end_is_an_outage(server) -> None:
    server.body = " " * (ANSWER_BYTES_MAX + 1)

    with pytest.raises(HistoryOutageError, match="exceeds"):
        await server.ask()


async def test_a_redirect_is_not_followed(server) -> None:
    server.status, server.headers = 302, {"Location": "/api/v1/query_range?login=1"}

    with pytest.raises(HistoryOutageError, match="HTTP 302"):
        await server.ask()

    assert len(server.asked) == 1


# --- being let in ----------------------------------------------------------------------------------------------------


async def test_the_token_is_sent_and_read_anew_for_each_query(server, tmp_path: Path) -> None:
    server.says()
    file = tmp_path / "token"
    for token in ("one\n", "two\n"):
        file.write_text(token)
        await server.ask(bearer_token_file=file)

    assert server.authorizations == ["Bearer one", "Bearer two"]


async def test_a_token_file_that_is_not_there_needs_a_human(server) -> None:
    with pytest.raises(HistoryUnauthorizedError, match="/no/such/token"):
        await server.ask(bearer_token_file=Path("/no/such/token"))

    assert server.asked == []


async def test_a_netrc_does_not_replace_the_token(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "token").write_text("ours")
    server.says()

    await server.ask(bearer_token_file=tmp_path / "token")

    assert server.authorizations == ["Bearer ours"]


async def test_an_own_authority_is_trusted_where_named(tls_server, authority: Path) -> None:
    assert (await tls_server.ask(ca_file=authority / "ca.pem")).is_empty


async def test_any_certificate_is_taken_where_asked_for(tls_server) -> None:
    assert (await tls_server.ask(insecure=True)).is_empty


async def test_an_unknown_authority_is_an_outage_that_says_so(tls_server) -> None:
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
    server, start_s: float, end_s: float, step_s: float
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
