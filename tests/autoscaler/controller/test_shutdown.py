"""What a controller still says when it is told to end."""

from datetime import datetime

import pytest

NAMES = tuple(f"llm-{number}" for number in range(6))
ENDS_WITHIN_S = 5.0


def is_status(path: str) -> bool:
    return path.endswith("/status")


async def learned_at_s(town, name: str) -> float:
    return datetime.fromisoformat((await town.status(name))["learnedTime"]).timestamp()


async def stopped(town, takes_s: float) -> float:
    """Six services run for a while under a controller that then ends, while a status takes so long; when it began to.

    None is learned again within its last half minute by itself.
    """
    async with town.cluster(), town.controller() as client:
        for name in NAMES:
            await town.deploy(name=name)
        await town.after(100)
        client.takes_s = lambda _verb, path: takes_s if is_status(path) else 0.0
        client.requests.clear()
        stopped_s = town.clock.now_s()
    assert town.clock.now_s() - stopped_s <= ENDS_WITHIN_S
    return stopped_s


@pytest.mark.parametrize("takes_s", [0.0, 0.5, 3.4], ids=["at once", "half a second each", "as long as there is"])
async def test_a_controller_that_ends_saves_what_it_learned_of_every_service(town, takes_s: float, caplog) -> None:
    stopped_s = await stopped(town, takes_s)

    assert [await learned_at_s(town, name) >= int(stopped_s) for name in NAMES] == [True] * len(NAMES)
    assert "not written" not in caplog.text


async def test_a_server_that_is_too_slow_is_not_waited_for_and_what_is_lost_is_counted(town, caplog) -> None:
    stopped_s = await stopped(town, 3.6)

    assert not [name for name in NAMES if await learned_at_s(town, name) >= int(stopped_s)]
    assert f"{len(NAMES)} statuses were not written within 3.5 s" in caplog.text


async def test_what_was_saved_longest_ago_is_saved_first(town) -> None:
    async with town.cluster(), town.controller() as client:
        for name in reversed(NAMES):
            await town.deploy(name=name)
            await town.after(5)
        await town.after(100)
        saved = {name: await learned_at_s(town, name) for name in NAMES}
        client.requests.clear()

    order = [path.split("/")[-2] for verb, path in client.requests if verb == "patch" and is_status(path)]
    assert sorted(order) == sorted(NAMES)
    assert order == sorted(order, key=saved.__getitem__)
    assert len(set(saved.values())) > 1
