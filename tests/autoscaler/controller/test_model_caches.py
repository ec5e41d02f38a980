"""Model caches as stories: a controller, and the real agents of two nodes on real folders, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cacheops.crds import all_crds
from cacheops.errors import SourceUnavailableError
from cacheops.layout import open_cache
from cacheops.model import ModelManifest, ModelRef, storage_key
from cacheops.sources import SourceSettings, open_source
from nodeagent.errors import ApiError as AgentApiError
from nodeagent.errors import NotThereError
from nodeagent.fetches import Fetches
from nodeagent.reconcile import Agent, AgentOptions
from nodeagent.store import Leases, Store, View
from simulations.cluster.api import CRDS, ApiError, Resource

Object = dict[str, Any]

MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "modelcaches", "ModelCache")
NODE_MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "nodemodelcaches", "NodeModelCache", namespaced=False)
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
class Story:
    """The town, the models' folder as the source, and where the agents keep theirs."""

    town: Any
    folder: Path
    asked: list[str] = field(default_factory=list)
    trouble: Exception | None = None

    @property
    def settings(self) -> SourceSettings:
        return SourceSettings(local_files=True)

    def model(self, name: str, **files: bytes) -> str:
        """A model at the source; its URI."""
        folder = self.folder / "source" / name
        folder.mkdir(parents=True, exist_ok=True)
        for stem, content in (files or {"model": name.encode() * 1000}).items():
            (folder / f"{stem}.safetensors").write_bytes(content)
        return f"file://{folder}"

    async def list_model(self, ref: ModelRef) -> ModelManifest:
        """The source as the controller asks it."""
        self.asked.append(ref.uri)
        if self.trouble is not None:
            raise self.trouble
        return open_source(ref.uri, self.settings, self.town.clock).resolve(ref)

    async def cache(self, name: str, uri: str, **spec: Any) -> None:
        source = {"uri": uri, "allowUnverified": True} | spec.pop("source", {})
        metadata = {"name": name, "namespace": "default"}
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


async def test_a_cache_is_resolved_once_placed_fetched_and_reported(story: Story) -> None:
    uri = story.model("alpha")
    async with story.played("gpu-0", "gpu-1", "gpu-2"):
        await story.cache("alpha", uri, places={"min": 2})
        await story.town.after(30)
        status = await story.status("alpha")

    assert story.asked == [uri]
    assert (status["summary"], status["reason"]) == ("2/2", "Ready")
    holders = [place["node"] for place in status["places"]]
    assert len(holders) == 2
    assert all(story.tree(node, uri).is_dir() for node in holders)


async def test_a_branch_that_moves_changes_nothing_until_someone_says_so(story: Story) -> None:
    uri = story.model("alpha")
    async with story.played("gpu-0", "gpu-1", "gpu-2"):
        await story.cache("alpha", uri, places={"min": 2})
        await story.town.after(30)
        first = (await story.status("alpha"))["resolved"]["digest"]
        story.model("alpha", model=b"a new revision")
        await story.change("alpha", spec={"pinned": True, "places": {"min": 1}})
        await story.town.after(60)
        assert (await story.status("alpha"))["resolved"]["digest"] == first
        assert story.asked == [uri]

        await story.change("alpha", metadata={"annotations": {"warmtide.dev/resolve": "monday"}})
        await story.town.after(60)
        status = await story.status("alpha")
        told = {model["digest"] for node in ("gpu-0", "gpu-1", "gpu-2") for model in await story.order(node)}

    assert story.asked == [uri, uri]
    assert status["resolved"]["digest"] != first
    assert told == {status["resolved"]["digest"]}
    assert status["reason"] == "Ready"


async def test_a_source_that_is_away_is_asked_again_later_and_later_and_said_so(story: Story) -> None:
    uri = story.model("alpha")
    story.trouble = SourceUnavailableError("https://user:hunter2@hub/x?sig=s3cret: HTTP 503")
    async with story.played("gpu-0"):
        await story.cache("alpha", uri, places={"min": 1})
        await story.town.after(30)
        condition = await story.condition("alpha", "Resolved")
        status = await story.status("alpha")
        await story.town.after(600)
        asked = len(story.asked)
        story.trouble = None
        await story.town.after(900)
        ready = await story.condition("alpha", "Ready")
        events = await story.town.events()

    assert (condition["status"], condition["reason"]) == ("False", "SourceUnavailable")
    assert "hunter2" not in str(status) + str(events)
    assert "s3cret" not in str(status) + str(events)
    assert status["retryAt"] > condition["lastTransitionTime"]
    assert 3 <= asked <= 5  # at 0, 60, 180, 420 s
    assert ready["status"] == "True"
    assert {"SourceUnavailable", "Resolved", "Ready"} <= {reason for reason, _message in events}


async def test_files_without_digests_need_a_word(story: Story) -> None:
    async with story.played("gpu-0"):
        await story.cache("alpha", story.model("alpha"), source={"allowUnverified": False}, places={"min": 1})
        await story.town.after(20)
        condition = await story.condition("alpha", "Resolved")
        await story.change("alpha", spec={"source": {"allowUnverified": True}})
        await story.town.after(30)
        status = await story.status("alpha")

    assert condition["reason"] == "InvalidRequest"
    assert "spec.source.allowUnverified" in condition["message"]
    assert (status["reason"], status["resolved"]["unsworn"]) == ("Ready", 1)


