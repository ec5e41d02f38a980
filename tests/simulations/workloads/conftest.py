"""One small cluster in virtual time, and the few verbs that the stories need."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from simulations.cluster.api import DEPLOYMENTS, PODS, Object
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.workloads import ContainerRuntime, FixedStartup, InstantRuntime, NodeSpec, Workloads
from simulations.cluster.workloads.addresses import LoopbackAddresses
from simulations.cluster.workloads.errors import ContainerError
from simulations.cluster.workloads.settle import STARTED_AT_S, LoopClock, Stage


class Cluster(Stage):
    """An API with stand-in workload controllers on it."""

    def __init__(
        self,
        nodes: Sequence[NodeSpec] = (NodeSpec(name="gpu-0", gpus=8), NodeSpec(name="gpu-1", gpus=8)),
        runtime: ContainerRuntime | None = None,
        startup: FixedStartup | None = None,
    ) -> None:
        clock = LoopClock(STARTED_AT_S)
        api = LocalApi.on_new_store(clock, seed=1)
        self.runtime = runtime or InstantRuntime()
        self.workloads = Workloads(api, nodes, self.runtime, clock, startup)
        super().__init__(api, clock, self.workloads)

    async def deploy(self, replicas: int = 1, **spec: Any) -> None:
        await self.api.create(DEPLOYMENTS, deployment(replicas, **spec))
        await self.settle()

    async def change(self, **spec: Any) -> None:
        await self.api.patch(DEPLOYMENTS, "default", "llm", {"spec": spec})
        await self.settle()

    async def scale(self, replicas: int) -> None:
        await self.api.patch(DEPLOYMENTS, "default", "llm", {"spec": {"replicas": replicas}}, "scale")
        await self.settle()

    async def deployment(self) -> Object:
        return await self.api.get(DEPLOYMENTS, "default", "llm")

    async def pods(self) -> list[Object]:
        return await self.api.list(PODS, "default")

    async def names(self, wanted: Callable[[Object], bool] = bool) -> set[str]:
        return {pod["metadata"]["name"] for pod in await self.pods() if wanted(pod)}


def deployment(replicas: int = 1, name: str = "llm", gpus: int = 1, **spec: Any) -> Object:
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": ["--model=m"],
        "ports": [{"containerPort": 8080, "name": "http"}],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
            **spec,
        },
    }


@pytest.fixture
async def cluster() -> Cluster:
    """Two nodes with 8 GPUs each; pods are ready as soon as they are bound."""
    return Cluster()


@pytest.fixture
def cluster_of() -> Callable[..., Cluster]:
    """A cluster with other nodes, runtime or start-up times."""
    return Cluster


@pytest.fixture
def new_deployment() -> Callable[..., Object]:
    """A Deployment of so many replicas."""
    return deployment


class SlowContainer:
    """Ends so many seconds after SIGTERM; never, when there are none."""

    def __init__(self, clock: LoopClock, stops_after_s: float | None) -> None:
        self.exited = asyncio.Event()
        self.log: list[str] = []
        self._clock = clock
        self._stops_after_s = stops_after_s

    async def wait_ready(self) -> None:
        return

    async def terminate(self, grace_s: float) -> None:
        self.log.append(f"terminate {grace_s}")
        if self._stops_after_s is None:
            await self.exited.wait()
        else:
            await self._clock.sleep(self._stops_after_s)
        self.exited.set()

    async def kill(self) -> None:
        self.log.append("kill")
        self.exited.set()


class SlowRuntime:
    """Keeps every container it started, by pod."""

    def __init__(self, stops_after_s: float | None = 0.0, failure: str = "") -> None:
        self.containers: dict[str, SlowContainer] = {}
        self._stops_after_s = stops_after_s
        self._failure = failure

    async def start(self, pod: Object, *, ip: str, port: int) -> SlowContainer:
        del ip, port
        if self._failure:
            raise ContainerError(self._failure)
        container = SlowContainer(LoopClock(), self._stops_after_s)
        self.containers[pod["metadata"]["name"]] = container
        return container


@pytest.fixture
def slow_runtime() -> Callable[..., SlowRuntime]:
    """A runtime whose containers take their time to stop, or fail to start."""
    return SlowRuntime


@pytest.fixture
def one_address() -> LoopbackAddresses:
    """Addresses as on a system that answers on 127.0.0.1 alone."""
    return LoopbackAddresses(own_ips=False)
