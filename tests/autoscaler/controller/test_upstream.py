"""What waits upstream: asked for at its pace, never taken for zero when unknown, and what services at zero live by."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from autoscaler.settings import UpstreamQuery
from autoscaler.upstream import JITTER_RATIO, NOT_ASKED_YET, QUERIES_MAX, RETRY_CAP_S, NoUpstream, Poller
from metrics.errors import HistoryOutageError, HistoryQueryError
from metrics.prometheus import HistoryResult, InstantResult
from simulations.cluster.workloads.settle import LoopClock, running

QUERY = UpstreamQuery(promql="sum(queue)", period_s=2.0)
AWAY = HistoryOutageError("Prometheus http://p:9090 gave no answer")
NOTHING = InstantResult(value=None)


def number(value: float, *notes: str) -> InstantResult:
    return InstantResult(value=value, said=f"{value:g}", notes=notes)


@dataclass
class Gateway:
    """A Prometheus that answers every query alike, and keeps when it was asked."""

    answer: InstantResult | Exception = field(default_factory=lambda: number(0))
    takes_s: float = 0.0
    asked_at_s: list[float] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def query(self, promql: str) -> InstantResult:
        self.asked_at_s.append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.under_way -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult:
        return HistoryResult(series=())

    @property
    def gaps_s(self) -> list[float]:
        return [b - a for a, b in zip(self.asked_at_s, self.asked_at_s[1:], strict=False)]


class Polling:
    """A poller at work, and the keys it woke."""

    is_idle = True

    def __init__(self, gateway: Gateway) -> None:
        self.clock = LoopClock(1e6)
        self.woken: list[str] = []
        self.poller = Poller(gateway, self.clock, wake=self.woken.append)
        self.run = self.poller.run


# --- the poller ------------------------------------------------------------------------------------------------------


async def test_a_service_is_asked_for_at_its_period_and_each_answer_has_its_time() -> None:
    gateway = Gateway(number(3))
    polling = Polling(gateway)
    async with running(polling):
        first = polling.poller.watch("a", QUERY)
        await polling.clock.sleep(20.0)
        reading = polling.poller.watch("a", QUERY)

    assert (first.waiting_requests, first.problem) == (None, NOT_ASKED_YET)
    assert (reading.waiting_requests, reading.problem) == (3.0, "")
    assert polling.clock.now_s() - reading.observed_at_s <= 2.0 * (1 + JITTER_RATIO)
    assert len(gateway.asked_at_s) in (10, 11)
    assert all(1.9 <= gap_s <= 2.1 for gap_s in gateway.gaps_s)


async def test_only_growth_wakes() -> None:
    gateway = Gateway(number(0))
    polling = Polling(gateway)
    woken = []
    async with running(polling):
        polling.poller.watch("a", QUERY)
        for value in (0, 2, 2, 5, 1, 0):
            gateway.answer = number(value)
            polling.woken.clear()
            await polling.clock.sleep(4.2)
            woken.append(len(polling.woken))

    assert woken == [0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (AWAY, "Prometheus http://p:9090 gave no answer"),
        (HistoryQueryError("queue", "it gives 2 series, not one number: aggregate with sum()"), "aggregate with sum()"),
        (NOTHING, "Prometheus knows no such series: sum(queue)"),
        (InstantResult(value=None, said="NaN"), "Prometheus answers NaN: sum(queue)"),
        (number(-1), "Prometheus answers -1, which is no number of requests: sum(queue)"),
        (number(0, "a store is down"), "Prometheus answers 0 for a part only (a store is down): sum(queue)"),
    ],
    ids=["away", "many series", "no series", "not a number", "negative", "a part that is zero"],
)
async def test_what_is_not_known_is_not_zero(answer: InstantResult | Exception, problem: str) -> None:
    polling = Polling(Gateway(answer))
    async with running(polling):
        polling.poller.watch("a", QUERY)
        await polling.clock.sleep(5.0)
        reading = polling.poller.watch("a", QUERY)

    assert (reading.waiting_requests, reading.observed_at_s) == (None, None)
    assert problem in reading.problem


async def test_a_part_that_shows_requests_counts_them() -> None:
    polling = Polling(Gateway(number(2, "a store is down")))
    async with running(polling):
        polling.poller.watch("a", QUERY)
        await polling.clock.sleep(5.0)

        assert polling.poller.watch("a", QUERY).waiting_requests == 2.0


async def test_a_lost_query_leaves_the_last_answer_with_its_time_and_says_so() -> None:
    gateway = Gateway(number(4))
    polling = Polling(gateway)
    async with running(polling):
        polling.poller.watch("a", QUERY)
        await polling.clock.sleep(1.0)
        known = polling.poller.watch("a", QUERY)
        gateway.answer = AWAY
        await polling.clock.sleep(10.0)
        lost = polling.poller.watch("a", QUERY)
        gateway.answer = number(0)
        await polling.clock.sleep(RETRY_CAP_S)
        again = polling.poller.watch("a", QUERY)

    assert (lost.waiting_requests, lost.observed_at_s) == (4.0, known.observed_at_s)
    assert lost.problem == str(AWAY)
    assert (again.waiting_requests, again.problem) == (0.0, "")


async def test_a_prometheus_that_is_away_is_asked_less_and_less_often() -> None:
    gateway = Gateway(AWAY)
    polling = Polling(gateway)
    async with running(polling):
        polling.poller.watch("a", QUERY)
        await polling.clock.sleep(300.0)

    assert 300 / RETRY_CAP_S <= len(gateway.asked_at_s) <= 50
    assert max(gateway.gaps_s) <= RETRY_CAP_S


async def test_few_queries_are_under_way_at_once_and_one_per_service() -> None:
    gateway = Gateway(takes_s=10.0)
    polling = Polling(gateway)
    async with running(polling):
        polling.poller.watch("a", QUERY)
        await polling.clock.sleep(5.0)
        alone = gateway.most_under_way
        for index in range(20):
            polling.poller.watch(f"service-{index}", QUERY)
        await polling.clock.sleep(30.0)

    assert alone == 1
    assert gateway.most_under_way == QUERIES_MAX


async def test_services_are_not_asked_for_in_step() -> None:
    gateway = Gateway()
    polling = Polling(gateway)
    async with running(polling):
        for index in range(50):
            polling.poller.watch(f"service-{index}", QUERY)
        await polling.clock.sleep(60.0)
        late = [round(at_s, 2) for at_s in gateway.asked_at_s[-50:]]

    assert len(set(late)) > 30


async def test_a_query_that_changes_starts_anew_and_its_old_answer_counts_no_more() -> None:
    gateway = Gateway(number(7), takes_s=1.0)
    polling = Polling(gateway)
    async with running(polling):
        polling.poller.watch("a", QUERY)
        await polling.clock.sleep(0.5)
        other = UpstreamQuery(promql="sum(other)", period_s=2.0)
        polling.poller.watch("a", other)
        await polling.clock.sleep(1.0)
        meanwhile = polling.poller.watch("a", other)
        await polling.clock.sleep(2.0)
        later = polling.poller.watch("a", other)

    assert meanwhile.waiting_requests is None
    assert later.waiting_requests == 7.0
    assert gateway.most_under_way == 1


@pytest.mark.parametrize("stop", ["forget", "start_over", "no query"])
async def test_who_is_forgotten_is_asked_for_no_more(stop: str) -> None:
    gateway = Gateway(number(1))
    polling = Polling(gateway)
    async with running(polling):
        polling.poller.watch("a", QUERY)
        await polling.clock.sleep(5.0)
        if stop == "forget":
            polling.poller.forget("a")
        elif stop == "start_over":
            polling.poller.start_over()
        else:
            assert polling.poller.watch("a", None).problem == ""
        asked = len(gateway.asked_at_s)
        await polling.clock.sleep(20.0)

        assert len(gateway.asked_at_s) == asked
        assert polling.poller.watch("a", QUERY).problem == NOT_ASKED_YET


def test_without_a_prometheus_only_who_asks_has_a_problem() -> None:
    nobody = NoUpstream()

    assert "--prometheus-url" in nobody.watch("a", QUERY).problem
    assert nobody.watch("a", None).problem == ""


# --- the whole controller --------------------------------------------------------------------------------------------

SLEEPY: dict[str, Any] = {
    "replicas": {"min": 0, "max": 16},
    "upstream": {"query": "sum(queue)"},
    "zero": {"enabled": True, "idleSeconds": 60},
}


def asking(gateway: Gateway) -> dict[str, Any]:
    return {"prometheus_url": "http://p:9090", "history": gateway, "upstream": gateway}


def steps(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(step["reason"], step["detail"]) for step in status["decision"]["steps"]]


async def test_an_idle_service_sleeps_and_one_request_wakes_it_at_once(town) -> None:
    gateway = Gateway(number(0))
    async with town.cluster(), town.controller(**asking(gateway)):
        await town.policy(**SLEEPY)
        await town.deploy(replicas=2)
        await town.after(300)
        asleep, status = await town.replicas(), await town.status()

        gateway.answer = number(3)
        await town.after(3)
        woken = await town.replicas()
        gateway.answer = number(0)
        await town.after(50)

        assert (asleep, status["reason"]) == (0, "Idle")
        assert status["freshness"]["upstreamWaitingRequests"] == 0
        assert status["recentChanges"][0]["reason"] == "IdleLongEnough"
        assert woken >= 1
        assert "Waking" in {change["reason"] for change in (await town.status())["recentChanges"]}
        assert await town.replicas() >= 1


@pytest.mark.parametrize("answer", [AWAY, NOTHING, InstantResult(value=None, said="NaN")], ids=["away", "empty", "NaN"])
async def test_an_idle_service_stays_up_while_nobody_knows_what_waits(town, answer: InstantResult | Exception) -> None:
    async with town.cluster(), town.controller(**asking(Gateway(answer))):
        await town.policy(**SLEEPY)
        await town.deploy(replicas=2)
        await town.after(400)

        assert await town.replicas() == 2
        condition = await town.condition("DataFresh")
        assert (condition["status"], condition["reason"]) == ("False", "UpstreamUnknown")
        assert (await town.status())["freshness"]["upstreamProblem"] == condition["message"]
        told = [reason for reason, _ in await town.events()].count("UpstreamUnknown")
        assert told in (1, 2), "before the first samples of its pods and after them, not at every query"


async def test_a_prometheus_that_goes_away_holds_what_is_there_and_what_is_not(town) -> None:
    gateway = Gateway(number(0))
    async with town.cluster(), town.controller(**asking(gateway)):
        await town.policy(**SLEEPY)
        await town.deploy(replicas=1)
        await town.after(200)
        assert await town.replicas() == 0

        gateway.answer = AWAY
        await town.after(600)

        assert await town.replicas() == 0
        status = await town.status()
        assert steps(status)[0] == ("UpstreamUnknown", str(AWAY))
        assert "pause.replicas: 1" in status["decision"]["wouldChange"][0]
        assert (await town.condition("DataFresh"))["reason"] == "UpstreamUnknown"

        gateway.answer = number(1)
        await town.after(20)
        assert await town.replicas() == 1
        assert (await town.condition("DataFresh"))["status"] != "False"


async def test_a_new_controller_wakes_nothing_without_reason(town) -> None:
    gateway = Gateway(number(0))
    async with town.cluster():
        await town.policy(**SLEEPY)
        await town.deploy(replicas=0)
        async with town.controller(**asking(gateway)):
            await town.after(90)
            assert await town.replicas() == 0
            assert (await town.status())["freshness"]["upstreamWaitingRequests"] == 0
        gateway.takes_s = 60.0  # the first answer of the second term does not come
        async with town.controller(identity="two", **asking(gateway)):
            await town.after(40)

            assert await town.replicas() == 0
            assert steps(await town.status())[0] == ("UpstreamUnknown", NOT_ASKED_YET)


async def test_without_a_prometheus_nothing_sleeps_and_why_says_what_to_do(town) -> None:
    async with town.cluster(), town.controller():
        await town.policy(**SLEEPY)
        await town.deploy(replicas=2)
        await town.after(300)

        assert await town.replicas() == 2
        assert "start it with --prometheus-url" in (await town.condition("DataFresh"))["message"]


async def test_a_standby_and_a_refused_service_ask_nothing(town) -> None:
    leader, standby = Gateway(number(0)), Gateway(number(0))
    async with town.cluster(), town.controller(**asking(leader)):
        await town.policy(**SLEEPY)
        await town.deploy(replicas=1)
        await town.after(10)
        async with town.controller(identity="two", **asking(standby)):
            await town.after(30)
        assert standby.asked_at_s == []

        await town.annotate("llm", None)
        await town.after(10)
        asked = len(leader.asked_at_s)
        await town.after(30)
        assert asked > 5
        assert len(leader.asked_at_s) == asked


async def test_what_waits_upstream_grows_a_service_whose_own_queue_is_empty(town) -> None:
    gateway = Gateway(number(0))
    async with town.cluster(), town.controller(**asking(gateway)):
        await town.policy(**SLEEPY | {"replicas": {"min": 1, "max": 16}, "zero": {"enabled": False}})
        await town.deploy(replicas=1)
        town.engines.requests = lambda _now_s: 4.0
        await town.after(30)
        assert await town.replicas() == 1

        gateway.answer = number(12)
        await town.after(4)

        assert await town.replicas() > 1
