"""Deployments become pods, step by step, within their bounds."""

from collections.abc import Mapping, Sequence

import pytest

from simulations.cluster.api import DEPLOYMENTS, PODS, REPLICA_SETS, ApiError, Object, Resource
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.workloads import FixedStartup
from simulations.cluster.workloads.deployment import REVISION, TEMPLATE_HASH
from simulations.cluster.workloads.pods import is_ready


def conditions(deployment: Object) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in deployment["status"]["conditions"]}


def next_image(deployment: Object) -> Object:
    template = deployment["spec"]["template"]
    container = template["spec"]["containers"][0]
    container["image"] += "-next"
    return template


async def replica_sets(cluster) -> dict[str, int]:
    """Size by revision."""
    found = await cluster.api.list(REPLICA_SETS, "default")
    return {one["metadata"]["annotations"][REVISION]: one["spec"]["replicas"] for one in found}


async def test_a_deployment_becomes_ready_pods(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=4)

        pods = await cluster.pods()
        deployment = await cluster.deployment()

    assert len(pods) == 4
    assert all(map(is_ready, pods))
    status = deployment["status"]
    assert [status[name] for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")] == [4] * 4
    assert "unavailableReplicas" not in status
    assert status["observedGeneration"] == deployment["metadata"]["generation"]
    assert conditions(deployment) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert deployment["metadata"]["annotations"][REVISION] == "1"
    assert all(pod["metadata"]["labels"][TEMPLATE_HASH] in pod["metadata"]["name"] for pod in pods)


async def test_scaling_keeps_the_pods_that_stay_and_the_replica_set(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=3)
        three = await cluster.names()
        await cluster.scale(6)
        six = await cluster.names()
        await cluster.scale(2)
        two = await cluster.names()
        await cluster.scale(0)
        none = await cluster.names()
        deployment = await cluster.deployment()

        assert await replica_sets(cluster) == {"1": 0}

    assert three < six
    assert len(six) == 6
    assert two < six
    assert len(two) == 2
    assert none == set()
    assert conditions(deployment)["Available"] == ("True", "MinimumReplicasAvailable")
    assert "replicas" not in deployment["status"]


async def test_a_changed_template_rolls_over_within_surge_and_unavailable(cluster_of) -> None:
    cluster = cluster_of(startup=FixedStartup(load_s=7.0))
    totals, readies = [], []
    async with cluster.run():
        await cluster.deploy(replicas=4)
        await cluster.clock.sleep(10)
        old = await cluster.names()
        await cluster.change(template=next_image(await cluster.deployment()))
        for _ in range(60):
            pods = [pod for pod in await cluster.pods() if "deletionTimestamp" not in pod["metadata"]]
            totals.append(len(pods))
            readies.append(sum(map(is_ready, pods)))
            await cluster.clock.sleep(1)
        new = await cluster.names()

        assert await replica_sets(cluster) == {"1": 0, "2": 4}

    assert max(totals) == 5  # maxSurge 25 % of 4
    assert min(readies) == 3  # maxUnavailable 25 % of 4
    assert readies[-1] == totals[-1] == 4
    assert not old & new


async def test_a_template_that_comes_back_takes_its_old_replica_set(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=2)
        first = (await cluster.deployment())["spec"]["template"]
        await cluster.change(template=next_image(await cluster.deployment()))
        await cluster.change(template=first)
        deployment = await cluster.deployment()

        assert await replica_sets(cluster) == {"2": 0, "3": 2}

    assert deployment["metadata"]["annotations"][REVISION] == "3"


async def test_history_is_bounded(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=1, revisionHistoryLimit=2)
        for _ in range(5):
            await cluster.change(template=next_image(await cluster.deployment()))

        assert await replica_sets(cluster) == {"4": 0, "5": 0, "6": 1}


async def test_recreate_waits_for_the_last_old_pod(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=3, strategy={"type": "Recreate"})
        old = await cluster.names()
        await cluster.change(template=next_image(await cluster.deployment()))
        new = await cluster.names()

    assert len(new) == 3
    assert not old & new


async def test_a_paused_deployment_scales_and_does_not_roll(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=2)
        await cluster.change(paused=True)
        await cluster.change(template=next_image(await cluster.deployment()))
        await cluster.scale(4)
        while_paused = await replica_sets(cluster)
        await cluster.change(paused=None)

        assert while_paused == {"1": 4}
        assert await replica_sets(cluster) == {"1": 0, "2": 4}


async def test_scaling_up_makes_a_deployment_unavailable_until_the_pods_are_ready(cluster_of) -> None:
    cluster = cluster_of(startup=FixedStartup(load_s=60.0))
    async with cluster.run():
        await cluster.deploy(replicas=1)
        await cluster.clock.sleep(61)
        before = conditions(await cluster.deployment())
        await cluster.scale(2)
        during = conditions(await cluster.deployment())
        await cluster.clock.sleep(61)
        after = conditions(await cluster.deployment())

    assert before["Available"] == after["Available"] == ("True", "MinimumReplicasAvailable")
    assert during["Available"] == ("False", "MinimumReplicasUnavailable")
    assert during["Progressing"] == ("True", "NewReplicaSetAvailable")  # scaling is no roll-out


async def test_a_first_start_longer_than_the_deadline_is_told_and_forgiven(cluster_of) -> None:
    cluster = cluster_of(startup=FixedStartup(load_s=900.0))
    async with cluster.run():
        await cluster.deploy(replicas=1)
        await cluster.clock.sleep(598)
        in_time = conditions(await cluster.deployment())
        await cluster.clock.sleep(5)
        late = conditions(await cluster.deployment())
        await cluster.clock.sleep(300)
        ready = conditions(await cluster.deployment())

    assert in_time["Progressing"] == ("True", "ReplicaSetUpdated")
    assert late["Progressing"] == ("False", "ProgressDeadlineExceeded")
    assert ready["Progressing"] == ("True", "NewReplicaSetAvailable")


async def test_min_ready_seconds_delay_availability(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=1, minReadySeconds=30)
        early = (await cluster.deployment())["status"]
        await cluster.clock.sleep(31)
        late = (await cluster.deployment())["status"]

    assert early["readyReplicas"] == 1
    assert early.get("availableReplicas", 0) == 0
    assert late["availableReplicas"] == 1


async def test_a_deleted_deployment_takes_everything_along(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=3)
        await cluster.api.delete(DEPLOYMENTS, "default", "llm")
        await cluster.settle()

        assert await cluster.pods() == []
        assert await replica_sets(cluster) == {}


async def test_a_lost_pod_is_replaced(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=2)
        lost = min(await cluster.names())
        await cluster.api.delete(PODS, "default", lost, 0)
        await cluster.settle()
        after = await cluster.names()

    assert len(after) == 2
    assert lost not in after


class QuotaApi:
    """An API that refuses pods beyond a number, as a ResourceQuota does."""

    def __init__(self, api: LocalApi) -> None:
        self._api = api
        self.pods = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._api, name)

    async def create(self, resource: Resource, obj: Object) -> Object:
        if resource == PODS and len(await self._api.list(PODS)) >= self.pods:
            raise ApiError(403, "Forbidden", "exceeded quota: pods")
        return await self._api.create(resource, obj)


