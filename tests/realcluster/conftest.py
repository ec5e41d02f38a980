"""A real control plane with a town on it: KServe's stand-in, emulated vLLM servers in pods, a crowd that asks them.

python3 tests/controlplane/plane.py --controllers -- .venv/bin/python -m pytest tests/realcluster

The API server, etcd, the scheduler and the controllers of Deployments, ReplicaSets, HPAs and namespaces are real.
The controller under test runs as a process, with a token of its own ServiceAccount and nothing but the shipped roles.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from autoscaler.permissions import NAMESPACE
from metrics.exposition import parse
from simulations.cluster.api import (
    DEPLOYMENTS,
    INFERENCE_SERVICES,
    LEASES,
    NAMESPACES,
    PODS,
    ApiError,
    Resource,
)
from simulations.cluster.crowd import Crowd
from simulations.cluster.http_api import HttpApi
from simulations.cluster.site import LEASE, Site, kubeconfig_of
from simulations.cluster.vllm.runtime import EmulatorRuntime
from simulations.cluster.workloads import FixedStartup, NodeSpec, Workloads
from simulations.cluster.workloads.settle import running

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]

EVENTS = Resource("", "v1", "events", "Event")
# Four requests are what a replica should hold; a quarter of real speed is kind to two cores.
PER_REPLICA = 4
# Tokens of answers that no test waits for: over three minutes each.
ENDLESS = range(8000, 8001)
ENGINE_ARGS = ("--model=m", "--max-num-seqs=8", "--shutdown-timeout=15", "--profile=llama-3.1-8b-h100")
POLICY: Object = {
    "mode": "direct",
    "forecast": {"enabled": False},
    "objectives": {"ttftSeconds": 0},
    "targets": {
        "runningRequests": PER_REPLICA,
        "queueRequests": 0,
        "kvCacheUtilization": 0,
        "useLearnedCapacity": False,
        "maxAgeSeconds": 4,
    },
    "metrics": {"periodSeconds": 0.5, "idlePeriodSeconds": 0.5},
    "behavior": {
        "scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 2}]},
        # Short, so that a wrong wish to shrink shows within the test.
        "scaleDown": {
            "stabilizationWindowSeconds": 5,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
        },
    },
}


def real_kubeconfig() -> Object:
    """Of the plane on this machine; the tests write, delete and kill."""
    path = os.environ.get("KUBECONFIG")
    if not path or "WARMTIDE_PLANE_HOME" not in os.environ:
        pytest.skip("no real control plane: run by `python3 tests/controlplane/plane.py --controllers -- COMMAND`")
    if not (Path(os.environ["WARMTIDE_PLANE_HOME"]) / "kube-scheduler.pid").exists():
        pytest.skip("the control plane has no controllers: start plane.py with --controllers")
    config: Object = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return config


def urls_of(runtime: EmulatorRuntime) -> list[str]:
    """Of the servers that listen."""
    urls = []
    for container in runtime.containers():
        with suppress(RuntimeError):  # not yet
            urls.append(container.emulator.url)
    return urls


class Plane:
    """The programs of the control plane, which `plane.py` starts again when they die."""

    def __init__(self) -> None:
        self._home = Path(os.environ["WARMTIDE_PLANE_HOME"])
        self.etcd = os.environ["WARMTIDE_PLANE_ETCD"]

    def kill(self, name: str) -> None:
        """As the kernel does when memory is short."""
        os.kill(int((self._home / f"{name}.pid").read_text(encoding="utf-8")), signal.SIGKILL)

    @contextmanager
    def dead(self, name: str) -> Iterator[None]:
        """Killed, and not started again within the block."""
        hold = self._home / f"{name}.hold"
        hold.touch()
        try:
            self.kill(name)
            yield
        finally:
            hold.unlink()


class Process:
    """A controller that runs."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path, token_file: Path) -> None:
        self.child = child
        self.token_file = token_file
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def is_alive(self) -> bool:
        return self.child.returncode is None

    async def page(self, path: str) -> tuple[int, str]:
        """Of its own HTTP server; (0, "") while that does not listen."""
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", self.log)
        if found is None:
            return 0, ""
        async with aiohttp.ClientSession() as session, session.get(f"http://{found[1]}/{path}") as response:
            return response.status, await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels."""
        _, text = await self.page("metrics")
        series = [one for family in parse(text) for one in family.series if one.name == name]
        return sum(one.value for one in series if labels.items() <= dict(one.labels).items())

    async def leads(self) -> bool:
        return await self.metric("warmtide_leader") == 1.0

    async def requests(self) -> float:
        """What it asked of the API server, the unanswered ones too."""
        return await self.metric("warmtide_api_requests_total")

    async def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(6):
            return await self.child.wait()


class Town(Site):
    """One namespace on the real cluster with one InferenceService `llm`, and controller processes as one likes."""

    def __init__(self, api: HttpApi, folder: Path, runtime: EmulatorRuntime, crowd: Crowd) -> None:
        super().__init__(api, POLICY)
        self.folder = folder
        self.told = self._last_words
        self.server = str(real_kubeconfig()["clusters"][0]["cluster"]["server"])
        self.runtime = runtime
        self.crowd = crowd
        self.plane = Plane()
        self.deployment = "llm-predictor"
        self.seen: list[int] = []  # spec.replicas, each time it was found changed
        nodes = [NodeSpec(name=f"gpu-{i}", gpus=8, gpu_product="NVIDIA-H100-80GB-HBM3") for i in range(2)]
        self.workloads = Workloads(api, nodes, runtime, self.clock, FixedStartup(load_s=0.3)).leave_to_others()

    # what there is

    @property
    def address(self) -> tuple[str, int]:
        """Of the API server."""
        host, _, port = self.server.removeprefix("https://").partition(":")
        return host, int(port)

    async def enrol(self, replicas_min: int = 1, replicas_max: int = 8, *, steady: bool = False) -> None:
        """The service is there. `steady`: each of its requests stays where it begins for as long as the test lasts.

        One that ends on a pod and goes on to another between the two pods' scrapes is seen on both, and a replica
        for it would be right: where the number has to be exact, no request may move.
        """
        if steady:
            self.crowd.answer_tokens = ENDLESS
        await self.api.create(INFERENCE_SERVICES, service(self.space, replicas_min, replicas_max))
        await self.until(self.replicas)

    async def clean_up(self) -> None:
        """Nothing of this test is left for the next; the nodes' pods go while their kubelet still runs."""
        self.crowd.wanted = 0
        self.crowd.hang_up()
        for resource, name in ((INFERENCE_SERVICES, "llm"), (DEPLOYMENTS, self.deployment), (NAMESPACES, self.space)):
            with suppress(ApiError):
                await self.api.delete(resource, "" if resource is NAMESPACES else self.space, name)
        await self.until(self.is_empty, within_s=60)

    async def is_empty(self) -> bool:
        with suppress(ApiError):
            return not await self.api.list(PODS, self.space) and not await self.api.list(DEPLOYMENTS, self.space)
        return False

    # what is seen

    async def replicas(self) -> int:
        """spec.replicas; 0 while the API server does not answer or the Deployment is not there."""
        with suppress(ApiError):
            found = int((await self.api.get(DEPLOYMENTS, self.space, self.deployment))["spec"]["replicas"])
            if not self.seen or self.seen[-1] != found:
                self.seen.append(found)
            return found
        return 0

    async def is_served(self) -> bool:
        """Whether the API server answers."""
        with suppress(ApiError):
            await self.api.list(NAMESPACES)
            return True
        return False

    async def ready(self) -> int:
        with suppress(ApiError):
            found = await self.api.get(DEPLOYMENTS, self.space, self.deployment)
            return int(found.get("status", {}).get("readyReplicas", 0))
        return 0

    async def events(self) -> dict[str, str]:
        """Message by reason, of ours."""
        found = await self.api.list(EVENTS, self.space)
        return {e["reason"]: e["message"] for e in found if e["source"].get("component") == "warmtide"}

    async def leader(self) -> str:
        with suppress(ApiError):
            lease = await self.api.get(LEASES, NAMESPACE, LEASE)
            return str(lease["spec"].get("holderIdentity") or "")
        return ""

    async def check_only_grew(self) -> None:
        """No replica was taken back; else what the controller said of its changes."""
        assert self.seen == sorted(self.seen), (await self.status()).get("recentChanges")

    # what one waits for

    async def until_size(self, replicas: int, within_s: float = 60.0) -> None:
        async def is_so() -> bool:
            return await self.replicas() == replicas and await self.ready() == replicas

        await self.until(is_so, within_s)

    async def keeps(self, duration_s: float) -> None:
        """Look at the number for a while."""
        deadline_s = self.clock.now_s() + duration_s
        while self.clock.now_s() < deadline_s:
            await self.replicas()
            await self.clock.sleep(0.1)

    async def rate(self, controller: Process, duration_s: float) -> float:
        """Requests per second of a controller, looking at the number meanwhile."""
        before, started_s = await controller.requests(), self.clock.now_s()
        await self.keeps(duration_s)
        return (await controller.requests() - before) / (self.clock.now_s() - started_s)

    # controllers

    def _last_words(self) -> str:
        tails = [f"{log.stem}: …{log.read_text(encoding='utf-8')[-1500:]}" for log in self.folder.glob("*.log")]
        return "\n".join([f"replicas {self.seen}", *tails])

    @asynccontextmanager
    async def controller(
        self,
        identity: str = "one",
        *,
        server: str = "",
        token: str = "",
        clock_off_s: float = 0.0,
        user: Mapping[str, str] | None = None,
        authority: Path | None = None,
    ) -> AsyncIterator[Process]:
        """A controller process; killed at the end if it still runs. `user`: other credentials than a token."""
        log, token_file = self.folder / f"{identity}.log", self.folder / f"{identity}.token"
        token_file.write_text(token or await self.token(), encoding="utf-8")
        kubeconfig = self.folder / f"{identity}.kubeconfig"
        config = kubeconfig_of(server or self.server, token_file)
        if user is not None:
            config["users"][0]["user"] = dict(user)
        if authority is not None:
            config["clusters"][0]["cluster"] = {"server": self.server, "certificate-authority": str(authority)}
        kubeconfig.write_text(json.dumps(config), encoding="utf-8")
        with log.open("wb") as out:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, *program(clock_off_s), "--kubeconfig", str(kubeconfig), "--identity", identity),
                *("--lease-namespace", NAMESPACE, "--listen", "127.0.0.1:0"),
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )
        try:
            yield Process(child, log, token_file)
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


