"""Pods whose containers are emulated vLLM servers: Ready means that it answers, gone means that it does not."""

import asyncio

import aiohttp
import pytest

from metrics.clock import WallClock
from simulations.cluster.api import DEPLOYMENTS, PODS, Object
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.vllm.runtime import EmulatorRuntime
from simulations.cluster.workloads import NodeSpec, Workloads
from simulations.cluster.workloads.pods import is_ready
from simulations.cluster.workloads.settle import running

pytestmark = pytest.mark.cluster


async def ready_pods(api: LocalApi, count: int) -> list[Object]:
    """Wait until so many pods are there, all of them ready; about 30 s at most."""
    for _ in range(1500):
        pods = await api.list(PODS, "default")
        if len(pods) == count and all(map(is_ready, pods)):
            return pods
        await asyncio.sleep(0.02)
    pytest.fail(f"there were never {count} ready pods")


def urls(pods: list[Object]) -> list[str]:
    return [f"http://{pod['status']['podIP']}:8080" for pod in pods]


async def test_ready_pods_serve_metrics_at_their_own_addresses_and_deleted_ones_refuse(new_deployment) -> None:
    clock = WallClock()
    api = LocalApi.on_new_store(clock)
    async with EmulatorRuntime(clock=clock) as runtime, aiohttp.ClientSession() as session:
        async with running(Workloads(api, [NodeSpec(name="n", gpus=4)], runtime, clock)):
            await api.create(DEPLOYMENTS, new_deployment(3))
            before = urls(await ready_pods(api, 3))
            for url in before:
                async with session.get(f"{url}/metrics") as page:
                    assert page.status == 200
                    assert "vllm:num_requests_running" in await page.text()

            await api.patch(DEPLOYMENTS, "default", "llm", {"spec": {"replicas": 1}}, "scale")
            (left,) = urls(await ready_pods(api, 1))
            for url in set(before) - {left}:
                with pytest.raises(aiohttp.ClientConnectionError):
                    await session.get(f"{url}/health")
            async with session.get(f"{left}/health") as page:
                assert page.status == 200

        assert runtime.containers() == ()
