"""Controller, agents, hub and API server as processes and sockets, nothing mocked, under the shipped roles.

    python tests/controlplane/plane.py -- .venv/bin/python -m pytest -k real tests/autoscaler/caching

plays it on a real kube-apiserver, too.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.permissions import NAMESPACE, SERVICE_ACCOUNT
from cacheops.model import storage_key
from cacheops.verify import quick
from simulations import hub as hubs
from simulations.cluster.api import MODEL_CACHES, NAMESPACES, NODE_MODEL_CACHES, NODES, ApiError, Resource
from simulations.cluster.apiserver import ApiServer, User
from simulations.cluster.apply import apply, put
from simulations.cluster.http_api import HttpApi
from simulations.cluster.site import MANIFESTS, Site, kubeconfig_of

Object = dict[str, Any]

ROOT = Path(__file__).parents[3]
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
RBAC = "rbac.authorization.k8s.io"
ROLE_KINDS = {
    "ClusterRole": Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    "ClusterRoleBinding": Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
}
ALPHA = "hf://org/alpha"
pytestmark = pytest.mark.cluster


@dataclass(kw_only=True)
class Stage:
    """A site with two GPU nodes, a hub with a model, and what starts processes."""

    site: Site
    kubeconfig: Path  # the controller's
    agents_kubeconfig: Path
    hub: hubs.ModelHub
    endpoint: str
    folder: Path

    @property
    def nodes(self) -> tuple[str, str]:
        return f"{self.site.space}-a", f"{self.site.space}-b"

    async def set_up(self) -> None:
        for name in self.nodes:
            await put(self.site.api, NODES, {"metadata": {"name": name, "labels": {"stage": self.site.space}}})
            ready = {"type": "Ready", "status": "True"}
            status = {
                "allocatable": {"nvidia.com/gpu": "8"},
                "capacity": {"nvidia.com/gpu": "8"},
                "conditions": [ready],
            }
            await self.site.api.patch(NODES, "", name, {"status": status}, "status")

    async def clean_up(self) -> None:
        with suppress(ApiError):
            await self.site.api.delete(MODEL_CACHES, self.site.space, "alpha")
        for name in self.nodes:
            for resource in (NODES, NODE_MODEL_CACHES):
                with suppress(ApiError):
                    await self.site.api.delete(resource, "", name)

    async def remove(self, roles: list[Path], volume: Object) -> None:
        """What only one test has."""
        for obj in [obj for file in roles for obj in yaml.safe_load_all(file.read_text(encoding="utf-8"))]:
            await self.site.api.delete(ROLE_KINDS[obj["kind"]], "", obj["metadata"]["name"])
        with suppress(ApiError):  # the controller may have swept it before it stopped
            await self.site.api.delete(VOLUMES, "", volume["metadata"]["name"])

    async def cache(self, **spec: Any) -> None:
        metadata = {"name": "alpha", "namespace": self.site.space}
        whole = {"source": {"uri": ALPHA}, "places": {"min": 2, "selector": {"stage": self.site.space}}} | spec
        await self.site.api.create(MODEL_CACHES, {"metadata": metadata, "spec": whole})

    async def status(self) -> Object:
        return dict((await self.site.api.get(MODEL_CACHES, self.site.space, "alpha")).get("status") or {})

    async def labels(self, node: str) -> Object:
        found = (await self.site.api.get(NODES, "", node))["metadata"].get("labels") or {}
        return {key: value for key, value in found.items() if key.startswith("warmtide.dev/model-")}

    async def until(self, holds: Callable[[], Awaitable[object]]) -> None:
        self.site.told = lambda: "\n".join(log.read_text(encoding="utf-8") for log in self.folder.glob("*.log"))
        await self.site.until(holds, within_s=45.0)

    @asynccontextmanager
    async def process(self, name: str, *arguments: str) -> AsyncIterator[None]:
        """Asked to stop at the end, and it does."""
        environment = os.environ | {"HF_ENDPOINT": self.endpoint, "PYTHONPATH": str(ROOT)}
        port = self.endpoint.rpartition(":")[2]
        hosts = [word for host in ("127.0.0.1", "localhost") for word in ("--allow-host", f"{host}:{port}")]
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", *arguments, *hosts]
            child = await asyncio.create_subprocess_exec(*command, env=environment, stderr=log, cwd=self.folder)
            try:
                yield
            finally:
                if child.returncode is None:
                    child.send_signal(signal.SIGTERM)
                async with asyncio.timeout(20):
                    assert await child.wait() == 0, (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def controller(self) -> Any:
        where = ["--kubeconfig", str(self.kubeconfig), "--lease-namespace", NAMESPACE, "--listen", "127.0.0.1:0"]
        return self.process("controller", "autoscaler", *where)

    def agent(self, node: str, *more: str) -> Any:
        own = ["--node", node, "--root", str(self.folder / node), "--listen", "127.0.0.1:0", "--no-kserve"]
        own += ["--kubeconfig", str(self.agents_kubeconfig), "--mount-table", str(self.folder / "mounts")]
        return self.process(node, "nodeagent", *own, "--look-seconds", "0.1", "--idle-seconds", "0.5", *more)


@pytest.fixture(params=["embedded", "real"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    write_model(tmp_path / "hub" / "org" / "alpha")
    (tmp_path / "mounts").write_text(
        "30 25 98:0 /var/lib/kubelet/pods /var/lib/kubelet/pods ro - ext4 /dev/x ro\n", encoding="utf-8"
    )
    async with AsyncExitStack() as stack:
        hub = hubs.ModelHub(tmp_path / "hub")
        runner, endpoint = await hubs.serve(hub)
        stack.push_async_callback(runner.cleanup)
        account = tmp_path / "controller.kubeconfig"
        if request.param == "embedded":
            user = User.service_account(NAMESPACE, SERVICE_ACCOUNT)
            server = await stack.enter_async_context(ApiServer(tokens={"account": user}))
            admin = server.write_kubeconfig(tmp_path / "admin.kubeconfig")
            server.write_kubeconfig(account, "account")
        else:
            admin = throw_away_kubeconfig()
        api = await stack.enter_async_context(HttpApi.from_kubeconfig(admin))
        site = Site(api, {"mode": "direct", "replicas": {"min": 1, "max": 3}})
        await site.install()
        if request.param == "real":
            (tmp_path / "token").write_text(await site.token(), encoding="utf-8")
            server_url = str(yaml.safe_load(admin.read_text(encoding="utf-8"))["clusters"][0]["cluster"]["server"])
            account.write_text(json.dumps(kubeconfig_of(server_url, tmp_path / "token")), encoding="utf-8")
        it = Stage(site=site, kubeconfig=account, agents_kubeconfig=admin, hub=hub, endpoint=endpoint, folder=tmp_path)
        await it.set_up()
        yield it
        await it.clean_up()
        await api.delete(NAMESPACES, "", site.space)


def throw_away_kubeconfig() -> Path:
    """Only ever a server of plane.py: nobody's cluster gets CRDs because a shell has KUBECONFIG set."""
    path = Path(os.environ.get("KUBECONFIG") or "/nonexistent")
    if not path.is_file() or yaml.safe_load(path.read_text(encoding="utf-8")).get("current-context") != "plane":
        pytest.skip("no real API server: KUBECONFIG is not set (tests/controlplane/plane.py starts one)")
    return path


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(random.Random(1).randbytes(3_000_000))
    (folder / "config.json").write_text("{}", encoding="utf-8")


