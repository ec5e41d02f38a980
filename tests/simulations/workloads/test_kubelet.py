"""A pod's life on a node: phases of its start, its end, crashes, lost nodes."""

from typing import Any

import pytest

from autoscaler.policy.types import Tier
from simulations.cluster.api import ENDPOINT_SLICES, NODES, PODS, SERVICES, ApiError, Object
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.workloads import FixedStartup, NodeSpec
from simulations.cluster.workloads.conditions import holds
from simulations.cluster.workloads.kubelet import METRICS_PORT
from simulations.cluster.workloads.pods import is_ready, restarts_of

ONE_NODE = [NodeSpec(name="n0", gpus=4)]
SLOW = FixedStartup(image_pull_s=30.0, cold_weights_s=100.0, warm_weights_s=10.0, load_s=20.0)


def stage(pod: Object) -> tuple[str, str, bool]:
    """Phase, what the container does, readiness."""
    statuses = pod["status"].get("containerStatuses")
    state = statuses[0]["state"] if statuses else {}
    doing = state["waiting"]["reason"] if "waiting" in state else next(iter(state), "")
    return pod["status"]["phase"], doing, is_ready(pod)


async def only_pod(cluster) -> Object:
    (pod,) = await cluster.pods()
    return pod


async def test_a_cold_start_goes_through_image_weights_and_load(cluster_of) -> None:
    cluster = cluster_of(ONE_NODE, startup=SLOW)
    stages = []
    async with cluster.run():
        await cluster.deploy(replicas=1)
        for pause_s in (0, 29, 2, 98, 2, 18, 2):
            await cluster.clock.sleep(pause_s)
            stages.append(stage(await only_pod(cluster)))

    assert stages == [
        ("Pending", "ContainerCreating", False),
        ("Pending", "ContainerCreating", False),
        ("Pending", "PodInitializing", False),
        ("Pending", "PodInitializing", False),
        ("Running", "running", False),
        ("Running", "running", False),
        ("Running", "running", True),
    ]


async def test_a_warm_start_pays_neither_image_nor_cold_weights(cluster_of) -> None:
    cluster = cluster_of(ONE_NODE, startup=SLOW)
    async with cluster.run():
        await cluster.deploy(replicas=1)
        await cluster.clock.sleep(151)
        await cluster.scale(2)
        await cluster.clock.sleep(28)
        early = await cluster.names(is_ready)
        await cluster.clock.sleep(3)
        late = await cluster.names(is_ready)

    assert len(early) == 1
    assert len(late) == 2


async def test_a_ready_pod_shows_all_that_others_read(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=1)
        pod = await only_pod(cluster)

    for condition in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        assert holds(pod, condition)
    status = pod["status"]
    assert status["podIP"].startswith("127.")
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    (container,) = status["containerStatuses"]
    assert (container["name"], container["ready"], container["restartCount"]) == ("kserve-container", True, 0)


async def test_every_pod_has_an_address_of_its_own(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=5)
        addresses = {pod["status"]["podIP"] for pod in await cluster.pods()}

        used = cluster.workloads.kubelet.addresses.in_use
        await cluster.scale(0)

    assert len(addresses) == used == 5
    assert cluster.workloads.kubelet.addresses.in_use == 0


async def test_where_only_one_address_exists_pods_get_ports_and_say_so(cluster_of, one_address) -> None:
    cluster = cluster_of(ONE_NODE)
    cluster.workloads.kubelet.addresses = one_address
    async with cluster.run():
        await cluster.deploy(replicas=3)
        pods = await cluster.pods()

    assert {pod["status"]["podIP"] for pod in pods} == {"127.0.0.1"}
    ports = {pod["metadata"]["annotations"][METRICS_PORT] for pod in pods}
    assert len(ports) == 3
    assert "8080" not in ports


