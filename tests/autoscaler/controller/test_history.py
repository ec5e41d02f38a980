"""Demand of the past: asked for once per service; without it nothing is worse, and the status says so."""

from dataclasses import dataclass, field

import pytest

from autoscaler.history import RETRY_FIRST_S, SPAN_S, Backfill
from metrics.errors import HistoryError, HistoryOutageError, HistoryUnauthorizedError
from metrics.prometheus import HistoryResult, HistorySeries
from simulations.cluster.workloads.settle import LoopClock, running

POINTS = tuple((1000.0 + 60.0 * i, 500.0) for i in range(30))


@dataclass
class Past:
    """A Prometheus that fails so often, then answers."""

    failures: list[HistoryError] = field(default_factory=list)
    points: tuple[tuple[float, float], ...] = POINTS
    asked: list[str] = field(default_factory=list)
    spans_s: list[float] = field(default_factory=list)

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult:
        self.asked.append(promql)
        self.spans_s.append(end_s - start_s)
        if self.failures:
            raise self.failures[0] if len(self.failures) == 1 else self.failures.pop(0)
        return HistoryResult(series=(HistorySeries(labels=(), points=self.points),) if self.points else ())


class Running:
    """`Controllers` of one: so that `running` can hold it."""

    is_idle = True

    def __init__(self, backfill: Backfill) -> None:
        self.run = backfill.run


async def test_each_service_gets_its_history_once() -> None:
    clock, past, ready = LoopClock(1e6), Past(), []
    backfill = Backfill(past, clock, ready=ready.append)
    async with running(Running(backfill)):
        assert backfill.take("default/a", "default", "a-predictor") == ()
        assert backfill.take("default/b", "default", "b-predictor") == ()
        await clock.sleep(1.0)

        assert ready == ["default/a", "default/b"]
        assert backfill.take("default/a", "default", "a-predictor") == POINTS
        assert backfill.take("default/a", "default", "a-predictor") == ()

    assert len(past.asked) == 2
    assert 'pod=~"a-predictor-[a-z0-9]+-[a-z0-9]+"' in past.asked[0]
    assert past.spans_s == [SPAN_S, SPAN_S]


async def test_an_outage_is_retried_later_and_later_and_named_meanwhile() -> None:
    clock = LoopClock(1e6)
    past = Past([HistoryOutageError("Prometheus is away"), HistoryOutageError("still away")])
    backfill = Backfill(past, clock, ready=lambda _key: None)
    async with running(Running(backfill)):
        backfill.take("default/a", "default", "a")
        await clock.sleep(1.0)
        assert backfill.problem == "Prometheus is away"
        await clock.sleep(RETRY_FIRST_S)
        assert backfill.problem == "still away"
        past.failures.clear()
        await clock.sleep(2 * RETRY_FIRST_S)

        assert backfill.problem == ""
        assert backfill.take("default/a", "default", "a") == POINTS


async def test_a_new_term_asks_again() -> None:
    clock, past = LoopClock(1e6), Past()
    backfill = Backfill(past, clock, ready=lambda _key: None)
    async with running(Running(backfill)):
        backfill.take("default/a", "default", "a")
        await clock.sleep(1.0)
        backfill.start_over()
        assert backfill.take("default/a", "default", "a") == ()
        await clock.sleep(1.0)
        assert backfill.take("default/a", "default", "a") == POINTS


async def test_a_service_without_history_is_not_asked_for_for_ever() -> None:
    clock, past = LoopClock(1e6), Past(points=())
    backfill = Backfill(past, clock, ready=lambda _key: None)
    async with running(Running(backfill)):
        for _ in range(20):
            backfill.take("default/a", "default", "a")
            await clock.sleep(1.0)

    assert len(past.asked) == 1


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(HistoryOutageError("Prometheus http://p:9090 gave no answer"), id="down"),
        pytest.param(HistoryUnauthorizedError("Prometheus http://p:9090 refuses our credentials: HTTP 401"), id="401"),
    ],
)
async def test_a_prometheus_that_does_not_answer_changes_no_number_and_is_named(town, failure: HistoryError) -> None:
    async with town.cluster(), town.controller(prometheus_url="http://p:9090", history=Past([failure])):
        await town.deploy(replicas=6)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(240)

        assert await town.replicas() == 6
        assert (await town.status())["freshness"]["historyProblem"] == str(failure)

        town.engines.requests = lambda _now_s: 80.0
        await town.after(60)
        assert await town.replicas() > 6
