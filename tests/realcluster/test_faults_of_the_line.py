"""The network between the controller and a real API server: slow, cut, half-closed, silent."""

from collections.abc import AsyncIterator, Callable

import pytest

from simulations.cluster.api import DEPLOYMENTS
from simulations.cluster.faulty_line import FaultyLine

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

REQUESTS_PER_S_MAX = 10.0
CONNECTIONS_PER_S_MAX = 10.0
BAD_S = 12.0  # longer than a leader may go without renewing its lease


@pytest.fixture
async def line(town) -> AsyncIterator[FaultyLine]:
    async with FaultyLine(*town.address) as it:
        yield it


def delays(line: FaultyLine) -> None:
    line.delay_s = 0.4  # per chunk and direction: a handshake takes seconds


def cuts(line: FaultyLine) -> None:
    line.cut()


def half_closes(line: FaultyLine) -> None:
    line.half_close()


def refuses(line: FaultyLine) -> None:
    line.refuses = True
    line.cut()


def is_silent(line: FaultyLine) -> None:
    line.is_silent = True


async def ramp(town, line: FaultyLine, one, worsen: Callable[[FaultyLine], None]) -> None:
    """Twice the load while the line is bad for longer than a lease lasts; then it is good again."""
    await town.enrol(steady=True)
    town.crowd.wanted = 5
    await town.until_size(2)
    town.crowd.wanted = 14
    worsen(line)
    connections = line.connections
    requests_per_s = await town.rate(one, BAD_S)
    connections_per_s = (line.connections - connections) / BAD_S
    line.delay_s, line.is_silent, line.refuses = 0.0, False, False
    await town.until_size(4, within_s=60)
    await town.keeps(5)

    print(f"{worsen.__name__}: {requests_per_s:.1f} requests/s, {connections_per_s:.1f} connections/s, {town.seen}")
    assert requests_per_s <= REQUESTS_PER_S_MAX
    assert connections_per_s <= CONNECTIONS_PER_S_MAX
    await town.check_only_grew()
    assert town.seen[-1] == 4
    assert one.is_alive


@pytest.mark.parametrize("worsen", [delays, cuts, half_closes, refuses, is_silent])
async def test_a_bad_line_in_a_ramp(town, line: FaultyLine, worsen: Callable[[FaultyLine], None]) -> None:
    async with town.controller(server=f"https://127.0.0.1:{line.port}") as one:
        await ramp(town, line, one, worsen)


async def test_nothing_shrinks_on_pods_that_nobody_confirmed(town, line: FaultyLine) -> None:
    """The load goes while the line is silent: what is known of pods is old, the lease runs out, the number stays."""
    async with town.controller(server=f"https://127.0.0.1:{line.port}") as one:
        await town.enrol()
        town.crowd.wanted = 9
        await town.until_size(3)
        line.is_silent = True
        town.crowd.wanted = 0
        await town.keeps(20)
        while_silent = town.seen[-1]
        line.is_silent = False
        await town.until_size(1, within_s=120)

        assert while_silent == 3
        assert one.is_alive


async def test_a_lost_answer_to_a_scale_is_no_second_step(town, line: FaultyLine) -> None:
    """The patch arrives, its answer does not: the next pass finds the number there and adds nothing to it."""
    async with town.controller(server=f"https://127.0.0.1:{line.port}") as one:
        await town.enrol(steady=True)
        town.crowd.wanted = 2
        await town.until_size(1)
        await town.keeps(2)
        line.delay_s = 1.0
        town.crowd.wanted = 5
        while await town.replicas() < 2:
            await town.clock.sleep(0.05)
        line.cut()
        line.delay_s = 0.0
        await town.keeps(15)

        deployment = await town.api.get(DEPLOYMENTS, town.space, town.deployment)
        assert deployment["spec"]["replicas"] == 2
        assert town.seen == [1, 2], town.told()
        assert (await town.condition("NotContested"))["status"] == "True"
        assert one.is_alive
