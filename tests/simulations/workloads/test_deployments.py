"""Deployments become pods, step by step, within their bounds."""

from simulations.cluster.workloads.pods import is_ready


async def test_a_deployment_becomes_ready_pods(cluster) -> None:
    async with cluster.run():
        await cluster.deploy(replicas=4)

        pods = await cluster.pods()
        status = (await cluster.deployment())["status"]

    assert len(pods) == 4
    assert all(map(is_ready, pods))
    assert status["readyReplicas"] == status["availableReplicas"] == status["updatedReplicas"] == 4
    assert {one["type"]: one["status"] for one in status["conditions"]} == {"Available": "True", "Progressing": "True"}
    assert "unavailableReplicas" not in status
