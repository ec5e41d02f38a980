"""Endpoint slices, addresses on loopback, and the HPA that knows bounds only."""

import socket

import pytest

from simulations.cluster.api import DEPLOYMENTS, ENDPOINT_SLICES, HPAS, SERVICES, Object
from simulations.cluster.workloads.addresses import LoopbackAddresses, can_bind
from simulations.cluster.workloads.endpoints import slices_for
from simulations.cluster.workloads.errors import NoAddressError
from simulations.cluster.workloads.hpa import within_bounds


def service(name: str = "llm", target: int | str = 8080, **selector: str) -> Object:
    spec = {"selector": selector or {"app": "llm"}, "ports": [{"name": "http", "port": 80, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def slices(cluster) -> dict[str, Object]:
    found = await cluster.api.list(ENDPOINT_SLICES, "default")
    return {one["metadata"]["labels"]["kubernetes.io/service-name"]: one for one in found}


async def test_a_service_follows_the_pods_it_selects(cluster) -> None:
    async with cluster.run():
        await cluster.api.create(SERVICES, service())
        await cluster.api.create(SERVICES, service("named", "http"))
        await cluster.api.create(SERVICES, service("other", app="other"))
        await cluster.settle()
        empty = await slices(cluster)
        await cluster.deploy(replicas=3)
        full = await slices(cluster)
        pods = await cluster.pods()
        await cluster.scale(0)
        again = await slices(cluster)

    assert empty["llm"]["endpoints"] == again["llm"]["endpoints"] == []
    addresses = {endpoint["addresses"][0] for endpoint in full["llm"]["endpoints"]}
    assert addresses == {pod["status"]["podIP"] for pod in pods}
    assert full["llm"]["ports"] == full["named"]["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert full["other"]["endpoints"] == []


async def test_a_changed_selector_and_a_deleted_service_take_effect(cluster) -> None:
    async with cluster.run():
        await cluster.api.create(SERVICES, service())
        await cluster.deploy(replicas=1)
        await cluster.api.patch(SERVICES, "default", "llm", {"spec": {"selector": {"app": "nobody"}}})
        await cluster.settle()
        unselected = await slices(cluster)
        await cluster.api.delete(SERVICES, "default", "llm")
        await cluster.settle()

        assert await slices(cluster) == {}
    assert unselected["llm"]["endpoints"] == []


def test_a_slice_holds_no_more_than_the_api_allows() -> None:
    one = service()
    one["metadata"]["uid"] = "u"
    pods = [
        {"metadata": {"namespace": "default", "name": f"p{number:04}", "uid": str(number)},
         "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
         "status": {"podIP": "127.64.0.1"}}
        for number in range(1001)
    ]  # fmt: skip

    sizes = {item["metadata"]["name"]: len(item["endpoints"]) for item in slices_for(one, pods)}

    assert sizes == {"llm": 1000, "llm-1": 1}


def test_a_taken_address_is_passed_over() -> None:
    addresses = LoopbackAddresses(seed=3)
    if not addresses.has_own_ips:
        pytest.skip("this system answers on 127.0.0.1 alone")
    with socket.socket() as neighbour:
        probe = LoopbackAddresses(seed=3).take(8080)
        neighbour.bind((probe.ip, probe.port))
        neighbour.listen()

        assert not can_bind(probe.ip, probe.port)
        assert addresses.take(8080) != probe


def test_addresses_come_back_and_clusters_start_apart() -> None:
    one, other = LoopbackAddresses(seed=1, own_ips=True), LoopbackAddresses(seed=2, own_ips=True)
    first = one.take(8080)
    one.give_back(first)

    assert first.ip.startswith("127.")
    assert other.take(8080) != first
    assert one.take(8080) != first  # a recent address may linger in somebody's connection pool


def test_no_address_is_an_error_that_names_the_port() -> None:
    addresses = LoopbackAddresses(own_ips=True)
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))  # covers all of loopback
        everywhere.listen()
        port = everywhere.getsockname()[1]

        with pytest.raises(NoAddressError, match=f"port {port} is taken"):
            addresses.take(port)


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [(0, 0), (1, 2), (2, 2), (4, 4), (5, 5), (6, 5)],
    ids=["zero switches off", "raised to min", "at min", "between", "at max", "cut to max"],
)
def test_an_hpa_without_metrics_keeps_its_bounds(replicas: int, expected: int) -> None:
    assert within_bounds({"minReplicas": 2, "maxReplicas": 5}, replicas) == expected


async def test_an_hpa_holds_its_deployment_within_bounds_and_says_what_it_sees(cluster) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4}
    async with cluster.run():
        await cluster.deploy(replicas=1)
        hpa = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"},
            "spec": spec,
        }
        await cluster.api.create(HPAS, hpa)
        await cluster.settle()
        raised = (await cluster.deployment())["spec"]["replicas"]
        await cluster.scale(9)
        cut = (await cluster.deployment())["spec"]["replicas"]
        await cluster.scale(0)
        zero = (await cluster.deployment())["spec"]["replicas"]
        status = (await cluster.api.get(HPAS, "default", "h"))["status"]
        await cluster.api.delete(DEPLOYMENTS, "default", "llm")
        await cluster.settle()

    assert (raised, cut, zero) == (2, 4, 0)
    assert (status["currentReplicas"], status["desiredReplicas"]) == (0, 0)
    assert status["conditions"][0]["reason"] == "ScalingDisabled"
