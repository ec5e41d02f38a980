"""The schedule of many targets, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from metrics.errors import ScrapeError, ScrapeFailure
from metrics.sample import EngineSample
from metrics.scrape_loop import FIRST_SCRAPE_WITHIN_S, HANGING_WORKERS, STARTED_PER_TICK_MAX, WORKERS, ScrapeLoop
from metrics.target import ScrapeTarget, TimedTarget

pytestmark = pytest.mark.looptime

DEADLINE_S = 2.0


class LoopClock:
    """The event loop's time, which looptime makes virtual."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)


class Pods:
    """Targets that answer after a while, or hang until the deadline. Keeps what happened when."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.answers_after_s: dict[str, float] = {}
        self.began: list[tuple[float, str, str]] = []
        self.results: list[tuple[float, str, EngineSample | ScrapeError]] = []
        self.has_begun = asyncio.Event()
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()

    async def scrape(self, target: ScrapeTarget) -> EngineSample:
        key, began_at_s = target.key, self.clock.now_s()
        self.began.append((began_at_s, key, target.url))
        self.has_begun.set()
        self.under_way[key] += 1
        self.most_under_way[key] = max(self.most_under_way[key], self.under_way[key])
        try:
            after_s = self.answers_after_s.get(key, 0.01)
            await asyncio.sleep(min(after_s, DEADLINE_S))
            if after_s >= DEADLINE_S:
                raise ScrapeError(key, ScrapeFailure.TIMEOUT, "too slow")
            return EngineSample(observed_at_s=began_at_s)
        finally:
            self.under_way[key] -= 1

    def keep(self, key: str, result: EngineSample | ScrapeError) -> None:
        self.results.append((self.clock.now_s(), key, result))

    def times(self, key: str) -> list[float]:
        return [at_s for at_s, other, _ in self.began if other == key]


def targets(*keys: str, period_s: float = 2.0, path: str = "metrics") -> dict[str, TimedTarget]:
    return {
        key: TimedTarget(target=ScrapeTarget(key=key, url=f"http://{key}/{path}"), period_s=period_s) for key in keys
    }


@asynccontextmanager
async def running(pods: Pods) -> AsyncIterator[ScrapeLoop]:
    loop = ScrapeLoop(pods, pods.clock, pods.keep)
    task = asyncio.ensure_future(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        await asyncio.wait([task])


def gaps(times: list[float]) -> Iterator[float]:
    return (after - before for before, after in pairwise(times))


async def test_each_target_is_scraped_once_per_period() -> None:
    pods = Pods()
    async with running(pods) as loop:
        loop.set_targets(targets("busy", period_s=2.0) | targets("idle", period_s=15.0))
        await asyncio.sleep(120)

    assert 59 <= len(pods.times("busy")) <= 62
    assert 8 <= len(pods.times("idle")) <= 10
    assert all(gap == pytest.approx(2.0, abs=0.05) for gap in list(gaps(pods.times("busy")))[1:])
    assert {key for _, key, _ in pods.results} == {"busy", "idle"}


async def test_a_new_target_is_scraped_soon_whatever_its_period() -> None:
    pods = Pods()
    async with running(pods) as loop:
        loop.set_targets(targets(*(f"pod-{i}" for i in range(50)), period_s=300.0))
        await asyncio.sleep(FIRST_SCRAPE_WITHIN_S + 0.1)

    assert len({key for _, key, _ in pods.began}) == 50


async def test_targets_are_spread_over_the_period_and_the_same_after_a_restart() -> None:
    schedules, keys = [], [f"pod-{i}" for i in range(200)]
    for _ in range(2):
        pods = Pods()
        async with running(pods) as loop:
            loop.set_targets(targets(*keys, period_s=10.0))
            await asyncio.sleep(30)
        schedules.append({key: round(pods.times(key)[-1] % 10.0, 1) for key in keys})

    assert schedules[0] == pytest.approx(schedules[1], abs=0.15)
    per_second = Counter(int(place) for place in schedules[0].values())
    assert len(per_second) == 10
    assert max(per_second.values()) <= 40


async def test_hanging_targets_do_not_delay_the_others() -> None:
    pods = Pods()
    hanging = [f"hanging-{i}" for i in range(WORKERS + HANGING_WORKERS)]
    pods.answers_after_s = dict.fromkeys(hanging, 3600.0)
    async with running(pods) as loop:
        loop.set_targets(targets(*hanging))
        await asyncio.sleep(10)  # by now each of them has hung once
        loop.set_targets(targets(*hanging) | targets("good"))
        await asyncio.sleep(30)

    assert max(gaps(pods.times("good"))) <= 2.1
    assert len(pods.times("good")) >= 14


async def test_of_a_crowd_that_is_due_few_are_started_between_two_turns_of_the_event_loop() -> None:
    """So that a lease is renewed and a decision is written meanwhile, however late the pages are read."""
    pods = Pods()
    crowd = [f"pod-{i}" for i in range(1000)]
    pods.answers_after_s = dict.fromkeys(crowd, 0.001)
    async with running(pods) as loop:
        loop.set_targets(targets(*crowd))
        for key in crowd:
            loop.wake(key)
        await asyncio.sleep(1.0)

    started = Counter(at_s for at_s, _, _ in pods.began)
    assert max(started.values()) <= STARTED_PER_TICK_MAX
    assert {key for _, key, _ in pods.began} == set(crowd)


async def test_a_target_that_is_woken_overtakes_those_that_are_overdue() -> None:
    pods = Pods()
    crowd = [f"pod-{i}" for i in range(1000)]
    async with running(pods) as loop:
        loop.set_targets(targets(*crowd, period_s=0.05))  # never to be kept up with
        loop.set_targets(targets(*crowd, period_s=0.05) | targets("woken", period_s=300.0))
        await asyncio.sleep(1.5)
        woken_s = pods.clock.now_s()
        loop.wake("woken")
        await asyncio.sleep(0.2)

    assert pods.times("woken")[-1] - woken_s <= 0.01


async def test_a_slow_target_has_one_scrape_under_way_and_skips_what_it_missed() -> None:
    pods = Pods()
    pods.answers_after_s = {"slow": 1.5}
    async with running(pods) as loop:
        loop.set_targets(targets("slow", period_s=0.5))
        await asyncio.sleep(20)

    assert pods.most_under_way["slow"] == 1
    assert 9 <= len(pods.times("slow")) <= 14


async def test_a_target_that_hung_comes_back_when_it_answers() -> None:
    pods = Pods()
    pods.answers_after_s = {"pod": 3600.0}
    async with running(pods) as loop:
        loop.set_targets(targets("pod"))
        await asyncio.sleep(10)
        pods.answers_after_s.clear()
        await asyncio.sleep(10)

    kinds = [type(result) for _, _, result in pods.results]
    assert kinds[0] is ScrapeError
    assert kinds[-3:] == [EngineSample] * 3


async def test_a_changed_period_counts_at_once() -> None:
    pods = Pods()
    async with running(pods) as loop:
        loop.set_targets(targets("pod", period_s=600.0))
        await asyncio.sleep(5)
        before = len(pods.began)
        loop.set_targets(targets("pod", period_s=2.0))
        await asyncio.sleep(20)
        often = len(pods.began) - before
        loop.set_targets(targets("pod", period_s=600.0))
        await asyncio.sleep(20)

    assert before == 1
    assert 9 <= often <= 11
    assert len(pods.began) - before - often <= 1


async def test_a_woken_target_is_scraped_now() -> None:
    pods = Pods()
    async with running(pods) as loop:
        loop.set_targets(targets("pod", period_s=600.0))
        await asyncio.sleep(5)
        woken_at_s = pods.clock.now_s()
        for _ in range(100):
            loop.wake("pod")
        loop.wake("unknown")
        await asyncio.sleep(1)

    assert [at_s for at_s in pods.times("pod") if at_s >= woken_at_s] == [pytest.approx(woken_at_s, abs=0.05)]


async def test_a_target_woken_while_scraped_is_scraped_once_more() -> None:
    pods = Pods()
    pods.answers_after_s = {"pod": 1.0}
    async with running(pods) as loop:
        loop.set_targets(targets("pod", period_s=600.0))
        await pods.has_begun.wait()
        loop.wake("pod")
        loop.wake("pod")
        await asyncio.sleep(5)

    assert len(pods.began) == 2
    assert pods.most_under_way["pod"] == 1


async def test_a_removed_target_is_left_alone_and_its_late_result_is_dropped() -> None:
    pods = Pods()
    pods.answers_after_s = {"pod": 1.0}
    async with running(pods) as loop:
        loop.set_targets(targets("pod"))
        await pods.has_begun.wait()
        loop.set_targets({})
        await asyncio.sleep(10)

    assert (len(pods.began), pods.results) == (1, [])


async def test_a_target_that_moved_is_scraped_at_its_new_address_and_the_old_answer_is_dropped() -> None:
    pods = Pods()
    pods.answers_after_s = {"pod": 1.0}
    async with running(pods) as loop:
        loop.set_targets(targets("pod", period_s=600.0))
        await pods.has_begun.wait()
        moved_at_s = pods.clock.now_s()
        loop.set_targets(targets("pod", period_s=600.0, path="elsewhere"))
        await asyncio.sleep(5)

    assert [url for _, _, url in pods.began] == ["http://pod/metrics", "http://pod/elsewhere"]
    assert len(pods.results) == 1
    assert pods.results[0][0] >= moved_at_s + 1.5


async def test_failures_are_results_and_the_loop_goes_on() -> None:
    pods = Pods()
    pods.answers_after_s = {"bad": 3600.0}
    async with running(pods) as loop:
        loop.set_targets(targets("bad", "good", period_s=4.0))
        await asyncio.sleep(20)

    kinds = {key: {type(result) for _, other, result in pods.results if other == key} for key in ("bad", "good")}
    assert kinds == {"bad": {ScrapeError}, "good": {EngineSample}}


async def test_a_bug_in_the_receiver_ends_the_loop_loudly() -> None:
    pods = Pods()

    def fail(_key: str, _result: object) -> None:
        raise LookupError("a bug")

    loop = ScrapeLoop(pods, pods.clock, fail)
    loop.set_targets(targets("pod"))

    with pytest.raises(ExceptionGroup) as caught:
        await loop.run()

    assert caught.group_contains(LookupError)


def test_a_period_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="period must be"):
        targets("pod", period_s=0.0)