async def endpoints(cluster) -> dict[str, tuple[bool, bool, bool]]:
    """Ready, serving, terminating of each pod in the slice of the Service."""
    (one,) = await cluster.api.list(ENDPOINT_SLICES, "default")
    names = ("ready", "serving", "terminating")
    return {
        endpoint["targetRef"]["name"]: tuple(endpoint["conditions"][name] for name in names)
        for endpoint in one["endpoints"]
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "llm", "namespace": "default"},
    "spec": {"selector": {"app": "llm"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
}


async def test_a_deleted_pod_leaves_the_endpoints_at_once_and_ends_in_its_own_time(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime(stops_after_s=12.0)
    cluster = cluster_of(ONE_NODE, runtime=runtime)
    async with cluster.run():
        await cluster.api.create(SERVICES, SERVICE)
        await cluster.deploy(replicas=2)
        before = await endpoints(cluster)
        victim, other = sorted(before)
        await cluster.api.delete(PODS, "default", victim)
        await cluster.settle()
        during = await endpoints(cluster)
        await cluster.clock.sleep(11)
        still_there = await cluster.names()
        await cluster.clock.sleep(2)
        gone = await cluster.names()

    assert before == {victim: (True, True, False), other: (True, True, False)}
    assert during[victim] == (False, True, True)
    assert during[other] == (True, True, False)
    assert victim in still_there
    assert victim not in gone
    assert runtime.containers[victim].log == ["terminate 30.0"]


async def test_a_container_that_ignores_sigterm_is_killed_after_the_grace_period(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime(stops_after_s=None)
    cluster = cluster_of(ONE_NODE, runtime=runtime)
    async with cluster.run():
        await cluster.deploy(replicas=1)
        (victim,) = await cluster.names()
        await cluster.api.delete(PODS, "default", victim, 5)
        await cluster.clock.sleep(6)
        in_grace = await cluster.names()
        await cluster.clock.sleep(3)
        after = await cluster.names()

    assert victim in in_grace
    assert victim not in after
    assert runtime.containers[victim].log == ["terminate 5.0", "kill"]


async def test_a_pod_removed_by_force_takes_its_container_along(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime(stops_after_s=None)
    cluster = cluster_of(ONE_NODE, runtime=runtime)
    async with cluster.run():
        await cluster.deploy(replicas=1)
        (victim,) = await cluster.names()
        await cluster.api.delete(PODS, "default", victim, 0)
        await cluster.clock.sleep(4)

    assert runtime.containers[victim].exited.is_set()


async def test_a_pod_deleted_while_it_starts_never_runs(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime()
    cluster = cluster_of(ONE_NODE, runtime=runtime, startup=SLOW)
    async with cluster.run():
        await cluster.deploy(replicas=1)
        await cluster.scale(0)
        names = await cluster.names()

    assert names == set()
    assert runtime.containers == {}


async def test_a_crashed_container_comes_back_with_growing_patience(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime()
    cluster = cluster_of(ONE_NODE, runtime=runtime)
    seen = []
    async with cluster.run():
        await cluster.deploy(replicas=1)
        (name,) = await cluster.names()
        for backoff_s in (10, 20):
            runtime.containers[name].exited.set()
            await cluster.settle()
            crashed = await only_pod(cluster)
            await cluster.clock.sleep(backoff_s - 1)
            waiting = await only_pod(cluster)
            await cluster.clock.sleep(2)
            back = await only_pod(cluster)
            seen.append((stage(crashed), is_ready(waiting), is_ready(back), restarts_of(back)))

    crashed = ("Running", "CrashLoopBackOff", False)
    assert seen == [(crashed, False, True, 1), (crashed, False, True, 2)]


async def test_a_container_that_cannot_start_is_told_with_its_reason(cluster_of, slow_runtime) -> None:
    cluster = cluster_of(ONE_NODE, runtime=slow_runtime(failure="no such model"))
    async with cluster.run():
        await cluster.deploy(replicas=1)
        pod = await only_pod(cluster)

    (container,) = pod["status"]["containerStatuses"]
    assert container["state"]["waiting"] == {"reason": "CrashLoopBackOff", "message": "no such model"}


async def test_a_lost_node_loses_its_pods_at_once_and_they_come_up_elsewhere(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime(stops_after_s=None)
    cluster = cluster_of([NodeSpec(name="n0", gpus=1), NodeSpec(name="n1", gpus=1)], runtime=runtime)
    async with cluster.run():
        await cluster.deploy(replicas=2)
        lost = {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in await cluster.pods()}["n0"]
        await cluster.api.delete(NODES, "", "n0")
        await cluster.clock.sleep(3)
        await cluster.settle()
        pods = await cluster.pods()

    assert runtime.containers[lost].exited.is_set()
    assert {pod["spec"].get("nodeName") for pod in pods} == {"n1", None}


async def test_a_pod_that_was_never_placed_goes_without_grace(cluster_of) -> None:
    cluster = cluster_of([])
    async with cluster.run():
        await cluster.deploy(replicas=1)
        await cluster.scale(0)

        assert await cluster.pods() == []


async def test_containers_end_with_the_kubelet(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime()
    cluster = cluster_of(ONE_NODE, runtime=runtime)
    async with cluster.run():
        await cluster.deploy(replicas=3)

    assert len(runtime.containers) == 3
    assert all(container.exited.is_set() for container in runtime.containers.values())


@pytest.mark.parametrize("field", ["image_pull_s", "cold_weights_s", "load_s"])
def test_a_start_cannot_take_negative_time(field: str) -> None:
    with pytest.raises(ValueError, match="must be ≥ 0"):
        FixedStartup(**{field: -1.0}).phases({}, node="n", has_image=False, tier=Tier.COLD)


class AwayApi:
    """An API that cannot be written to for a while."""

    def __init__(self, api: LocalApi) -> None:
        self._api = api
        self.is_away = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._api, name)

    async def patch(self, *args: Any) -> Object:
        if self.is_away:
            raise ApiError(503, "ServiceUnavailable", "away")
        return await self._api.patch(*args)


async def test_an_api_that_is_away_stops_no_container_and_hears_of_it_later(cluster_of, slow_runtime) -> None:
    runtime = slow_runtime()
    cluster = cluster_of(ONE_NODE, runtime=runtime, startup=FixedStartup(load_s=10.0))
    api = AwayApi(cluster.api)
    cluster.workloads.mirror.api = api
    async with cluster.run():
        await cluster.deploy(replicas=1)
        api.is_away = True
        await cluster.clock.sleep(60)
        unheard = await only_pod(cluster)
        (container,) = runtime.containers.values()
        assert not container.exited.is_set()
        api.is_away = False
        await cluster.clock.sleep(40)
        heard = await only_pod(cluster)

    assert not is_ready(unheard)
    assert is_ready(heard)
    assert restarts_of(heard) == 0
