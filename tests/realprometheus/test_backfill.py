"""History from a real Prometheus at the controller's start: its forecast is of use at once, not after a day."""

import asyncio
import math
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from autoscaler.crds import all_crds
from metrics.clock import WallClock
from simulations.cluster.api import CRDS, DEPLOYMENTS, NAMESPACES, SCALED_SERVICES, SCALING_POLICIES
from simulations.cluster.apiserver.server import ApiServer
from simulations.cluster.enrolled import vllm_deployment
from simulations.cluster.loadgen import LoadGenerator
from simulations.cluster.proxy import Backends, Proxy, follow_pods
from simulations.cluster.real_prometheus import prometheus, write_history
from simulations.cluster.vllm.runtime import EmulatorRuntime
from simulations.cluster.workloads import NodeSpec, Workloads
from simulations.trace import Arrival

ROOT = Path(__file__).parents[2]
HORIZON_S = 360.0  # bins of a minute, the step of the history
DAY_S = 86_400.0
SPEC = {
    "mode": "direct",
    "replicas": {"min": 1, "max": 4},
    "forecast": {"enabled": True, "horizonSeconds": HORIZON_S},
    "metrics": {"periodSeconds": 0.5, "idlePeriodSeconds": 0.5},
}


def two_days(now_s: float) -> list[str]:
    """Counters of one pod every 30 s, up to now: demand swings between 100 and 900 tokens/s four times a day."""
    lines: list[str] = []
    for name, share in (("prompt_tokens", 0.75), ("generation_tokens", 0.25)):
        lines.append(f"# TYPE vllm:{name} counter")
        total = 0.0
        for at_s in range(int(now_s - 2 * DAY_S), int(now_s), 30):
            demand = 500.0 + 400.0 * math.sin(at_s * 2 * math.pi * 4 / DAY_S)
            total += 30.0 * share * demand
            lines.append(f'vllm:{name}_total{{namespace="default",pod="llm-5d9c7b-x2v4q"}} {total:.1f} {at_s}')
    return lines


class City:
    """An API server, an emulated vLLM under some load, and a controller process."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.clock = WallClock()

    async def fill(self) -> None:
        api = self.server.api
        for crd in all_crds():
            await api.create(CRDS, crd)
        await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "warmtide"}})
        policy = {"apiVersion": SCALING_POLICIES.api_version, "kind": SCALING_POLICIES.kind, "spec": SPEC}
        await api.create(SCALING_POLICIES, policy | {"metadata": {"name": "gold", "namespace": "default"}})
        await api.create(DEPLOYMENTS, vllm_deployment())

    async def forecast(self, holds: Callable[[Any], bool], within_s: float) -> Any:
        """The first forecast in the status of which something holds; figures come once a minute, or with news."""
        news = 0
        async with asyncio.timeout(within_s):
            while True:
                news += 1
                changed = {"spec": {"forecast": {"maxRaise": 1.0 + news / 1000}}}
                await self.server.api.patch(SCALING_POLICIES, "default", "gold", changed)
                await self.clock.sleep(1.0)
                for found in await self.server.api.list(SCALED_SERVICES, "default"):
                    forecast = (found.get("status") or {}).get("forecast")
                    if forecast and holds(forecast):
                        return forecast

    @asynccontextmanager
    async def controller(self, folder: Path, *arguments: str) -> AsyncIterator[None]:
        kubeconfig = self.server.write_kubeconfig(folder / "kubeconfig")
        options = ("--kubeconfig", str(kubeconfig), "--lease-namespace", "warmtide", "--listen", "127.0.0.1:0")
        with (folder / "controller.log").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "autoscaler", *options, *arguments),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()


@asynccontextmanager
async def city() -> AsyncIterator[City]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ApiServer())
        runtime = await stack.enter_async_context(EmulatorRuntime())
        it, backends, users = City(server), Backends(), [2]
        proxy = await stack.enter_async_context(Proxy(backends))
        await it.fill()
        load = LoadGenerator(proxy.url, "m", it.clock)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        work = [
            Workloads(server.api, [NodeSpec(name="gpu-1", gpus=8)], runtime, it.clock).run(),
            follow_pods(server.api, backends, "default", {"app": "llm"}),
            load.converse(lambda: users[0], lambda at_s: Arrival(at_s=at_s, prompt_tokens=300, output_tokens=100)),
        ]
        tasks = [group.create_task(one) for one in work]
        try:
            yield it
        finally:
            for task in tasks:
                task.cancel()


async def test_with_history_the_forecast_counts_at_once_and_without_it_does_not(tmp_path: Path) -> None:
    clock = WallClock()
    await write_history(tmp_path, two_days(clock.now_s()))
    folders = [tmp_path / name for name in ("with", "without")]
    for folder in folders:
        folder.mkdir()

    async with prometheus(tmp_path, clock) as url, city() as it, it.controller(folders[0], f"--prometheus-url={url}"):
        informed = await it.forecast(lambda forecast: forecast["active"], within_s=40.0)
    async with city() as it, it.controller(folders[1]):
        ignorant = await it.forecast(lambda forecast: "demandNowTokensPerSecond" in forecast, within_s=40.0)

    print(informed, ignorant)
    assert informed["skill"] < 1.0
    assert informed["demandP50TokensPerSecond"] > 0
    assert ignorant["active"] is False
    assert "skill" not in ignorant
