"""The controller as a process: signals, sudden death, an API server that restarts under it. Real time, real HTTP."""

import asyncio
import json
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from autoscaler.crds import all_crds
from metrics.clock import WallClock
from simulations.cluster.api import CRDS, DEPLOYMENTS, LEASES, NAMESPACES, SCALED_SERVICES, SCALING_POLICIES, Object
from simulations.cluster.apiserver.server import ApiServer
from simulations.cluster.enrolled import vllm_deployment
from simulations.cluster.workloads import FixedStartup, NodeSpec, Workloads
from simulations.cluster.workloads.runtime import InstantContainer
from simulations.cluster.workloads.settle import running

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
CAPACITY_REQUESTS = 8.0
POLICY = {
    "mode": "direct",
    "replicas": {"min": 1, "max": 16},
    "forecast": {"enabled": False},
    "objectives": {"ttftSeconds": 0},
    "metrics": {"periodSeconds": 0.5, "idlePeriodSeconds": 0.5},
    "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 3}]}},
}


class Served:
    """Pods' metrics pages over real HTTP, each at its pod's own address. Implements `ContainerRuntime`."""

    def __init__(self, requests: Callable[[], float]) -> None:
        self._requests = requests
        self._pods: set[str] = set()
        self._ticks = 0

    async def start(self, pod: Object, *, ip: str, port: int) -> InstantContainer:
        app = web.Application()
        app.router.add_get("/metrics", self._page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, ip, port).start()
        self._pods.add(pod["metadata"]["uid"])
        return _Page(runner, lambda: self._pods.discard(pod["metadata"]["uid"]))

    async def _page(self, _request: web.Request) -> web.Response:
        self._ticks += 1
        share = self._requests() / max(1, len(self._pods))
        running_requests = min(share, CAPACITY_REQUESTS)
        lines = {
            "vllm:num_requests_running": math.floor(running_requests),
            "vllm:num_requests_waiting": math.floor(share - running_requests),
            "vllm:kv_cache_usage_perc": 0.9 * running_requests / CAPACITY_REQUESTS,
            "vllm:generation_tokens_total": self._ticks * 100,
            "vllm:prompt_tokens_total": self._ticks * 100,
        }
        return web.Response(text="".join(f"{name} {value}\n" for name, value in lines.items()))


class _Page(InstantContainer):
    def __init__(self, runner: web.AppRunner, gone: Callable[[], object]) -> None:
        super().__init__()
        self._runner = runner
        self._gone = gone

    async def terminate(self, grace_s: float) -> None:
        await self._runner.cleanup()
        self._gone()
        await super().terminate(grace_s)

    async def kill(self) -> None:
        await self.terminate(0.0)


class City:
    """An API server with workloads, and controller processes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.clock = WallClock()
        self.server = ApiServer()
        self.requests: Callable[[], float] = lambda: 0.0
        nodes = [NodeSpec(name=f"gpu-{i}", gpus=8) for i in range(3)]
        runtime = Served(lambda: self.requests())
        self.workloads = Workloads(self.server.api, nodes, runtime, self.clock, FixedStartup(load_s=0.5))

    async def fill(self, replicas: int) -> None:
        api = self.server.api
        for crd in all_crds():
            await api.create(CRDS, crd)
        await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "warmtide"}})
        policy = {"apiVersion": SCALING_POLICIES.api_version, "kind": SCALING_POLICIES.kind, "spec": POLICY}
        await api.create(SCALING_POLICIES, policy | {"metadata": {"name": "gold", "namespace": "default"}})
        await api.create(DEPLOYMENTS, vllm_deployment(replicas=replicas, port=free_port()))

    async def replicas(self) -> int:
        return int((await self.server.api.get(DEPLOYMENTS, "default", "llm"))["spec"]["replicas"])

    async def leader(self) -> str:
        leases = await self.server.api.list(LEASES, "warmtide")
        return leases[0]["spec"]["holderIdentity"] if leases else ""

    async def until(self, condition: Callable[[], object], within_s: float = 20.0) -> None:
        """Wait for a condition, an awaitable one too."""
        async with asyncio.timeout(within_s):
            while True:
                found = condition()
                if await found if asyncio.iscoroutine(found) else found:  # type: ignore[misc]
                    return
                await self.clock.sleep(0.05)

    @asynccontextmanager
    async def controller(self, identity: str) -> AsyncIterator[asyncio.subprocess.Process]:
        kubeconfig = self.server.write_kubeconfig(self.folder / f"{identity}.kubeconfig")
        log = (self.folder / f"{identity}.log").open("wb")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "autoscaler", "--kubeconfig", str(kubeconfig), "--identity", identity),
            *("--lease-namespace", "warmtide", "--listen", "127.0.0.1:0"),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
        try:
            yield child
        finally:
            log.close()
            if child.returncode is None:
                child.kill()
            await child.wait()

    def log(self, identity: str) -> str:
        return (self.folder / f"{identity}.log").read_text(encoding="utf-8")


def free_port() -> int:
    """Cities of one test must not share addresses: each has a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def city(folder: Path, replicas: int = 2) -> AsyncIterator[City]:
    it = City(folder)
    async with it.server:
        await it.fill(replicas)
        async with running(it.workloads):
            yield it


