"""A controller, the real agents of a few nodes on real folders, and models to keep: in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cacheops.crds import all_crds
from cacheops.layout import open_cache
from cacheops.model import ModelManifest, ModelRef, storage_key
from cacheops.sources import SourceSettings, open_source
from nodeagent.errors import ApiError as AgentApiError
from nodeagent.errors import NotThereError
from nodeagent.fetches import Fetches
from nodeagent.reconcile import Agent, AgentOptions
from nodeagent.store import Leases, Store, View
from simulations.cluster.api import CRDS, MODEL_CACHES, NODE_MODEL_CACHES, ApiError, Resource

Object = dict[str, Any]

NODES = Resource("", "v1", "nodes", "Node", namespaced=False)


class AgentApi:
    """The agent's client on the stand-in's own objects."""

    def __init__(self, api: Any) -> None:
        self._api = api

    async def get(self, collection: str, name: str) -> Object:
        return await self._answer(lambda: self._api.get(NODE_MODEL_CACHES, "", name))

    async def patch_status(self, collection: str, name: str, status: Object) -> None:
        await self._answer(lambda: self._api.patch(NODE_MODEL_CACHES, "", name, {"status": status}, "status"))

    async def changes(self, collection: str, name: str) -> AsyncIterator[str]:
        yield "OPEN"
        async for event in self._api.watch([NODE_MODEL_CACHES]):
            if event.object["metadata"]["name"] == name:
                yield "CHANGED"

    async def _answer(self, call: Callable[[], Any]) -> Any:
        try:
            return await call()
        except ApiError as error:
            kind = NotThereError if error.code == 404 else AgentApiError
            raise kind(error.code, str(error)) from error


class RoomyStore(Store):
    """On a disk of its own: how full the machine's is must not tell the story."""

    def look(self) -> View:
        return replace(super().look(), capacity_bytes=10**12, free_bytes=9 * 10**11)


@dataclass
class Story:  # reached by tests through the fixture: nothing under tests/ is imported
    """The town, the models' folder as the source, and where the agents keep theirs."""

    town: Any
    folder: Path
    asked: list[str] = field(default_factory=list)
    trouble: Exception | None = None

    @property
    def settings(self) -> SourceSettings:
        return SourceSettings(local_files=True, claims=self.folder / "claims")

    def model(self, name: str, **files: bytes) -> str:
        """A model at the source; its URI."""
        folder = self.folder / "source" / name
        folder.mkdir(parents=True, exist_ok=True)
        for stem, content in (files or {"model": name.encode() * 1000}).items():
            (folder / f"{stem}.safetensors").write_bytes(content)
        return f"file://{folder}"

    def sum_up(self, uri: str) -> None:
        """Digests beside a model's files."""
        folder = Path(uri.removeprefix("file://"))
        lines = [f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in folder.glob("*.safetensors")]
        (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")

    async def list_model(self, ref: ModelRef) -> ModelManifest:
        """The source as the controller asks it."""
        self.asked.append(ref.uri)
        if self.trouble is not None:
            raise self.trouble
        return open_source(ref.uri, self.settings, self.town.clock).resolve(ref)

    async def cache(self, name: str, uri: str, *, namespace: str = "default", **spec: Any) -> None:
        source = {"uri": uri, "allowUnverified": True} | spec.pop("source", {})
        metadata = {"name": name, "namespace": namespace}
        body = {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ModelCache", "metadata": metadata}
        await self.town.api.create(MODEL_CACHES, body | {"spec": {"source": source} | spec})

    async def change(self, name: str, **patch: Any) -> None:
        await self.town.api.patch(MODEL_CACHES, "default", name, patch)

    async def status(self, name: str) -> Object:
        return dict((await self.town.api.get(MODEL_CACHES, "default", name)).get("status") or {})

    async def condition(self, name: str, kind: str) -> Object:
        return next(c for c in (await self.status(name))["conditions"] if c["type"] == kind)

    async def order(self, node: str) -> list[Object]:
        """What a node is told to hold."""
        return list((await self.town.api.get(NODE_MODEL_CACHES, "", node))["spec"].get("models") or [])

    async def labels(self, node: str) -> dict[str, str]:
        found = (await self.town.api.get(NODES, "", node))["metadata"].get("labels") or {}
        return {key: value for key, value in found.items() if key.startswith("warmtide.dev/model-")}

    def client(self, *resources: str) -> Any:
        """A controller's client that may patch nodes or make volumes, too."""
        client = self.town.client()
        client.is_allowed = lambda attributes: attributes["resource"] in resources
        return client

    def tree(self, node: str, uri: str) -> Path:
        return self.folder / node / "models" / storage_key(uri)

    @asynccontextmanager
    async def agents(self, *nodes: str) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(self._agent(node).run(stop))
            yield
            stop.set()

    @asynccontextmanager
    async def played(self, *nodes: str, **options: Any) -> AsyncIterator[Any]:
        """Cluster, controller and agents at work."""
        async with self.town.cluster(), self.agents(*nodes):
            for crd in all_crds():
                await self.town.api.create(CRDS, crd)
            async with self.town.controller(list_model=self.list_model, **options) as client:
                yield client

    def _agent(self, node: str) -> Agent:
        clock = self.town.clock
        table = self.folder / "mounts"
        table.touch()
        store = RoomyStore(open_cache(self.folder / node), self.settings, clock, Leases(table=table))
        return Agent(
            store, AgentApi(self.town.api), Fetches(store, clock), AgentOptions(node=node, version="test"), clock
        )


@pytest.fixture
def story(town: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    async def at_once(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Virtual time would run away while a thread works."""
        return work(*arguments, **named)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    return Story(town, tmp_path)
