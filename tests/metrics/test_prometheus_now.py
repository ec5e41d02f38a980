"""One number of now: what counts as one, what is nothing, what is a part, and what is whose fault."""

import asyncio
import json
from typing import Any

import pytest

from metrics.errors import HistoryError, HistoryOutageError, HistoryQueryError, HistoryUnauthorizedError
from metrics.prometheus import InstantResult


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
    server, kind: str, result: object, expected: InstantResult
) -> None:
    server.says_now(kind, result)

    assert await server.ask_now("sum(queue)") == expected
    assert expected.is_empty is (expected.value is None)
    assert server.asked == [{"query": "sum(queue)"}]


async def test_a_number_with_warnings_is_a_part(server) -> None:
    server.says_now("vector", [sample("2")], warnings=["a store is down"], infos=["not a counter"])

    result = await server.ask_now()

    assert (result.value, result.is_partial, result.notes) == (2.0, True, ("a store is down",))


@pytest.mark.parametrize(
    ("kind", "result", "said"),
    [
        ("vector", [sample("1", pod="a"), sample("2", pod="b")], r"2 series, not one number: aggregate with sum\(\)"),
        ("matrix", [{"metric": {}, "values": [[1120, "1"]]}], "a matrix, not one number"),
        ("string", [1120.5, "up"], "a string, not one number"),
    ],
)
async def test_what_is_not_one_number_is_the_querys_fault(server, kind: str, result: object, said: str) -> None:
    server.says_now(kind, result)

    with pytest.raises(HistoryQueryError, match=said):
        await server.ask_now()


@pytest.mark.parametrize(
    "result",
    [{"value": [1, "2"]}, [{"metric": {}}], [{"metric": {}, "value": [1]}], [{"metric": {}, "value": [1, "many"]}]],
)
async def test_a_value_that_is_not_as_the_api_says_is_an_outage(server, result: object) -> None:
    server.says_now("vector", result)

    with pytest.raises(HistoryOutageError, match="not as its API says"):
        await server.ask_now()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, HistoryUnauthorizedError), (422, HistoryQueryError), (503, HistoryOutageError), (200, HistoryOutageError)],
    ids=["refused", "bad query", "down", "no API"],
)
async def test_a_number_of_now_fails_as_a_history_does(server, status: int, kind: type[HistoryError]) -> None:
    server.status, server.body = status, json.dumps({"status": "error", "error": "because"})

    with pytest.raises(kind):
        await server.ask_now()


async def test_a_number_of_now_has_a_deadline(server) -> None:
    server.pause = asyncio.Event()

    with pytest.raises(HistoryOutageError):
        await server.ask_now(timeout_s=0.2)

    server.pause.set()
