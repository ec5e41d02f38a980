"""One writes, the others keep warm; a change of leaders never lowers anything."""

import asyncio
import logging
from contextlib import suppress

import pytest

from autoscaler.errors import Conflict, NamespaceTerminating, Unreachable
from autoscaler.kube.resources import Object
from autoscaler.leader import LEASE_S, RENEW_DEADLINE_S, Election, LeaseName
from simulations.cluster.api import DEPLOYMENTS, LEASES

NAMES = {identity: LeaseName(namespace="default", name="it", identity=identity) for identity in ("one", "two")}


async def holder(town, name: str = "warmtide-controller") -> str:
    return str((await town.api.get(LEASES, "default", name))["spec"]["holderIdentity"])


@pytest.fixture
def candidates(town):
    """Two elections on one cluster, each with a connection of its own, and what each was told."""
    told: dict[str, list[bool]] = {"one": [], "two": []}
    clients = {identity: town.client() for identity in told}
    elections = {
        identity: Election(clients[identity], NAMES[identity], town.clock, told[identity].append) for identity in told
    }
    return elections, clients, told


async def test_the_first_leads_and_the_second_waits(town, candidates) -> None:
    elections, _, told = candidates
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(election.run()) for election in elections.values()]
        await town.after(120)
        for task in tasks:
            task.cancel()

    assert told == {"one": [True], "two": []}
    assert elections["one"].may_write()
    assert not elections["two"].may_write()


async def test_a_leader_that_cannot_renew_stops_before_another_starts(town, candidates) -> None:
    elections, clients, told = candidates
    stopped_at_s = started_at_s = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(election.run()) for election in elections.values()]
        await town.after(20)
        clients["one"].down = True
        cut_at_s = town.clock.now_s()
        while started_at_s is None:
            await town.after(0.1)
            now_s = town.clock.now_s()
            both = elections["one"].may_write() and elections["two"].may_write()
            assert not both
            stopped_at_s = stopped_at_s or (None if elections["one"].may_write() else now_s)
            started_at_s = now_s if elections["two"].may_write() else None
        for task in tasks:
            task.cancel()

    assert stopped_at_s is not None
    assert stopped_at_s - cut_at_s <= RENEW_DEADLINE_S + 0.2
    assert stopped_at_s < started_at_s <= cut_at_s + LEASE_S + 5.0
    assert told["one"] == [True, False]


@pytest.mark.parametrize("skew_s", [3600.0, -3600.0], ids=["an hour ahead", "an hour behind"])
async def test_clocks_that_differ_between_machines_do_not_matter(town, candidates, skew_s: float) -> None:
    elections, clients, _ = candidates
    skewed = type(town.clock)(town.clock.now_s() + skew_s)
    elections["two"] = Election(clients["two"], NAMES["two"], skewed, lambda _leads: None)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(election.run()) for election in elections.values()]
        await town.after(300)
        assert not elections["two"].may_write()
        clients["one"].down = True
        await town.after(RENEW_DEADLINE_S + 0.5)
        assert not elections["two"].may_write()
        await town.after(LEASE_S)
        for task in tasks:
            task.cancel()

    assert elections["two"].may_write()
    assert not elections["one"].may_write()


async def test_a_released_lease_is_taken_at_once(town, candidates) -> None:
    elections, _, told = candidates
    async with asyncio.TaskGroup() as group:
        first = group.create_task(elections["one"].run())
        await town.after(10)
        second = group.create_task(elections["two"].run())
        await town.after(10)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        await elections["one"].release()
        await town.after(3)
        second.cancel()

    assert told == {"one": [True, False], "two": [True]}


async def test_a_leader_renews_without_reading_and_reads_when_somebody_touched_its_lease(town, candidates) -> None:
    elections, clients, _ = candidates
    async with asyncio.TaskGroup() as group:
        task = group.create_task(elections["one"].run())
        await town.after(5)
        clients["one"].requests.clear()
        await town.after(20)
        quiet = [verb for verb, _ in clients["one"].requests]
        await town.api.patch(
            LEASES, NAMES["one"].namespace, NAMES["one"].name, {"metadata": {"annotations": {"a": "b"}}}
        )
        await town.after(5)
        touched = [verb for verb, _ in clients["one"].requests][len(quiet) :]
        assert elections["one"].may_write()
        task.cancel()

    assert set(quiet) == {"patch"}
    assert touched.count("get") == 1