async def test_two_caches_of_one_source_never_fight_over_its_folder(story: Story) -> None:
    uri = story.model("alpha", model=b"weights", config=b"more")
    async with story.played("gpu-0"):
        await story.cache("old", uri, places={"min": 1})
        await story.town.after(30)
        await story.cache("young", uri, source={"ignorePatterns": ["config*"]}, places={"min": 1})
        await story.town.after(30)
        refused = await story.condition("young", "Ready")
        [told] = await story.order("gpu-0")
        await story.town.api.delete(MODEL_CACHES, "default", "old")
        await story.town.after(60)
        young = await story.status("young")
        [now] = await story.order("gpu-0")

    assert refused["reason"] == "DecidedElsewhere"
    assert "default/old" in refused["message"]
    assert young["reason"] == "Ready"
    assert now["digest"] == young["resolved"]["digest"] != told["digest"]


async def test_when_nothing_changes_nothing_is_written(story: Story) -> None:
    async with story.played("gpu-0", "gpu-1", "gpu-2") as client:
        await story.cache("alpha", story.model("alpha"), places={"min": 2})
        await story.town.deploy(replicas=1)
        await story.town.after(60)
        client.requests.clear()
        await story.town.after(600)
        written = [path for verb, path in client.requests if verb in ("create", "patch") and "cache" in path]

    assert written == []


async def test_a_label_stands_only_where_the_agent_waits_for_it_to_go(story: Story) -> None:
    uri = story.model("alpha")
    label = f"warmtide.dev/model-{storage_key(uri)}"
    client = story.town.client()
    client.is_allowed = lambda attributes: attributes["resource"] == "nodes"
    async with story.played("gpu-0", client=client):
        await story.cache("alpha", uri, places={"min": 1}, ttlSeconds=600)
        await story.town.after(30)
        revision = (await story.status("alpha"))["resolved"]["revision"]
        assert await story.labels("gpu-0") == {label: revision[:16]}
        [told] = await story.order("gpu-0")
        assert told["labelled"] is True

        client.requests.clear()
        await story.town.after(1500)
        assert await story.labels("gpu-0") == {}
        assert not story.tree("gpu-0", uri).exists()
        assert (await story.condition("alpha", "Ready"))["reason"] == "Expired"

    writes = [path for verb, path in client.requests if verb == "patch" and path.endswith("/gpu-0")]
    assert [path.split("/")[-2] for path in writes[:2]] == ["nodes", "nodemodelcaches"]


async def test_without_the_right_to_label_everything_else_works_and_says_so(story: Story) -> None:
    async with story.played("gpu-0"):
        await story.cache("alpha", story.model("alpha"), places={"min": 1})
        await story.town.after(30)
        labelled = await story.condition("alpha", "Labelled")
        status = await story.status("alpha")
        assert await story.labels("gpu-0") == {}

    assert (labelled["status"], labelled["reason"], status["reason"]) == ("False", "LabelsOff", "Ready")


async def test_the_model_of_a_service_lies_where_its_next_replica_may_start(story: Story) -> None:
    uri = story.model("alpha")
    async with story.played("gpu-0", "gpu-1", "gpu-2"):
        await story.cache("alpha", uri)
        await story.town.after(30)
        assert (await story.condition("alpha", "Ready"))["reason"] == "NotNeeded"

        await story.town.deploy(replicas=2, model=uri)
        await story.town.after(60)
        status = await story.status("alpha")

    pods = {place["node"] for place in status["places"]}
    assert status["reason"] == "Ready"
    assert pods


async def test_the_order_of_a_node_goes_with_the_node(story: Story) -> None:
    async with story.played("gpu-0"):
        await story.cache("alpha", story.model("alpha"), places={"min": 1})
        await story.town.after(30)
        order = await story.town.api.get(NODE_MODEL_CACHES, "", "gpu-0")
        node = await story.town.api.get(NODES, "", "gpu-0")

    [owner] = order["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", "gpu-0", node["metadata"]["uid"])


async def test_a_new_leader_takes_over_what_the_nodes_were_told(story: Story) -> None:
    uri = story.model("alpha")
    async with story.played("gpu-0", "gpu-1", "gpu-2"):
        await story.cache("alpha", uri, places={"min": 2})
        await story.town.after(30)
        before = [await story.order(f"gpu-{i}") for i in range(3)]
    async with story.town.controller("two", list_model=story.list_model) as client:
        await story.town.after(60)
        after = [await story.order(f"gpu-{i}") for i in range(3)]

    assert after == before
    assert story.asked == [uri]
    assert not [path for verb, path in client.requests if verb in ("create", "patch") and "nodemodelcaches" in path]


async def test_a_start_on_a_node_that_had_the_weights_is_warm_and_one_before_them_is_cold(story: Story) -> None:
    uri = story.model("alpha")
    async with story.played("gpu-0", "gpu-1", "gpu-2"):
        await story.town.deploy(replicas=1, model=uri)
        await story.town.after(60)
        assert "model" not in await story.town.status()

        await story.cache("alpha", uri, places={"min": 3})
        await story.town.after(400)
        await story.town.policy(replicas={"min": 3, "max": 16})
        await story.town.after(90)
        status = await story.town.status()

    assert status["model"] == {
        "cache": "default/alpha",
        "key": storage_key(uri),
        "warmNodes": 3,
        "nextTier": "warm",
        "nextNodeClass": "H100",
    }
    assert {lead["tier"]: lead["starts"] for lead in status["leadTimes"]} == {"cold": 1, "warm": 2}
