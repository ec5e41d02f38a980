"""Trouble in what the controller sees: never a wrong scale-in, and the status names the cause."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from metrics.errors import ScrapeFailure
from metrics.sample import EngineSample

# 40 requests on engines of 8, their KV cache at most 80 % full: 6 replicas. All stories start there.
LOAD = 40.0
NEEDED = 6
SETTLED_S = 90.0
LONG_S = 240.0  # four stabilisation windows


async def grown(town) -> int:
    """A service that is as large as its load needs."""
    await town.deploy(replicas=NEEDED)
    town.engines.requests = lambda _now_s: LOAD
    await town.after(SETTLED_S)
    assert await town.replicas() == NEEDED
    return NEEDED


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(ScrapeFailure.TIMEOUT, id="all pages hang"),
        pytest.param(ScrapeFailure.NOT_VLLM, id="an empty page with status 200"),
        pytest.param(ScrapeFailure.UNPARSABLE, id="a page cut in the middle"),
        pytest.param(ScrapeFailure.REFUSED, id="nobody listens"),
        pytest.param(ScrapeFailure.STATUS, id="status 500"),
    ],
)
async def test_pages_that_cannot_be_read_shrink_nothing(town, failure: ScrapeFailure) -> None:
    async with town.cluster(), town.controller():
        replicas = await grown(town)
        town.engines.failure = failure
        await town.after(LONG_S)

        status = await town.status()
        assert await town.replicas() == replicas
        assert status["reason"] == "NoFreshData"
        assert (await town.condition("DataFresh"))["status"] == "False"
        assert status["freshness"]["scrapeFailures"] == {failure.value: replicas}
        assert "NoFreshData" in [reason for reason, _ in await town.events()]


def without(*names: str) -> Callable[[str, EngineSample], EngineSample]:
    return lambda _uid, sample: replace(sample, **dict.fromkeys(names))


EVERY_SERIES = (
    *("running_requests", "waiting_requests", "kv_cache_usage_ratio", "prompt_tokens_total"),
    *("generation_tokens_total", "iterations_total"),
)


@pytest.mark.parametrize(
    "distort",
    [
        pytest.param(without(*EVERY_SERIES), id="every series renamed"),
        pytest.param(without("running_requests", "kv_cache_usage_ratio"), id="gauges that were NaN"),
    ],
)
async def test_series_that_are_gone_shrink_nothing(town, distort: Callable[[str, EngineSample], EngineSample]) -> None:
    async with town.cluster(), town.controller():
        replicas = await grown(town)
        town.engines.distort = distort
        await town.after(LONG_S)

        assert await town.replicas() >= replicas


async def test_renamed_series_are_named_as_the_cause(town) -> None:
    async with town.cluster(), town.controller():
        await grown(town)
        town.engines.distort = without(*EVERY_SERIES)
        await town.after(LONG_S)

        assert (await town.condition("DataFresh"))["reason"] == "NoFreshData"


async def test_a_stuck_gauge_shrinks_nothing_although_it_says_idle(town) -> None:
    def stuck(uid: str, sample: EngineSample) -> EngineSample:
        """One request forever, and counters that stand still."""
        return replace(
            sample,
            running_requests=1.0,
            waiting_requests=0.0,
            kv_cache_usage_ratio=0.01,
            iterations_total=7.0,
            prompt_tokens_total=7.0,
            generation_tokens_total=7.0,
        )

    async with town.cluster(), town.controller():
        replicas = await grown(town)
        town.engines.distort = stuck
        await town.after(LONG_S)

        assert await town.replicas() >= replicas
        assert (await town.condition("DataFresh"))["status"] == "False"


async def test_one_blind_pod_of_many_is_said_and_shrinks_nothing_under_load(town) -> None:
    async with town.cluster(), town.controller():
        replicas = await grown(town)
        victim: list[str] = []

        def half_blind(uid: str, sample: EngineSample) -> EngineSample:
            victim.append(uid) if not victim else None
            return without(*EVERY_SERIES)(uid, sample) if uid == victim[0] else sample

        town.engines.distort = half_blind
        await town.after(LONG_S)

        assert await town.replicas() >= replicas
        assert (await town.status())["replicas"]["blind"] == 1


async def test_an_api_server_that_is_away_shrinks_nothing_and_is_caught_up_with(town) -> None:
    async with town.cluster(), town.controller() as client:
        replicas = await grown(town)
        client.down = True
        town.engines.requests = lambda _now_s: 0.0
        await town.after(LONG_S)
        assert await town.replicas() == replicas

        town.engines.requests = lambda _now_s: 2 * LOAD
        client.down = False
        await town.after(SETTLED_S)
        assert await town.replicas() > replicas


async def test_pods_that_nobody_confirms_shrink_nothing_and_why_says_so(town) -> None:
    """Watches break and stay broken while patches pass: what is known of pods grows old."""
    from autoscaler.errors import Unreachable

    async with town.cluster(), town.controller() as client:
        replicas = await grown(town)
        gone = Unreachable(0, "Unreachable", "no watches today")
        client.refuse = lambda verb, _path: gone if verb in ("list", "watch") else None
        client.break_watches()
        town.engines.requests = lambda _now_s: 4.0
        await town.after(LONG_S)

        assert await town.replicas() == replicas
        steps = (await town.status())["decision"]["steps"]
        assert "the API server does not answer" in steps[-1]["detail"]


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0], ids=["an hour ahead", "an hour back"])
async def test_a_clock_that_jumps_shrinks_nothing(town, jump_s: float) -> None:
    """`WallClock` does not jump; a host restored from a snapshot, or another controller's host, may."""
    async with town.cluster(), town.controller():
        replicas = await grown(town)
        # Load goes, and would be followed down after the stabilisation window of 60 s, but not before.
        town.engines.requests = lambda _now_s: 4.0
        await town.after(20.0)
        town.clock.jump(jump_s)
        await town.after(20.0)

        assert await town.replicas() == replicas