async def test_a_lease_whose_namespace_goes_is_said_once_and_given_up(
    town, candidates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    elections, clients, told = candidates
    async with asyncio.TaskGroup() as group:
        task = group.create_task(elections["one"].run())
        await town.after(20)
        caplog.clear()
        await town.api.delete(LEASES, "default", "it")
        clients["one"].refuse = lambda verb, _path: (
            NamespaceTerminating(403, "", "it goes") if verb == "create" else None
        )
        await town.after(60)
        task.cancel()

    assert told["one"] == [True, False]
    assert [record.levelname for record in caplog.records if "it goes" in record.message] == ["INFO"]


async def test_a_lost_race_for_the_lease_is_no_leadership(town) -> None:
    class Racing:
        """Somebody else is always a moment quicker."""

        async def get(self, path: str) -> Object:
            return {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": ""}}

        async def create(self, path: str, body: Object) -> Object:
            raise Conflict(409, "AlreadyExists", path)

        async def patch(self, path: str, body: Object) -> Object:
            raise Conflict(409, "Conflict", path)

    election = Election(Racing(), NAMES["one"], town.clock, lambda _leads: None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(election.run())
        await town.after(30)
        task.cancel()

    assert not election.may_write()


async def test_a_standby_writes_nothing_and_takes_over_without_lowering(town) -> None:
    """The leader's process dies in the middle of a ramp, a minute after it last saved what it learned."""
    async with town.cluster():
        await town.deploy(replicas=2)
        start_s = town.clock.now_s()
        # 70 are more than eight engines run at once.
        town.engines.requests = lambda now_s: min(70.0, (now_s - start_s) / 3)
        leader, standby = town.client(), town.client()
        seen: list[int] = []
        async with asyncio.TaskGroup() as group:
            first = group.create_task(town.program("one", leader).run(asyncio.Event()))
            await town.after(5)
            second = group.create_task(town.program("two", standby).run(asyncio.Event()))
            await town.after(110)
            assert await holder(town) == "one"
            assert {verb for verb, _ in standby.requests} <= {"get", "list", "watch"}
            leader.down = True  # its last requests never arrive
            first.cancel()
            for _ in range(100):
                seen.append(await town.replicas())
                await town.after(1)
            assert await holder(town) == "two"
            second.cancel()

        assert seen == sorted(seen)
        assert seen[-1] >= 9
        patches = [path for verb, path in standby.requests if verb == "patch" and path.endswith("/scale")]
        assert patches


async def test_state_of_an_earlier_term_is_not_used(town) -> None:
    """A leader that lost its lease and won it again starts from what the API says."""
    async with town.cluster(), town.controller() as client:
        await town.deploy(replicas=2)
        await town.after(30)
        client.down = True
        await town.after(30)
        await town.api.patch(DEPLOYMENTS, "default", "llm", {"spec": {"replicas": 7}}, "scale")
        client.down = False
        await town.after(40)

        assert await town.replicas() == 7


async def test_a_request_that_fails_for_one_service_holds_up_no_other(town) -> None:
    async with town.cluster(), town.controller() as client:
        broken = Unreachable(0, "Unreachable", "not this one")
        client.refuse = lambda verb, path: broken if verb == "patch" and "/sick/" in path else None
        await town.deploy(replicas=1, name="sick")
        await town.deploy(replicas=1, name="well")
        await town.policy(replicas={"min": 3, "max": 8})
        await town.after(10)

        assert await town.replicas("well") == 3
        assert await town.replicas("sick") == 1
        tries = [path for verb, path in client.requests if verb == "patch" and "/sick/scale" in path]
        assert 2 <= len(tries) <= 8

        client.refuse = lambda _verb, _path: None
        await town.after(70)
        assert await town.replicas("sick") == 3
