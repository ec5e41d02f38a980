"""The wake queue: earliest first, each key once, never twice at a time."""

import asyncio
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.queue import HURRIED_IN_A_ROW_MAX, SPACING_S, Wake, WakeQueue
from metrics.clock import ManualClock
from simulations.cluster.workloads.settle import LoopClock


@pytest.fixture
def clock() -> LoopClock:
    return LoopClock(1000.0)


@pytest.fixture
def queue(clock: LoopClock) -> WakeQueue:
    return WakeQueue(clock)


async def test_keys_come_when_they_are_due_earliest_first(queue: WakeQueue, clock: LoopClock) -> None:
    for key, delay_s in (("late", 30.0), ("early", 10.0), ("middle", 20.0)):
        queue.wake_at(key, clock.now_s() + delay_s)

    taken = [(await queue.take(), clock.now_s() - 1000.0) for _ in range(3)]

    assert taken == [(Wake("early", None), 10.0), (Wake("middle", None), 20.0), (Wake("late", None), 30.0)]


async def test_a_hundred_wakes_are_one_pass(queue: WakeQueue, clock: LoopClock) -> None:
    for _ in range(100):
        queue.wake("a")
    first = await queue.take()
    queue.done("a")

    assert first == Wake("a", 1000.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await queue.take()


async def test_the_first_signal_is_the_one_that_waits(queue: WakeQueue, clock: LoopClock) -> None:
    queue.wake("a")
    await queue.take()
    queue.done("a")
    await clock.sleep(0.1)
    queue.wake("a")
    await clock.sleep(0.1)
    queue.wake("a")

    assert await queue.take() == Wake("a", 1000.1)


async def test_a_key_that_is_held_is_handed_out_once_it_is_done(queue: WakeQueue, clock: LoopClock) -> None:
    queue.wake("a")
    await queue.take()
    queue.wake("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await queue.take()
    queue.done("a")

    assert (await queue.take()).key == "a"


async def test_two_passes_start_at_least_the_spacing_apart(queue: WakeQueue, clock: LoopClock) -> None:
    starts = []
    for _ in range(4):
        queue.wake("a")
        await queue.take()
        starts.append(clock.now_s())
        queue.done("a")

    assert [after - before for before, after in itertools.pairwise(starts)] == [SPACING_S] * 3


async def test_an_earlier_wake_wins_and_a_later_one_changes_nothing(queue: WakeQueue, clock: LoopClock) -> None:
    queue.wake_at("a", clock.now_s() + 100.0)
    queue.wake_at("a", clock.now_s() + 10.0)
    queue.wake_at("a", clock.now_s() + 50.0)
    await queue.take()

    assert clock.now_s() == 1010.0
    assert len(queue) == 0


async def test_a_forgotten_key_does_not_come(queue: WakeQueue, clock: LoopClock) -> None:
    queue.wake_at("gone", clock.now_s() + 1.0)
    queue.wake_at("stays", clock.now_s() + 2.0)
    queue.forget("gone")

    assert (await queue.take()).key == "stays"


async def test_a_wake_cuts_a_long_wait_short(queue: WakeQueue, clock: LoopClock) -> None:
    queue.wake_at("later", clock.now_s() + 1000.0)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(queue.take())
        await clock.sleep(3.0)
        queue.wake("now")

    assert taking.result() == Wake("now", 1003.0)


async def test_a_closed_queue_hands_out_nothing_more(queue: WakeQueue, clock: LoopClock) -> None:
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(queue.take())
        await clock.sleep(1.0)
        queue.wake_at("a", clock.now_s() + 1.0)
        queue.close()

    assert taking.result() is None
    assert await queue.take() is None


async def test_load_overtakes_what_only_time_asks_for(queue: WakeQueue, clock: LoopClock) -> None:
    for i in range(100):
        queue.wake_at(f"periodic-{i:02d}", clock.now_s())
    await clock.sleep(1.0)
    queue.wake("changed")
    queue.hurry("loaded")
    queue.hurry("periodic-77")

    assert [await queue.take() for _ in range(3)] == [
        Wake("periodic-77", 1001.0),
        Wake("loaded", 1001.0),
        Wake("periodic-00", None),
    ]


async def test_a_key_that_hurries_keeps_its_spacing(queue: WakeQueue, clock: LoopClock) -> None:
    queue.wake("a")
    await queue.take()
    queue.hurry("a")
    queue.done("a")
    await queue.take()

    assert clock.now_s() == 1000.0 + SPACING_S
    assert len(queue) == 0


async def turns(queue: WakeQueue, clock: ManualClock, turns_max: int, *, hurry_again: bool) -> list[str]:
    """Who is served, one after another."""
    taken: list[str] = []
    while len(queue) and len(taken) < turns_max and (wake := await queue.take()) is not None:
        taken.append(wake.key)
        queue.done(wake.key)
        clock.advance(0.001)
        if hurry_again and wake.key.startswith("loaded"):
            queue.hurry(wake.key)
    return taken


@given(
    loaded=st.sets(st.integers(0, 99), max_size=40),
    others=st.sets(st.integers(0, 99), max_size=40),
    hurry_again=st.booleans(),
)
def test_whoever_hurries_is_soon_served_and_nobody_starves(
    loaded: set[int], others: set[int], hurry_again: bool
) -> None:
    """Also where those who hurry come back as soon as they were served."""
    clock = ManualClock(now_s=0.0)
    queue = WakeQueue(clock, spacing_s=0.0)
    for number in others:
        queue.wake(f"other-{number}")
    for number in loaded:
        queue.hurry(f"loaded-{number}")
    loaded_by = math.ceil(len(loaded) * (1 + 1 / HURRIED_IN_A_ROW_MAX))
    others_by = len(others) * (1 + HURRIED_IN_A_ROW_MAX)

    taken = asyncio.run(turns(queue, clock, max(loaded_by, others_by), hurry_again=hurry_again))

    assert {f"loaded-{number}" for number in loaded} <= set(taken[:loaded_by])
    assert {f"other-{number}" for number in others} <= set(taken[:others_by])
