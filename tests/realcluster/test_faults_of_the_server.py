"""An API server or an etcd that dies, forgets or sends away: nothing shrinks, nobody storms, all comes back."""

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
        await town.enrol()
        town.crowd.wanted = 6
        await town.until_size(2)
        with town.plane.dead(program):
            town.crowd.wanted = 14
            requests_per_s = await town.rate(controller, DOWN_S)
        await town.until_size(4, within_s=60)
        await town.keeps(5)

        print(f"{program} dead for {DOWN_S} s: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert controller.is_alive
        assert town.seen == sorted(town.seen)
        assert town.seen[-1] == 4
        assert requests_per_s <= REQUESTS_PER_S_MAX
        assert town.crowd.broken == []


async def test_a_controller_whose_watches_fell_behind_a_compaction_lists_again(town) -> None:
    """Its line is silent while pods come and go, etcd is compacted and the API server forgets: all is 410."""
    host, _, port = town.server.removeprefix("https://").partition(":")
    async with FaultyLine(host, int(port)) as line, town.controller(server=f"https://127.0.0.1:{line.port}") as one:
        await town.enrol(replicas_min=2)
        town.crowd.wanted = 6
        await town.until_size(2)
        relists = await one.metric("warmtide_watch_relists_total")

        line.refuses = True
        line.cut()
        for pod in await town.api.list(PODS, town.space):
            await town.api.delete(PODS, town.space, pod["metadata"]["name"])
        await town.until_size(2)
        await compact(town)
        with town.plane.dead("apiserver"):
            await town.clock.sleep(1.0)
        await town.until(town.ready)
        line.refuses = False
        town.crowd.wanted = 14
        await town.until_size(4, within_s=60)

        assert await one.metric("warmtide_watch_relists_total") > relists
        assert (await town.status())["freshness"]["podsBlind"] == 0  # no ghost of the pods that went
        assert town.seen == sorted(town.seen)


async def compact(town) -> None:
    """Forget every version but the newest."""
    async with aiohttp.ClientSession(town.plane.etcd) as etcd:
        async with etcd.post("/v3/kv/range", json={"key": "AA=="}) as response:
            revision = (await response.json())["header"]["revision"]
        async with etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True}) as response:
            assert response.status == 200, await response.text()


def jail() -> tuple[dict, dict]:
    """Priority and fairness that sends every request of the controller away, but for the watches that are open."""
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


async def test_priority_and_fairness_that_sends_us_away_is_obeyed(town) -> None:
    level, schema = jail()
    async with town.controller() as controller:
        await town.enrol()
        town.crowd.wanted = 6
        await town.until_size(2)
        await town.api.create(PRIORITY_LEVELS, level)
        await town.api.create(FLOW_SCHEMAS, schema)
        try:
            await town.until(lambda: controller.metric("warmtide_api_requests_total", code="429"))
            town.crowd.wanted = 14
            requests_per_s = await town.rate(controller, 14.0)
        finally:
            await town.api.delete(FLOW_SCHEMAS, "", "jail")
            await town.api.delete(PRIORITY_LEVELS, "", "jail")
        in_jail = town.seen[:]
        await town.until_size(4, within_s=60)

        print(f"sent away: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert in_jail[-1] == 2
        assert town.seen == sorted(town.seen)
        assert requests_per_s <= REQUESTS_PER_S_MAX
        assert controller.is_alive
