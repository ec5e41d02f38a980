"""A service sleeps and wakes on the word of a real Prometheus that scrapes a gateway; silence does neither."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from autoscaler.crds import all_crds
from autoscaler.wiring import Options, run
from metrics.clock import WallClock
from simulations.cluster.api import CRDS, DEPLOYMENTS, NAMESPACES, SCALED_SERVICES, SCALING_POLICIES
from simulations.cluster.apiserver.server import ApiServer
from simulations.cluster.enrolled import vllm_deployment
from simulations.cluster.real_prometheus import prometheus, scraping
from simulations.cluster.vllm.runtime import EmulatorRuntime
from simulations.cluster.workloads import NodeSpec, Workloads

SPEC = {
    "mode": "direct",
    "replicas": {"min": 0, "max": 2},
    "targets": {"maxAgeSeconds": 5},
    "metrics": {"periodSeconds": 0.5, "idlePeriodSeconds": 0.5},
    "upstream": {"query": "sum(llm_d_epp_flow_control_queue_size)", "periodSeconds": 0.5},
    "zero": {"enabled": True, "idleSeconds": 10},
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
}


class Gateway:
    """Says on a metrics page how many requests it holds."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        gauge = Gauge("llm_d_epp_flow_control_queue_size", "As llm-d has it.", ["priority"], registry=registry)
        self._held = gauge.labels(priority="0")
        self._server, self._thread = start_http_server(0, addr="127.0.0.1", registry=registry)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def hold(self, requests: int) -> None:
        self._held.set(requests)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@asynccontextmanager
async def a_cluster() -> AsyncIterator[ApiServer]:
    """One enrolled Deployment of one replica, emulated, on one node."""
    async with ApiServer() as server, EmulatorRuntime() as runtime, asyncio.TaskGroup() as group:
        for crd in all_crds():
            await server.api.create(CRDS, crd)
        await server.api.create(NAMESPACES, {"metadata": {"name": "warmtide"}})
        await server.api.create(SCALING_POLICIES, {"metadata": {"name": "gold", "namespace": "default"}, "spec": SPEC})
        await server.api.create(DEPLOYMENTS, vllm_deployment())
        task = group.create_task(Workloads(server.api, [NodeSpec(name="gpu-1", gpus=8)], runtime, WallClock()).run())
        yield server
        task.cancel()


@asynccontextmanager
async def a_controller(server: ApiServer, folder: Path, url: str) -> AsyncIterator[None]:
    options = Options(
        kubeconfig=server.write_kubeconfig(folder / "kubeconfig"),
        identity="one",
        home_namespace="warmtide",
        listen_port=0,
        prometheus_url=url,
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run(options, stop))
        yield
        stop.set()


async def until(holds: Callable[[], Awaitable[bool]], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():
            await WallClock().sleep(0.05)


async def test_a_service_sleeps_on_the_gateways_zero_wakes_on_its_word_and_holds_on_its_silence(tmp_path: Path) -> None:
    gateway, clock = Gateway(), WallClock()
    config = scraping({"gateway": f"{gateway.address}/metrics"})
    async with (
        prometheus(tmp_path, clock, config=config) as url,
        a_cluster() as server,
        a_controller(server, tmp_path, url),
    ):

        async def replicas_are(wanted: int) -> bool:
            found = await server.api.get(DEPLOYMENTS, "default", "llm")
            return int(found["spec"]["replicas"]) == wanted

        async def is_deaf() -> bool:
            status: dict[str, Any] = (await server.api.get(SCALED_SERVICES, "default", "llm")).get("status") or {}
            return any(c["reason"] == "UpstreamUnknown" for c in status.get("conditions", ()))

        gateway.hold(0)
        await until(lambda: replicas_are(0), within_s=40)

        at_s = clock.now_s()
        gateway.hold(1)
        await until(lambda: replicas_are(1), within_s=10)
        print(
            f"awake {clock.now_s() - at_s:.2f} s after the gateway held a request, of which up to 0.25 s is its scrape"
        )

        gateway.close()
        await until(is_deaf, within_s=20)
        assert await replicas_are(1)
