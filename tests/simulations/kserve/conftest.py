"""A KServe of a chosen version on a small cluster, in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest

from metrics.clock import Clock, WallClock
from simulations.cluster.api import DEPLOYMENTS, HPAS, INFERENCE_SERVICES, REPLICA_SETS, ApiError, Object, ObjectApi
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.apiserver.patches import merge_patch
from simulations.cluster.kserve import KServe, names
from simulations.cluster.workloads import FixedStartup, InstantRuntime, NodeSpec, Workloads
from simulations.cluster.workloads.settle import STARTED_AT_S, LoopClock, Stage


class Cluster(Stage):
    """An API, workload controllers and KServe; one InferenceService named `llm`."""

    def __init__(
        self, version: str = "0.20.0", startup: FixedStartup | None = None, real_api: ObjectApi | None = None
    ) -> None:
        clock: Clock = WallClock() if real_api else LoopClock(STARTED_AT_S)
        api = real_api or LocalApi.on_new_store(clock, seed=1)
        nodes = [NodeSpec(name="gpu-0", gpus=16)]
        self.workloads = Workloads(api, nodes, InstantRuntime(), clock, startup)
        if real_api:
            self.workloads.leave_to_others()
        self.kserve = KServe(api, version, clock)
        super().__init__(api, clock, self.workloads, self.kserve)

    async def create(self, isvc: Object | None = None) -> None:
        await self.kserve.install()
        obj = isvc or service()
        self.kserve.admit(obj)
        await self.api.create(INFERENCE_SERVICES, obj)
        await self.settle()

    async def patch(self, patch: Object) -> bool:
        """A merge patch of the service, through the webhook; False when that refuses it."""
        changed = merge_patch(await self.service(), patch)
        try:
            self.kserve.admit(changed)
        except ApiError:
            return False
        await self.api.patch(INFERENCE_SERVICES, "default", "llm", patch)
        await self.settle()
        return True

    async def annotate(self, name: str, value: str | None) -> bool:
        return await self.patch({"metadata": {"annotations": {name: value}}})

    async def set_class(self, value: str | None) -> bool:
        return await self.annotate(names.CLASS, value)

    async def scale(self, replicas: int) -> None:
        patch = {"spec": {"replicas": replicas}}
        await self.api.patch(DEPLOYMENTS, "default", "llm-predictor", patch, "scale")
        await self.settle()

    async def service(self) -> Object:
        return await self.api.get(INFERENCE_SERVICES, "default", "llm")

    async def deployment(self) -> Object | None:
        found = await self.api.list(DEPLOYMENTS, "default")
        return next((one for one in found if one["metadata"]["name"] == "llm-predictor"), None)

    async def replicas(self) -> int | None:
        found = await self.deployment()
        return found["spec"]["replicas"] if found else None

    async def replica_sets(self) -> int:
        return len(await self.api.list(REPLICA_SETS, "default"))

    async def has_hpa(self) -> bool:
        return bool(await self.api.list(HPAS, "default"))

    async def is_ready(self) -> bool:
        conditions = (await self.service())["status"]["conditions"]
        return {"type": "Ready", "status": "True"}.items() <= _find(conditions, "Ready").items()


def _find(conditions: list[dict[str, Any]], type_: str) -> dict[str, Any]:
    return next(condition for condition in conditions if condition["type"] == type_)


def service(**predictor: Any) -> Object:
    """Class external, minReplicas 2, maxReplicas 6: the service of the observations."""
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": ["--model=m"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    annotations = {names.MODE: "Standard", names.CLASS: "external", "warmtide.dev/policy": "gold"}
    return {
        "apiVersion": INFERENCE_SERVICES.api_version,
        "kind": INFERENCE_SERVICES.kind,
        "metadata": {"name": "llm", "namespace": "default", "annotations": annotations},
        "spec": {"predictor": {"minReplicas": 2, "maxReplicas": 6, "containers": [container], **predictor}},
    }


@pytest.fixture
async def cluster() -> Cluster:
    """KServe 0.20.0."""
    return Cluster()


@pytest.fixture
def cluster_of() -> Callable[..., Cluster]:
    """KServe of a version."""
    return Cluster


@pytest.fixture
def service_of() -> Callable[..., Object]:
    """The service with other predictor fields."""
    return service