async def test_sigterm_finishes_saves_releases_and_exits_0(tmp_path: Path) -> None:
    async with city(tmp_path) as it, it.controller("one") as child:
        it.requests = lambda: 40.0
        await it.until(lambda: more_than(it, 4))

        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            code = await child.wait()

        assert code == 0
        assert await it.leader() == ""
        status = (await it.server.api.get(SCALED_SERVICES, "default", "llm"))["status"]
        assert status["learned"]


async def more_than(it: City, replicas: int) -> bool:
    return await it.replicas() > replicas


async def leads(it: City, identity: str) -> bool:
    return await it.leader() == identity


async def test_sigterm_exits_0_within_5_s_although_the_api_server_is_gone(tmp_path: Path) -> None:
    async with city(tmp_path) as it, it.controller("one") as child:
        await it.until(lambda: leads(it, "one"))
        await it.server.stop()

        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            code = await child.wait()

        assert code == 0, it.log("one")


async def test_an_api_server_that_restarts_mid_watch_is_caught_up_with(tmp_path: Path) -> None:
    async with city(tmp_path, replicas=6) as it, it.controller("one"):
        it.requests = lambda: 40.0
        await it.until(lambda: leads(it, "one"))
        await it.until(lambda: is_scraped(it, 6))

        await it.server.stop()
        it.server.forget_history()
        it.requests = lambda: 80.0
        await it.clock.sleep(2.0)
        await it.server.start()
        await it.until(lambda: more_than(it, 6), within_s=30.0)

        changes = (await it.server.api.get(SCALED_SERVICES, "default", "llm"))["status"].get("recentChanges", [])
        assert all(change["after"] > change["before"] for change in changes)


async def is_scraped(it: City, pods: int) -> bool:
    found = await it.server.api.list(SCALED_SERVICES, "default")
    return bool(found) and ((found[0].get("status") or {}).get("freshness") or {}).get("podsScraped") == pods


async def test_health_metrics_and_readiness_are_served(tmp_path: Path) -> None:
    async with city(tmp_path) as it, it.controller("one"), aiohttp.ClientSession() as session:
        await it.until(lambda: leads(it, "one"))
        port = it.log("one").split("listening on 127.0.0.1:")[1].split()[0]

        pages = {}
        for path in ("healthz", "readyz", "metrics"):
            async with session.get(f"http://127.0.0.1:{port}/{path}") as response:
                pages[path] = (response.status, await response.text())

        assert pages["healthz"] == (200, "ok\n")
        assert pages["readyz"] == (200, "ok\n")
        assert "warmtide_leader 1.0" in pages["metrics"][1]


@pytest.mark.timeout(150)  # a lease must run out: 40 s, on a machine that may be busy
async def test_killing_the_leader_in_a_ramp_lowers_nothing_and_costs_one_replica_at_most(tmp_path: Path) -> None:
    """Beside it, the same ramp with a controller that nobody kills."""
    async with AsyncExitStack() as stack:
        struck = await stack.enter_async_context(city(tmp_path / "struck"))
        calm = await stack.enter_async_context(city(tmp_path / "calm"))
        first = await stack.enter_async_context(struck.controller("first"))
        await stack.enter_async_context(calm.controller("undisturbed"))
        await struck.until(lambda: leads(struck, "first"))
        await stack.enter_async_context(struck.controller("second"))
        await calm.until(lambda: leads(calm, "undisturbed"))
        await struck.until(lambda: "listening" in struck.log("second"))
        start_s = struck.clock.now_s()
        for it in (struck, calm):
            it.requests = lambda: min(60.0, 2.5 * (struck.clock.now_s() - start_s))

        await struck.until(lambda: more_than(struck, 3))
        first.send_signal(signal.SIGKILL)
        seen = [await struck.replicas()]
        while struck.clock.now_s() - start_s < 36.0:
            seen.append(await struck.replicas())
            await struck.clock.sleep(0.2)

        assert await struck.leader() == "second"
        assert seen == sorted(seen)
        assert seen[-1] > seen[0]
        assert abs(seen[-1] - await calm.replicas()) <= 1, json.dumps(seen)
