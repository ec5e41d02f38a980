"""The controller scales services on what their servers say, and says why."""

from dataclasses import replace

import pytest

from metrics.errors import ScrapeError, ScrapeFailure


async def test_a_ramp_is_followed_up_and_explained(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        await town.after(30)
        assert await town.replicas() == 2

        town.engines.requests = lambda _now_s: 40.0
        await town.after(120)

        status = await town.status()
        assert await town.replicas() >= 5
        assert status["replicas"]["desired"] == await town.replicas()
        assert status["decision"]["steps"]
        assert status["recentChanges"][-1]["before"] == 2
        assert (await town.condition("ScalingActive"))["status"] == "True"


async def test_statuses_that_take_long_to_write_hold_up_no_decision(town) -> None:
    """Many services change at once, and each status takes longer than the next change."""
    names = [f"llm-{i:02d}" for i in range(20)]
    async with town.cluster(), town.controller() as client:
        for name in names:
            await town.deploy(replicas=1, name=name)
        await town.after(30)
        client.takes_s = lambda _verb, path: 9.0 if path.endswith("/status") else 0.0
        for replicas in (2, 3, 4):
            await town.policy(replicas={"min": replicas, "max": 8})
            await town.after(2.0)

            assert [await town.replicas(name) for name in names] == [replicas] * len(names)

        await town.after(40.0)
        assert [(await town.status(name))["replicas"]["desired"] for name in names] == [4] * len(names)


async def test_replicas_that_come_are_no_reason_to_warn(town) -> None:
    """A pod that became ready a moment ago was not heard yet: nobody has to look."""
    async with town.cluster(), town.controller():
        await town.deploy(replicas=1)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(120)

        assert await town.replicas() >= 5
        assert not {"PartlyBlind", "NoFreshData", "Fresh"} & {reason for reason, _ in await town.events()}


@pytest.mark.parametrize(
    ("every_s", "answer_s", "replicas_max"),
    [
        pytest.param(7.3, 0.02, 2, id="seldom"),
        pytest.param(7.3, 0.2, 2, id="seldom, pages come slowly"),
        # A pass that no edge asked for may still see what each pod said at another time: one too many, and it goes.
        pytest.param(1.3, 0.02, 3, id="more often than all pods may be read at once"),
    ],
)
async def test_requests_that_go_from_one_pod_to_another_are_not_counted_twice(
    town, every_s: float, answer_s: float, replicas_max: int
) -> None:
    """Eight for two pods that hold four each, now on one of them, now on both."""
    first: list[str] = []
    scrape = town.engines.scrape

    def moved(uid: str, seen):
        first[:] = first or [uid]
        together = int(seen.observed_at_s / every_s) % 2
        return replace(seen, running_requests=8.0 * (uid == first[0]) if together else 4.0, waiting_requests=0.0)

    async def slow_scrape(target):
        seen = await scrape(target)
        await town.clock.sleep(answer_s)
        return seen

    town.engines.requests = lambda _now_s: 8.0
    town.engines.distort, town.engines.scrape = moved, slow_scrape
    async with town.cluster():
        await town.policy(**ONLY_CONCURRENCY)
        async with town.controller():
            await town.deploy(replicas=2)
            await town.after(300)

            status = await town.status()
            assert max((change["after"] for change in status["recentChanges"]), default=2) <= replicas_max
            assert status["replicas"]["ready"] in (2, replicas_max)
            assert status["replicas"]["blind"] == 0


async def test_pods_that_do_not_answer_hold_up_a_decision_for_a_moment_only(town) -> None:
    first: list[str] = []
    scrape = town.engines.scrape
    edge_at_s = town.clock.now_s() + 120.0

    async def scrape_one(target):
        first[:] = first or [target.key]
        if target.key != first[0] and town.clock.now_s() > edge_at_s - 10.0:
            await town.clock.sleep(2.0)
            raise ScrapeError(target.key, ScrapeFailure.TIMEOUT, "as the story goes")
        seen = await scrape(target)
        return replace(seen, running_requests=60.0 if seen.observed_at_s > edge_at_s else 4.0)

    town.engines.requests = lambda _now_s: 12.0
    town.engines.scrape = scrape_one
    async with town.cluster():
        await town.policy(**ONLY_CONCURRENCY)
        async with town.controller():
            await town.deploy(replicas=3)
            await town.after(120.0)
            assert await town.replicas() == 3
            # Its next sample comes within a period.
            await town.after(4.0 + 0.25 + 0.1)

            assert await town.replicas() > 3


ONLY_CONCURRENCY = {
    "objectives": {"ttftSeconds": 0},
    "targets": {"runningRequests": 4, "queueRequests": 0, "kvCacheUtilization": 0, "useLearnedCapacity": False},
}
