"""What passes found out is told behind them: the newest of each service, soon, seldom, and until it is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from autoscaler.errors import NotLeadingError, Unreachable
from autoscaler.kube.reports import SPACING_S, TELLING_MAX, Reports, Tell
from simulations.cluster.workloads.settle import LoopClock

pytestmark = pytest.mark.looptime


@pytest.fixture
def clock() -> LoopClock:
    return LoopClock(1000.0)


@pytest.fixture
async def reports(clock: LoopClock) -> AsyncIterator[Reports]:
    """They run."""
    it = Reports(clock)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(it.run())
        yield it
        running.cancel()


class Told:
    """What was told, and when."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self.lines: list[tuple[float, str]] = []
        self.takes_s = 0.0
        self.fails: Exception | None = None

    def saying(self, text: str) -> Tell:
        async def tell() -> None:
            self.lines.append((self._clock.now_s() - 1000.0, text))
            await self._clock.sleep(self.takes_s)
            if self.fails is not None:
                raise self.fails

        return tell


@pytest.fixture
def told(clock: LoopClock) -> Told:
    return Told(clock)


async def test_the_first_is_told_at_once_and_of_what_follows_the_newest(
    reports: Reports, told: Told, clock: LoopClock
) -> None:
    for text in ("one", "two", "three", "four"):
        reports.put("a", told.saying(text))
        await clock.sleep(SPACING_S / 4)
    await clock.sleep(60.0)

    assert told.lines == [(0.0, "one"), (SPACING_S, "four")]


async def test_what_comes_while_one_is_told_is_told_after_it(reports: Reports, told: Told, clock: LoopClock) -> None:
    told.takes_s = 20.0
    reports.put("a", told.saying("one"))
    await clock.sleep(7.0)
    reports.put("a", told.saying("two"))
    await clock.sleep(60.0)

    assert told.lines == [(0.0, "one"), (20.0, "two")]


async def test_few_are_told_at_once(reports: Reports, told: Told, clock: LoopClock) -> None:
    told.takes_s = 10.0
    for number in range(2 * TELLING_MAX):
        reports.put(f"llm-{number}", told.saying("x"))
    await clock.sleep(60.0)

    assert [at_s for at_s, _ in told.lines] == [0.0] * TELLING_MAX + [10.0] * TELLING_MAX


async def test_what_could_not_be_told_is_tried_less_and_less_often_and_then_the_newest_of_it(
    reports: Reports, told: Told, clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    told.fails = Unreachable(0, "Unreachable", "the API server is away")
    reports.put("a", told.saying("old"))
    await clock.sleep(60.0)
    tries = len(told.lines)
    reports.put("a", told.saying("new"))
    await clock.sleep(1.0)
    told.fails = None
    await clock.sleep(120.0)

    assert 4 <= tries <= 8
    assert [text for _, text in told.lines[tries:]] == ["new"]
    assert len([record for record in caplog.records if "status not written" in record.message]) == 1


async def test_who_no_longer_leads_says_no_more(reports: Reports, told: Told, clock: LoopClock) -> None:
    told.fails = NotLeadingError("not ours")
    reports.put("a", told.saying("one"))
    await clock.sleep(100.0)
    assert len(told.lines) == 1

    reports.put("b", told.saying("two"))
    reports.clear()
    await clock.sleep(100.0)
    assert len(told.lines) == 1


async def test_a_bug_in_one_silences_no_other(
    reports: Reports, told: Told, clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    told.fails = ZeroDivisionError("a bug")
    reports.put("sick", told.saying("sick"))
    await clock.sleep(1.0)
    told.fails = None
    reports.put("well", told.saying("well"))
    await clock.sleep(100.0)

    assert [text for _, text in told.lines] == ["sick", "well"]
    assert "sick: report failed" in caplog.text
