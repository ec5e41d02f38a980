"""All stand-in controllers as clients of an API server over HTTP, in real time, with a restart in between."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from metrics.clock import WallClock
from simulations.cluster.api import DEPLOYMENTS, ENDPOINT_SLICES, INFERENCE_SERVICES, PODS, ObjectApi
from simulations.cluster.apiserver.server import ApiServer
from simulations.cluster.http_api import HttpApi
from simulations.cluster.kserve import KServe
from simulations.cluster.workloads import InstantRuntime, NodeSpec, Workloads
from simulations.cluster.workloads.pods import is_ready
from simulations.cluster.workloads.settle import running

pytestmark = pytest.mark.cluster


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition, about 30 s at most."""
    for _ in range(1500):
        if await condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("the controllers did not get there")


def ready_pods(api: ObjectApi, count: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        pods = await api.list(PODS, "default")
        slices = await api.list(ENDPOINT_SLICES, "default")
        endpoints = [one for item in slices for one in item["endpoints"] if one["conditions"]["ready"]]
        return len(pods) == len(endpoints) == sum(map(is_ready, pods)) == count

    return holds


async def test_the_controllers_work_over_http_and_survive_a_restart_of_the_server(service_of) -> None:
    clock = WallClock()
    async with ApiServer(clock=clock) as server, HttpApi(server.url, server.admin_token) as api:
        kserve = KServe(api, "0.20.0", clock)
        workloads = Workloads(api, [NodeSpec(name="n", gpus=8)], InstantRuntime(), clock)
        async with running(kserve, workloads):
            await until(lambda: _is_served(api))
            await api.create(INFERENCE_SERVICES, service_of())
            await until(ready_pods(server.api, 1))

            await server.stop()
            await server.api.patch(DEPLOYMENTS, "default", "llm-predictor", {"spec": {"replicas": 4}}, "scale")
            await server.start()
            await until(ready_pods(server.api, 4))

            await api.patch(DEPLOYMENTS, "default", "llm-predictor", {"spec": {"replicas": 2}}, "scale")
            await until(ready_pods(server.api, 2))


async def _is_served(api: ObjectApi) -> bool:
    names = {one["metadata"]["name"] for one in await api.list(DEPLOYMENTS)}
    return "kserve-controller-manager" in names
