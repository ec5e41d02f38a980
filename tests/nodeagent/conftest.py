"""A cluster's API, a model hub, and agents as processes of their own."""

import asyncio
import json
import os
import random
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cacheops.addresses import AddressRules
from cacheops.crds import all_crds
from cacheops.model import ModelManifest, ModelRef
from cacheops.sources import SourceSettings, open_source
from metrics.clock import WallClock
from simulations import hub as hubs
from simulations.cluster.api import CRDS, Resource
from simulations.cluster.apiserver import ApiServer
from simulations.cluster.http_api import HttpApi

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
SHARED_CRDS = ROOT / ".." / "shared" / "crds"
NODE_MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "nodemodelcaches", "NodeModelCache", namespaced=False)
LOCAL_MODEL_NODES = Resource("serving.kserve.io", "v1alpha1", "localmodelnodes", "LocalModelNode", namespaced=False)
WAIT_S = 30.0
ROOMY = {"highWatermark": 0.95, "lowWatermark": 0.94}  # however full the disk of this machine is
KUBELET_MOUNT = "30 25 98:0 /var/lib/kubelet/pods /var/lib/kubelet/pods ro - ext4 /dev/x ro\n"
WEIGHTS_BYTES = 3_000_000


@dataclass(kw_only=True)
class Cluster:  # reached by tests through the fixture: nothing under tests/ is imported
    """What an agent lives in."""

    api: HttpApi
    kubeconfig: Path
    hub: hubs.ModelHub
    endpoint: str
    folder: Path

    async def make_node_cache(self, models: list[Object], node: str = "node-1", **limits: Any) -> Object:
        """A NodeModelCache, as the controller writes it."""
        spec = {"models": models, "limits": ROOMY | limits}
        return await self.api.create(NODE_MODEL_CACHES, {"metadata": {"name": node}, "spec": spec})

    async def want(
        self, models: list[Object], node: str = "node-1", *, evict: tuple[str, ...] = (), **limits: Any
    ) -> None:
        """Other wishes."""
        spec = {"models": models, "limits": limits, "evict": list(evict)}
        await self.api.patch(NODE_MODEL_CACHES, "", node, {"spec": spec})

    async def make_local_node(self, models: list[Object], node: str = "node-1") -> Object:
        """A LocalModelNode, as KServe's controller writes it."""
        return await self.api.create(LOCAL_MODEL_NODES, {"metadata": {"name": node}, "spec": {"localModels": models}})

    async def want_local(self, models: list[Object], node: str = "node-1") -> None:
        """Other wishes of KServe's controller."""
        await self.api.patch(LOCAL_MODEL_NODES, "", node, {"spec": {"localModels": models}})

    @property
    def hosts(self) -> tuple[str, str]:
        """The hub, and its other name as a content network."""
        port = self.endpoint.rpartition(":")[2]
        return f"127.0.0.1:{port}", f"localhost:{port}"

    def manifest(self, uri: str) -> ModelManifest:
        """What a controller would resolve."""
        settings = SourceSettings(rules=AddressRules(hosts=frozenset(self.hosts)), hub_endpoint=self.endpoint)
        return open_source(uri, settings, WallClock()).resolve(ModelRef(uri=uri))

    async def wanted(self, uri: str, **more: Any) -> Object:
        """A model as it stands in NodeModelCache.spec."""
        found = await asyncio.to_thread(self.manifest, uri)
        return {
            "key": found.storage_key,
            "uri": uri,
            "revision": found.resolved_revision,
            "digest": found.digest,
            "bytes": found.bytes,
        } | more

    @asynccontextmanager
    async def agent(self, node: str = "node-1", *arguments: str) -> AsyncIterator[Process]:
        """An agent as a process; asked to stop at the end."""
        root = self.folder / node
        command = [sys.executable, "-m", "nodeagent", "--node", node, "--root", str(root), "--listen", "127.0.0.1:0"]
        command += ["--kubeconfig", str(self.kubeconfig), "--mount-table", str(self.folder / "mounts")]
        command += [word for host in self.hosts for word in ("--allow-host", host)]
        command += ["--own-disk"] if "--root" in arguments else ["--own-disk", "--claim"]
        command += ["--look-seconds", "0.1", "--idle-seconds", "0.5", *arguments]
        environment = os.environ | {"HF_ENDPOINT": self.endpoint, "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{node}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=log, cwd=self.folder)
            try:
                await self._until_up(process, node)
                yield process
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    async with asyncio.timeout(WAIT_S):
                        assert await process.wait() == 0, self.log(node)

    async def _until_up(self, process: Process, node: str) -> None:
        """Wait until it takes signals in good order, or has ended."""
        async with asyncio.timeout(WAIT_S):
            while process.returncode is None:
                if "listening on" in self.log(node):
                    return
                await asyncio.sleep(0.02)

    async def forget_status(self, node: str = "node-1") -> None:
        """So that what is read next is what an agent wrote since."""
        await self.api.patch(NODE_MODEL_CACHES, "", node, {"status": None}, "status")

    def mount(self, *rows: str) -> None:
        """What the agent sees mounted."""
        (self.folder / "mounts").write_text("".join(rows), encoding="utf-8")

    def mount_pod(self, key: str) -> None:
        """A pod has a tree mounted, and the agent sees the kubelet's folder."""
        pod = f"36 35 98:0 /var/lib/warmtide/models/{key} /var/lib/kubelet/pods/u/volumes/x ro - ext4 /dev/x ro\n"
        self.mount(KUBELET_MOUNT, pod)

    def log(self, node: str = "node-1") -> str:
        """What an agent said."""
        return (self.folder / f"{node}.log").read_text(encoding="utf-8")

    def tree(self, key: str, node: str = "node-1") -> Path:
        """Where a model is published."""
        return self.folder / node / "models" / key

    def peer_options(self) -> tuple[str, ...]:
        """Arguments with which agents give models to each other."""
        token = self.folder / "token"
        token.write_text("a-token-that-all-agents-share\n", encoding="ascii")
        return ("--peer-token-file", str(token), "--peer-listen", "127.0.0.1:0")

    async def until(self, look: Callable[[], Awaitable[Object]], holds: Callable[[Object], bool]) -> Object:
        """Wait for a condition, within bounds."""
        seen: Object = {}
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    seen = await look()
                    if holds(seen):
                        return seen
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never came true; last seen {json.dumps(seen)}\n{self.log()}") from None

    async def cache_when(self, holds: Callable[[Object], bool], node: str = "node-1") -> Object:
        """The status of a NodeModelCache once it is so."""

        async def look() -> Object:
            return dict((await self.api.get(NODE_MODEL_CACHES, "", node)).get("status") or {})

        return await self.until(look, holds)

    async def kserve_when(self, states: Object, node: str = "node-1") -> Object:
        """LocalModelNode.status.modelStatus once it is so."""

        async def look() -> Object:
            status = (await self.api.get(LOCAL_MODEL_NODES, "", node)).get("status") or {}
            return dict(status.get("modelStatus") or {})

        return await self.until(look, lambda seen: seen == states)


def write_model(folder: Path, seed: int, size_bytes: int = WEIGHTS_BYTES) -> None:
    """A repository with weights and a configuration."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(random.Random(seed).randbytes(size_bytes))
    (folder / "config.json").write_text(json.dumps({"seed": seed}), encoding="utf-8")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """An API server with our CRDs and KServe's, and a hub with two models."""
    for number, name in enumerate(("org/alpha", "org/beta")):
        write_model(tmp_path / "hub" / name, number)
    (tmp_path / "mounts").write_text(KUBELET_MOUNT, encoding="utf-8")
    kserve = SHARED_CRDS / "serving.kserve.io_localmodelnodes.yaml"
    hub = hubs.ModelHub(tmp_path / "hub")
    runner, endpoint = await hubs.serve(hub)
    try:
        async with ApiServer() as server:
            kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig")
            async with HttpApi.from_kubeconfig(kubeconfig) as api:
                for crd in all_crds():
                    await api.create(CRDS, crd)
                if kserve.is_file():
                    await api.create(CRDS, yaml.safe_load(kserve.read_text(encoding="utf-8")))
                yield Cluster(api=api, kubeconfig=kubeconfig, hub=hub, endpoint=endpoint, folder=tmp_path)
    finally:
        await runner.cleanup()