async def test_with_the_opt_in_roles_labels_stand_while_the_model_does_and_pods_have_a_claim(stage: Stage) -> None:
    node, _ = stage.nodes
    label = f"warmtide.dev/model-{storage_key(ALPHA)}"
    components = [MANIFESTS / "components" / name / "rbac.yaml" for name in ("model-labels", "model-volumes")]
    await apply(stage.site.api, components)
    await stage.cache(places={"min": 1, "selector": {"stage": stage.site.space}}, volume={"enabled": True})

    async def is_labelled() -> bool:
        return (await stage.labels(node)).keys() == {label}

    async def is_unlabelled() -> bool:
        return not await stage.labels(node)

    async with stage.agent(node):
        async with stage.controller():
            await stage.until(is_labelled)
            status = await stage.status()
            assert (await stage.labels(node))[label] == status["resolved"]["revision"]
            claim = await stage.site.api.get(CLAIMS, stage.site.space, status["claim"])
            volume = await stage.site.api.get(VOLUMES, "", claim["spec"]["volumeName"])
            assert volume["spec"]["claimRef"]["name"] == "alpha"
            await stage.site.api.delete(MODEL_CACHES, stage.site.space, "alpha")
            await stage.until(is_unlabelled)
        log = (stage.folder / "controller.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
    await stage.remove(components, volume)


async def test_a_model_is_on_both_nodes_with_the_role_alone(stage: Stage) -> None:
    first, second = stage.nodes
    await stage.cache()

    async def is_ready() -> bool:
        return (await stage.status()).get("summary") == "2/2"

    async with stage.controller(), stage.agent(first), stage.agent(second):
        await stage.until(is_ready)
        status = await stage.status()

    trees = [quick(stage.folder / node / "models" / storage_key(ALPHA)) for node in stage.nodes]
    assert [(tree.source_digest, faults) for tree, faults in trees] == [(status["resolved"]["digest"], [])] * 2
    assert [place["node"] for place in status["places"]] == sorted(stage.nodes)
    assert {condition["type"]: condition["reason"] for condition in status["conditions"]} == {
        "Ready": "Ready",
        "Resolved": "Resolved",
        "Labelled": "LabelsOff",
    }
    log = (stage.folder / "controller.log").read_text(encoding="utf-8")
    assert "Traceback" not in log


async def test_a_model_on_a_share_comes_to_both_nodes_and_a_new_version_when_it_is_asked_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pvc://`: controller and agents have the claim mounted, as manifests/components/claims does it."""
    uri, model = "pvc://share/models/alpha", stage.folder / "claims" / "share" / "models" / "alpha"
    monkeypatch.setenv("WARMTIDE_CLAIMS", str(stage.folder / "claims"))
    write_model(model)
    sum_up(model)
    opt_ins = [MANIFESTS / "components" / "model-volumes" / "rbac.yaml"]
    await apply(stage.site.api, opt_ins)
    await stage.cache(source={"uri": uri}, volume={"enabled": True})
    digests: list[str] = []

    async def is_held() -> bool:
        status = await stage.status()
        return status.get("summary") == "2/2" and "claim" in status and status["resolved"]["digest"] not in digests

    async with stage.controller(), stage.agent(stage.nodes[0], "--claim"), stage.agent(stage.nodes[1], "--claim"):
        for seed in (1, 9):
            (model / "model.safetensors").write_bytes(random.Random(seed).randbytes(3_000_000))
            sum_up(model)
            again = {"metadata": {"annotations": {"warmtide.dev/resolve": f"version {seed}"}}}
            await stage.site.api.patch(MODEL_CACHES, stage.site.space, "alpha", again)
            await stage.until(is_held)
            status = await stage.status()
            digests.append(status["resolved"]["digest"])
            trees = [stage.folder / node / "models" / storage_key(uri) for node in stage.nodes]
            held = [(quick(tree)[0].source_digest, content(tree)) for tree in trees]
            assert held == [(digests[-1], content(model))] * 2
        claim = await stage.site.api.get(CLAIMS, stage.site.space, status["claim"])
        volume = await stage.site.api.get(VOLUMES, "", claim["spec"]["volumeName"])

    assert (claim["metadata"]["name"], volume["spec"]["claimRef"]["name"]) == ("alpha", "alpha")
    assert volume["spec"]["local"]["path"].endswith(f"/models/{storage_key(uri)}")
    assert status["resolved"]["unsworn"] == 0
    await stage.remove(opt_ins, volume)


def sum_up(folder: Path) -> None:
    lines = [f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in folder.iterdir() if file.suffix]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("model.safetensors", "config.json")}
