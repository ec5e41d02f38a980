"""Two hundred agents in companion mode on one API server: each answers for its own node, and the API stays calm.

    python tests/controlplane/plane.py -- .venv/bin/python -m pytest tests/nodeagent/test_many.py

runs twenty on a real kube-apiserver too.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cacheops.layout import open_cache
from cacheops.model import storage_key
from cacheops.sources import SourceSettings
from cacheops.verify import quick
from metrics.clock import WallClock
from nodeagent.fetches import Fetches
from nodeagent.kube import NodeApi
from nodeagent.reconcile import Agent, AgentOptions
from nodeagent.store import Leases, Store
from simulations.cluster.api import CRDS, ApiError, Resource
from simulations.cluster.apiserver import ApiServer
from simulations.cluster.http_api import HttpApi

Object = dict[str, Any]

CRD_FILE = Path(__file__).parents[2] / ".." / "shared" / "crds" / "serving.kserve.io_localmodelnodes.yaml"
LOCAL_MODEL_NODES = Resource("serving.kserve.io", "v1alpha1", "localmodelnodes", "LocalModelNode", namespaced=False)
KSERVE_STATES = {"ModelDownloadPending", "ModelDownloading", "ModelDownloaded", "ModelDownloadError"}
WAIT_S = 150.0
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(200),  # 200 agents in one process share its core with the API server
    pytest.mark.skipif(not CRD_FILE.is_file(), reason="needs KServe's CRDs of ../shared/crds"),
]


@dataclass
class Counted(NodeApi):
    """The real client, and what it was asked to write."""

    kubeconfig: Path
    written: list[Object] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.kubeconfig)

    async def patch_status(self, collection: str, name: str, status: Object) -> None:
        self.written.append(status)
        await super().patch_status(collection, name, status)


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Path]:
    async with ApiServer() as server:
        yield server.write_kubeconfig(folder / "kubeconfig")


@asynccontextmanager
async def real(_folder: Path) -> AsyncIterator[Path]:
    yield throw_away_kubeconfig()


def throw_away_kubeconfig() -> Path:
    """Only ever a server of plane.py: nobody's cluster gets CRDs because a shell has KUBECONFIG set."""
    path = Path(os.environ.get("KUBECONFIG") or "/nonexistent")
    if not path.is_file() or yaml.safe_load(path.read_text(encoding="utf-8")).get("current-context") != "plane":
        pytest.skip("no real API server: KUBECONFIG is not set (tests/controlplane/plane.py starts one)")
    return path


async def ignoring(call: Any, *codes: int) -> None:
    try:
        await call
    except ApiError as exc:
        if exc.code not in codes:
            raise


@pytest.mark.parametrize(("cluster", "count"), [(embedded, 200), (real, 20)], ids=["embedded", "real"])
async def test_each_agent_answers_for_its_own_node(cluster: Any, count: int, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"hidden_size": 8}), encoding="utf-8")
    uri = f"file://{model}"
    async with cluster(tmp_path) as kubeconfig, HttpApi.from_kubeconfig(kubeconfig) as api:
        await ignoring(api.create(CRDS, yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))), 409)
        names = [f"many-{number}" for number in range(count)]
        await until_made(api, names[0], uri)
        for name in names[1:]:
            await api.create(LOCAL_MODEL_NODES, local_model_node(name, uri))
        try:
            written = await run_agents(kubeconfig, names, tmp_path, api)
        finally:
            for name in names:
                await ignoring(api.delete(LOCAL_MODEL_NODES, "", name), 404)

    for name in names:
        assert quick(tmp_path / name / "models" / storage_key(uri))[1] == []
        told = [state for status in written[name] for state in status["modelStatus"].values()]
        assert set(told) <= KSERVE_STATES
        assert len(written[name]) <= 4  # pending, downloading, downloaded; not one for each look


def local_model_node(name: str, uri: str) -> Object:
    models = [
        {"modelName": "llama", "sourceModelUri": uri},
        {"modelName": "llama", "namespace": "team-a", "sourceModelUri": uri},
    ]
    return {"metadata": {"name": name}, "spec": {"localModels": models}}


async def until_made(api: HttpApi, name: str, uri: str) -> None:
    """A real API server serves a new kind a moment after it said yes."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await api.create(LOCAL_MODEL_NODES, local_model_node(name, uri))
            except ApiError as exc:
                if exc.code not in (404, 429):
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def run_agents(kubeconfig: Path, names: list[str], folder: Path, api: HttpApi) -> dict[str, list[Object]]:
    """All agents at once until every node's status says Downloaded for both names; what each wrote."""
    stop, clock = asyncio.Event(), WallClock()
    wanted = {"llama": "ModelDownloaded", "team-a/llama": "ModelDownloaded"}
    clients = {}
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for name in names:
            clients[name] = await stack.enter_async_context(Counted(kubeconfig))
            settings = SourceSettings(local_files=True)
            store = Store(open_cache(folder / name), settings, clock, Leases())
            options = AgentOptions(node=name, version="test")
            group.create_task(Agent(store, clients[name], Fetches(store, clock), options, clock).run(stop))
        async with asyncio.timeout(WAIT_S):
            while True:
                nodes = await api.list(LOCAL_MODEL_NODES)
                states = [(node.get("status") or {}).get("modelStatus") for node in nodes]
                if all(state == wanted for state in states):
                    break
                await asyncio.sleep(0.2)
        stop.set()
    return {name: client.written for name, client in clients.items()}
