"""The controller process on a real API server, when KUBECONFIG names one (`tests/controlplane/plane.py` starts one)."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from autoscaler.crds import all_crds
from autoscaler.errors import ApiFailure, Conflict, NotFound
from autoscaler.kube.client import KubeClient
from autoscaler.kube.resources import DEPLOYMENTS, EVENTS, LEASES, SCALED_SERVICES, SCALING_POLICIES, Object
from metrics.clock import WallClock

ROOT = Path(__file__).parents[3]
KUBECONFIG = os.environ.get("KUBECONFIG", "")
NO_CLUSTER = "no real API server: KUBECONFIG is not set (tests/controlplane/plane.py starts one)"
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.skipif(not KUBECONFIG, reason=NO_CLUSTER)]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Site:
    """A namespace of its own on the cluster, with a policy and an enrolled Deployment."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self.clock = WallClock()
        self.namespace = f"warmtide-{secrets.token_hex(4)}"

    async def prepare(self) -> None:
        for crd in all_crds():
            await self.make(CRDS, crd)
        await self.make("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        policy = {"apiVersion": SCALING_POLICIES.api_version, "kind": SCALING_POLICIES.kind}
        spec = {"mode": "direct", "replicas": {"min": 3}}
        path = SCALING_POLICIES.path(self.namespace)
        await self.until(lambda: self.make(path, policy | {"metadata": {"name": "gold"}, "spec": spec}))
        template = {"metadata": {"labels": {"app": "llm"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        annotations = {"warmtide.dev/policy": "gold"}
        deployment = {
            "metadata": {"name": "llm", "annotations": annotations},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "llm"}}, "template": template},
        }
        await self.make(DEPLOYMENTS.path(self.namespace), deployment)

    async def make(self, path: str, body: Object) -> bool:
        """Create, or take what is there; False while the kind is not yet served."""
        try:
            await self.client.create(path, body)
        except Conflict:
            return True
        except NotFound:
            return False
        return True

    async def read(self, path: str) -> Object:
        try:
            return await self.client.get(path)
        except ApiFailure:
            return {}

    async def replicas(self) -> int | None:
        found = await self.read(DEPLOYMENTS.path(self.namespace, "llm"))
        return (found.get("spec") or {}).get("replicas")

    async def condition(self, kind: str) -> Object:
        status = (await self.read(SCALED_SERVICES.path(self.namespace, "llm"))).get("status") or {}
        return next((c for c in status.get("conditions") or () if c["type"] == kind), {})

    async def until(self, condition: Any, within_s: float = 20.0) -> None:
        async with asyncio.timeout(within_s):
            while not await condition():
                await self.clock.sleep(0.1)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with KubeClient.from_config(Path(KUBECONFIG)) as client:
        it = Site(client)
        await it.prepare()
        yield it
        await client.delete(f"/api/v1/namespaces/{it.namespace}")


async def test_the_controller_scales_explains_refuses_and_ends_on_a_real_api_server(site: Site, tmp_path: Path) -> None:
    deployment = DEPLOYMENTS.path(site.namespace, "llm")
    with (tmp_path / "controller.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "autoscaler", "--kubeconfig", KUBECONFIG, "--listen", "127.0.0.1:0"),
            *("--namespace", site.namespace, "--lease-namespace", site.namespace),
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
        try:
            await site.until(lambda: _is(site.replicas(), 3))

            await site.client.patch(deployment, {"metadata": {"annotations": {"warmtide.dev/policy": "Not A Name"}}})
            await site.until(lambda: _has(site.condition("PolicyValid"), "reason", "InvalidAnnotation"))

            for _ in range(3):
                await site.client.patch(deployment, {"spec": {"replicas": 1}})
                await site.until(lambda: _is_either(site, 3))
            await site.until(lambda: _has(site.condition("NotContested"), "reason", "Contested"))

            child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    reasons = {event["reason"] for event in await site.client.list(EVENTS.path(site.namespace))}
    assert {"BelowMin", "InvalidAnnotation", "Contested"} <= reasons
    lease = await site.client.get(LEASES.path(site.namespace, "warmtide-controller"))
    assert not lease["spec"].get("holderIdentity")


async def _is(found: Any, wanted: int) -> bool:
    return bool(await found == wanted)


async def _has(found: Any, key: str, value: str) -> bool:
    return bool((await found).get(key) == value)


async def _is_either(site: Site, replicas: int) -> bool:
    """Set again, or given up on as contested."""
    return await site.replicas() == replicas or await _has(site.condition("NotContested"), "reason", "Contested")
