"""Pods find nodes with room, wait for it, and say what they wait for."""

from simulations.cluster.api import DEPLOYMENTS, NODES, PODS, Object
from simulations.cluster.workloads import NodeSpec
from simulations.cluster.workloads.conditions import of
from simulations.cluster.workloads.pods import is_ready, node_of


def scheduled(pod: Object) -> tuple[str, str, str]:
    condition = of(pod, "PodScheduled") or {}
    return condition["status"], condition.get("reason", ""), condition.get("message", "")


async def waiting(cluster) -> list[Object]:
    return [pod for pod in await cluster.pods() if not node_of(pod)]


async def test_pods_beyond_the_gpus_wait_and_say_why(cluster_of) -> None:
    cluster = cluster_of([NodeSpec(name=f"n{number}", gpus=1) for number in range(4)])
    async with cluster.run():
        await cluster.deploy(replicas=6)
        pods = await cluster.pods()

    placed = [node_of(pod) for pod in pods if node_of(pod)]
    assert sorted(placed) == ["n0", "n1", "n2", "n3"]
    message = (
        "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. no new claims to deallocate, "
        "preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod."
    )
    assert [scheduled(pod) for pod in await waiting(cluster)] == [("False", "Unschedulable", message)] * 2
    assert {pod["status"]["phase"] for pod in await waiting(cluster)} == {"Pending"}


async def test_a_waiting_pod_starts_when_another_is_gone(cluster_of) -> None:
    cluster = cluster_of([NodeSpec(name="n0", gpus=1)])
    async with cluster.run():
        await cluster.deploy(replicas=2)
        running = await cluster.names(is_ready)
        (late,) = await cluster.names(lambda pod: not is_ready(pod))
        await cluster.api.patch(PODS, "default", late, {"metadata": {"annotations": {"mark": "late"}}})
        await cluster.api.delete(PODS, "default", *running)
        await cluster.settle()
        now_running = await cluster.names(is_ready)

    assert now_running == {late}


async def test_a_going_pod_keeps_its_gpu_until_it_is_gone(cluster_of, slow_runtime) -> None:
    cluster = cluster_of([NodeSpec(name="n0", gpus=1)], runtime=slow_runtime(stops_after_s=20.0))
    async with cluster.run():
        await cluster.deploy(replicas=1)
        await cluster.api.delete(PODS, "default", *(await cluster.names()))
        await cluster.settle()
        during = await waiting(cluster)
        await cluster.clock.sleep(21)
        await cluster.settle()
        after = await waiting(cluster)

    assert [scheduled(pod)[:2] for pod in during] == [("False", "Unschedulable")]
    assert after == []


async def test_a_new_node_takes_waiting_pods(cluster_of) -> None:
    cluster = cluster_of([NodeSpec(name="n0", gpus=0)])
    async with cluster.run():
        await cluster.deploy(replicas=1)
        before = await waiting(cluster)
        await cluster.api.patch(NODES, "", "n0", {"status": {"allocatable": {"nvidia.com/gpu": "1"}}}, "status")
        await cluster.settle()
        after = await waiting(cluster)

    assert len(before) == 1
    assert after == []


async def test_a_cordoned_node_gets_nothing_new(cluster_of) -> None:
    cluster = cluster_of([NodeSpec(name="n0", gpus=4), NodeSpec(name="n1", gpus=1)])
    async with cluster.run():
        await cluster.settle()
        await cluster.api.patch(NODES, "", "n0", {"spec": {"unschedulable": True}})
        await cluster.deploy(replicas=2)
        (left,) = await waiting(cluster)

    status, reason, message = scheduled(left)
    assert (status, reason) == ("False", "Unschedulable")
    assert message.startswith("0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) were unschedulable. ")


async def test_pods_spread_over_the_emptier_nodes(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=6)
        nodes = [node_of(pod) for pod in await cluster.pods()]

    assert sorted(nodes) == ["gpu-0"] * 3 + ["gpu-1"] * 3


async def test_a_preferred_node_is_taken_while_it_has_room(cluster_of, new_deployment) -> None:
    warm = NodeSpec(name="warm", gpus=2, labels={"example.org/warm": "m"})
    cluster = cluster_of([NodeSpec(name="cold", gpus=8), warm])
    template = new_deployment()["spec"]["template"]
    expressions = [{"key": "example.org/warm", "operator": "In", "values": ["m"]}]
    term = {"weight": 100, "preference": {"matchExpressions": expressions}}
    template["spec"]["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
    async with cluster.run():
        await cluster.deploy(replicas=3, template=template)
        nodes = sorted(node_of(pod) for pod in await cluster.pods())

    assert nodes == ["cold", "warm", "warm"]


async def test_a_gated_pod_waits_for_its_gate_and_not_for_room(cluster, new_deployment) -> None:
    template = new_deployment()["spec"]["template"]
    template["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    async with cluster.run():
        await cluster.deploy(replicas=1, template=template)
        (gated,) = await cluster.pods()
        name = gated["metadata"]["name"]
        await cluster.api.patch(PODS, "default", name, {"spec": {"schedulingGates": None}})
        await cluster.settle()
        (free,) = await cluster.pods()

    assert scheduled(gated)[:2] == ("False", "SchedulingGated")
    assert is_ready(free)


async def test_without_nodes_pods_wait(cluster_of) -> None:
    cluster = cluster_of([])
    async with cluster.run():
        await cluster.deploy(replicas=1)
        (pod,) = await cluster.pods()

    assert scheduled(pod) == ("False", "Unschedulable", "no nodes available to schedule pods")


async def test_a_pod_that_a_real_api_would_refuse_waits_and_holds_up_nobody(cluster, new_deployment) -> None:
    template = new_deployment()["spec"]["template"]
    template["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "many"}}
    async with cluster.run():
        await cluster.deploy(replicas=1, template=template)
        await cluster.api.create(DEPLOYMENTS, new_deployment(name="good"))
        await cluster.settle()
        bad = [pod for pod in await cluster.pods() if not is_ready(pod)]
        good = await cluster.names(is_ready)

    assert len(good) == 1
    assert "'many' is not a Kubernetes quantity" in scheduled(bad[0])[2]
