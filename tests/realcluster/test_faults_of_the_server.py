"""An API server or an etcd that dies, forgets or sends away: nothing shrinks, nobody storms, all comes back."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from autoscaler.permissions import NAMESPACE, SERVICE_ACCOUNT
from simulations.cluster.api import PODS, Resource
from simulations.cluster.faulty_line import FaultyLine

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

# The bar of every fault; the controller's own budget is as much for its first client and next to nothing for the lease.
REQUESTS_PER_S_MAX = 10.0
DOWN_S = 12.0
PRIORITY_LEVELS = Resource(
    "flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", namespaced=False
)
FLOW_SCHEMAS = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", namespaced=False)


@pytest.mark.parametrize("program", ["apiserver", "etcd"])
async def test_a_program_killed_in_a_ramp(town, program: str) -> None:
    """Away for longer than a leader may go without renewing its lease."""
    async with town.controller() as controller:
        await town.enrol(steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        with town.plane.dead(program):
            town.crowd.wanted = 14
            requests_per_s = await town.rate(controller, DOWN_S)
        await town.until_size(4, within_s=60)
        await town.keeps(5)

        print(f"{program} dead for {DOWN_S} s: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert controller.is_alive
        await town.check_only_grew()
        assert town.seen[-1] == 4
        assert requests_per_s <= REQUESTS_PER_S_MAX
        assert town.crowd.broken == []


async def test_a_controller_whose_watches_fell_behind_a_compaction_lists_again(town) -> None:
    """Its line is silent while pods come and go, etcd is compacted and the API server forgets: all is 410."""
    async with FaultyLine(*town.address) as line, town.controller(server=f"https://127.0.0.1:{line.port}") as one:
        await town.enrol(replicas_min=2, steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        relists = await one.metric("warmtide_watch_relists_total")

        line.is_silent = True
        for pod in await town.api.list(PODS, town.space):
            await town.api.delete(PODS, town.space, pod["metadata"]["name"])
        await town.until_size(2)
        await compact(town)
        with town.plane.dead("apiserver"):
            await town.clock.sleep(1.0)
        await town.until(town.ready)
        line.is_silent = False
        line.cut()  # its watches begin again where they were
        town.crowd.wanted = 14
        await town.until_size(4, within_s=60)

        assert await one.metric("warmtide_watch_relists_total") > relists
        assert "410 Expired" in one.log
        await town.until(lambda: sees_all(town, 4))  # and no ghost of the pods that went
        await town.check_only_grew()


async def sees_all(town, pods: int) -> bool:
    freshness = (await town.status()).get("freshness", {})
    return (freshness.get("podsScraped"), freshness.get("podsBlind")) == (pods, 0)


async def compact(town) -> None:
    """Forget every version but the newest."""
    async with aiohttp.ClientSession(town.plane.etcd) as etcd:
        async with etcd.post("/v3/kv/range", json={"key": "AA=="}) as response:
            revision = (await response.json())["header"]["revision"]
        async with etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True}) as response:
            assert response.status == 200, await response.text()


def jail() -> tuple[dict, dict]:
    """One request of the controller's account at a time, any other is sent away; watches that are open stay."""
    limits = {"nominalConcurrencyShares": 0, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}
    level = {
        "metadata": {"name": "jail"},
        "spec": {"type": "Limited", "limited": limits | {"borrowingLimitPercent": 0}},
    }
    account = {"kind": "ServiceAccount", "serviceAccount": {"name": SERVICE_ACCOUNT, "namespace": NAMESPACE}}
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    schema = {
        "metadata": {"name": "jail"},
        "spec": {
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": "jail"},
            "rules": [{"subjects": [account], "resourceRules": [everything]}],
        },
    }
    return level, schema


@asynccontextmanager
async def one_request_that_never_ends(town) -> AsyncIterator[None]:
    """Of the controller's account: the body of an Event that does not come takes the only place there is."""
    host, port = town.address
    head = (
        f"POST /api/v1/namespaces/{town.space}/events HTTP/1.1\r\nHost: {host}\r\nContent-Length: 64\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {await town.token()}\r\n\r\n"
    )
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    while True:
        reader, writer = await asyncio.open_connection(host, port, ssl=anybody)
        writer.write(head.encode())
        try:
            async with asyncio.timeout(0.5):
                await reader.read(1)  # sent away, as another had the place
        except TimeoutError:
            break
        writer.close()
    try:
        yield
    finally:
        writer.transport.abort()


async def test_priority_and_fairness_that_sends_us_away_is_obeyed(town) -> None:
    level, schema = jail()
    async with town.controller() as controller:
        await town.enrol(steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        await town.api.create(PRIORITY_LEVELS, level)
        await town.api.create(FLOW_SCHEMAS, schema)
        try:
            async with one_request_that_never_ends(town):
                await town.until(lambda: controller.metric("warmtide_api_requests_total", code="429"))
                town.crowd.wanted = 14
                requests_per_s = await town.rate(controller, DOWN_S)
        finally:
            await town.api.delete(FLOW_SCHEMAS, "", "jail")
            await town.api.delete(PRIORITY_LEVELS, "", "jail")
        in_jail = town.seen[:]
        await town.until_size(4, within_s=60)

        print(f"sent away: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert in_jail[-1] == 2
        await town.check_only_grew()
        assert requests_per_s <= REQUESTS_PER_S_MAX
        assert controller.is_alive