def program(clock_off_s: float) -> Sequence[str]:
    """The controller; where its machine's clock is wrong, with that clock."""
    if not clock_off_s:
        return ("-m", "autoscaler")
    code = "import sys, time; true = time.time; time.time = lambda: true() + {}; " + (
        "from autoscaler.__main__ import main; sys.exit(main())"
    )
    return ("-c", code.format(clock_off_s))


def free_port() -> int:
    """Pods have addresses of their own, but other clusters on this machine use the same ones."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def service(namespace: str, replicas_min: int, replicas_max: int) -> Object:
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": list(ENGINE_ARGS),
        "env": [{"name": "VLLM_EMULATOR_ARGS", "value": "--time-scale 0.25"}],
        "ports": [{"containerPort": free_port(), "protocol": "TCP"}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "external",
        "warmtide.dev/policy": "gold",
    }
    predictor = {"minReplicas": replicas_min, "maxReplicas": replicas_max, "containers": [container]}
    return {
        "apiVersion": INFERENCE_SERVICES.api_version,
        "kind": INFERENCE_SERVICES.kind,
        "metadata": {"name": "llm", "namespace": namespace, "annotations": annotations},
        "spec": {"predictor": predictor},
    }


@pytest.fixture
def real_plane() -> Path:
    """The administrator's kubeconfig; skips without a plane."""
    real_kubeconfig()
    return Path(os.environ["KUBECONFIG"])


@pytest.fixture
async def town(real_plane: Path, tmp_path: Path) -> AsyncIterator[Town]:
    """Ready for a service to be enrolled; no controller runs yet."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(HttpApi.from_kubeconfig(real_plane))
        runtime = await stack.enter_async_context(EmulatorRuntime())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        crowd = Crowd(lambda: urls_of(runtime), session)
        it = Town(api, tmp_path, runtime, crowd)
        await it.install()
        async with running(it.workloads, it.kserve), asyncio.TaskGroup() as group:
            asking = group.create_task(crowd.run())
            yield it
            await it.clean_up()
            asking.cancel()
    await asyncio.sleep(0.5)  # TLS connections close a moment after their session, and pytest looks for open ones