async def test_load_that_is_really_gone_does_shrink(town) -> None:
    """The counter-proof: without trouble the same fleet comes down, one at a time."""
    async with town.cluster(), town.controller():
        replicas = await grown(town)
        town.engines.requests = lambda _now_s: 4.0
        await town.after(LONG_S)

        assert await town.replicas() < replicas
        changes = [c for c in (await town.status())["recentChanges"] if c["after"] < c["before"]]
        assert all(change["before"] - change["after"] == 1 for change in changes)


async def test_nan_never_reaches_a_window() -> None:
    """NaN stops at the catalog, as every non-finite gauge does."""
    from metrics.catalog import read_sample

    page = b"vllm:num_requests_running NaN\nvllm:num_requests_waiting 3\n"
    sample = read_sample(page, observed_at_s=1.0)

    assert sample.running_requests is None
    assert not math.isnan(sample.waiting_requests or 0.0)


async def numbers(town, *, off_s: float) -> list[int]:
    """Every number of a ramp, where the controller's machine has its clock off by so much."""
    town.engines.distort = lambda _uid, sample: replace(sample, observed_at_s=sample.observed_at_s + off_s)
    client, clock = town.client(), type(town)().clock
    client.ahead_s = -off_s
    clock.jump(off_s)
    seen: list[int] = []
    async with town.cluster(), town.controller(client=client, clock=clock):
        await town.deploy(replicas=1)
        await town.after(60.0)
        town.engines.requests = lambda _now_s: LOAD
        for _ in range(100):
            seen.append(await town.replicas())
            await town.after(1.0)
    return seen


@pytest.mark.parametrize("off_s", [600.0, -600.0], ids=["ahead", "behind"])
async def test_a_clock_that_is_wrong_orders_no_pod_more_and_none_less(town, off_s: float) -> None:
    """Pods are stamped by the server; held against a clock ten minutes ahead, each that starts would be overdue."""
    right = await numbers(town, off_s=0.0)
    wrong = await numbers(type(town)(), off_s=off_s)

    assert wrong[-1] == max(wrong) == right[-1]