async def test_pods_that_the_api_refuses_are_told_and_come_when_it_allows_them(cluster_of) -> None:
    cluster = cluster_of()
    quota = QuotaApi(cluster.api)
    cluster.workloads.mirror.api = quota
    quota.pods = 1
    async with cluster.run():
        await cluster.deploy(replicas=3)
        refused = await cluster.deployment()
        quota.pods = 3
        await cluster.clock.sleep(31)
        await cluster.settle()
        allowed = await cluster.deployment()

    assert refused["status"]["replicas"] == 1
    assert conditions(refused)["ReplicaFailure"] == ("True", "FailedCreate")
    assert allowed["status"]["readyReplicas"] == 3
    assert "ReplicaFailure" not in conditions(allowed)


@pytest.mark.parametrize("deployments", [10, 40])
async def test_work_grows_with_the_pods_and_not_with_their_square(cluster_of, deployments: int, new_deployment) -> None:
    cluster = cluster_of()
    names: Sequence[str] = [f"llm-{number}" for number in range(deployments)]
    async with cluster.run():
        await cluster.settle()
        before = await version(cluster)
        for name in names:
            await cluster.api.create(DEPLOYMENTS, new_deployment(5, name=name, gpus=0))
        await cluster.settle()
        writes = await version(cluster) - before

    pods = await cluster.pods()
    assert sum(map(is_ready, pods)) == 5 * deployments
    assert writes <= 8 * len(pods)


async def version(cluster) -> int:
    """How many writes the API has seen."""
    marker: Mapping[str, object] = {"metadata": {"generateName": "marker-", "namespace": "default"}}
    made = await cluster.api.create(Resource("", "v1", "configmaps", "ConfigMap"), dict(marker))
    return int(made["metadata"]["resourceVersion"])
