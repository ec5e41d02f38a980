"""Two controllers and one lease on a real API server: stolen, contested, and with a wrong clock on one machine."""

import pytest

from autoscaler.permissions import NAMESPACE
from simulations.cluster.api import LEASES

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

CLOCK_OFF_S = 600.0


async def steal(town, thief: str) -> None:
    await town.api.patch(LEASES, NAMESPACE, "warmtide-controller", {"spec": {"holderIdentity": thief}})


async def leaders(*controllers) -> int:
    """How many believe that they lead."""
    return sum([await controller.leads() for controller in controllers])


async def test_a_stolen_lease_stops_the_leader_at_once_and_never_are_there_two(town) -> None:
    """The thief never renews: after its fifteen seconds one of the two takes over, and starts from what stands."""
    async with town.controller("one") as one, town.controller("two") as two:
        await town.enrol(steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        assert await leaders(one, two) == 1
        await steal(town, "thief")

        async def nobody_leads() -> bool:
            return await leaders(one, two) == 0

        await town.until(nobody_leads, within_s=5)
        town.crowd.wanted = 14
        most = 0
        stolen_s = town.clock.now_s()
        while (await town.leader()) == "thief" and town.clock.now_s() - stolen_s < 30:
            assert await town.replicas() == 2  # nobody may write
            most = max(most, await leaders(one, two))
            await town.clock.sleep(0.2)
        held_s = town.clock.now_s() - stolen_s
        await town.until_size(4)

        assert most == 0
        assert await leaders(one, two) == 1
        assert 8 < held_s < 25
        await town.check_only_grew()
        assert one.is_alive
        assert two.is_alive


@pytest.mark.parametrize("off_s", [-CLOCK_OFF_S, CLOCK_OFF_S], ids=["behind", "ahead"])
async def test_a_machine_whose_clock_is_wrong_scales_as_any_other(town, off_s: float) -> None:
    """Its pods were born in its future, or long ago and late; its lease and its status carry times of its own."""
    async with town.controller(clock_off_s=off_s) as one:
        await there_and_back(town)

        grown = town.seen[: town.seen.index(4) + 1]
        assert grown == sorted(grown)
        assert max(town.seen) == 4
        assert "Traceback" not in one.log


async def there_and_back(town) -> None:
    await town.enrol(steady=True)
    town.crowd.wanted = 5
    await town.until_size(2)
    town.crowd.wanted = 14
    await town.until_size(4)
    await town.keeps(5)
    town.crowd.wanted = 0
    town.crowd.hang_up()
    await town.until_size(1, within_s=60)


@pytest.mark.parametrize("off_s", [-CLOCK_OFF_S, CLOCK_OFF_S], ids=["behind", "ahead"])
async def test_a_leader_with_a_wrong_clock_hands_over_and_nothing_shrinks(town, off_s: float) -> None:
    """What it learned is stamped ten minutes off; its lease, too. Whoever comes next lowers nothing."""
    async with town.controller("wrong", clock_off_s=off_s) as wrong:
        await town.enrol(steady=True)
        town.crowd.wanted = 9
        await town.until_size(3)
        async with town.controller("right") as right:
            await town.until(lambda: is_up(right))
            await town.keeps(4)
            assert (await wrong.leads(), await right.leads()) == (True, False)
            assert await wrong.stop() == 0
            await town.until(right.leads, within_s=10)
            town.crowd.wanted = 14
            await town.until_size(4)
            await town.keeps(8)

            await town.check_only_grew()
            assert town.seen[-1] == 4


async def is_up(controller) -> bool:
    return (await controller.page("readyz"))[0] == 200
