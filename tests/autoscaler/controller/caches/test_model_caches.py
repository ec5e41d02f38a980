"""Model caches as stories: resolved once, placed, fetched by real agents, labelled, given up, and said."""

from typing import Any

from cacheops.errors import SourceUnavailableError
from cacheops.model import storage_key
from cacheops.place import HOLD_S
from simulations.cluster.api import MODEL_CACHES, NAMESPACES, NODE_MODEL_CACHES, Resource

NODES = Resource("", "v1", "nodes", "Node", namespaced=False)


async def test_a_cache_is_resolved_once_placed_fetched_and_reported(story: Any) -> None:
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


async def test_a_branch_that_moves_changes_nothing_until_someone_says_so(story: Any) -> None:
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


async def test_a_source_that_is_away_is_asked_again_later_and_later_and_said_so(story: Any) -> None:
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


async def test_files_without_digests_need_a_word(story: Any) -> None:
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


async def test_two_caches_of_one_source_never_fight_over_its_folder(story: Any) -> None:
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


async def test_when_nothing_changes_nothing_is_written(story: Any) -> None:
    async with story.played("gpu-0", "gpu-1", "gpu-2") as client:
        await story.cache("alpha", story.model("alpha"), places={"min": 2})
        await story.town.deploy(replicas=1)
        await story.town.after(60)
        client.requests.clear()
        await story.town.after(600)
        written = [path for verb, path in client.requests if verb in ("create", "patch") and "cache" in path]

    assert written == []


async def test_a_label_stands_only_where_the_agent_waits_for_it_to_go(story: Any) -> None:
    uri = story.model("alpha")
    label = f"warmtide.dev/model-{storage_key(uri)}"
    client = story.client("nodes")
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


async def test_without_the_right_to_label_everything_else_works_and_says_so(story: Any) -> None:
    async with story.played("gpu-0"):
        await story.cache("alpha", story.model("alpha"), places={"min": 1})
        await story.town.after(30)
        labelled = await story.condition("alpha", "Labelled")
        status = await story.status("alpha")
        assert await story.labels("gpu-0") == {}

    assert (labelled["status"], labelled["reason"], status["reason"]) == ("False", "LabelsOff", "Ready")


async def test_the_model_of_a_service_lies_where_its_next_replica_may_start(story: Any) -> None:
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


async def test_the_order_of_a_node_goes_with_the_node(story: Any) -> None:
    async with story.played("gpu-0"):
        await story.cache("alpha", story.model("alpha"), places={"min": 1})
        await story.town.after(30)
        order = await story.town.api.get(NODE_MODEL_CACHES, "", "gpu-0")
        node = await story.town.api.get(NODES, "", "gpu-0")

        await story.town.api.delete(NODES, "", "gpu-0")
        await story.town.after(10)
        told = {one["metadata"]["name"] for one in await story.town.api.list(NODE_MODEL_CACHES)}

    [owner] = order["metadata"]["ownerReferences"]
    assert told == {"gpu-1", "gpu-2"}
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", "gpu-0", node["metadata"]["uid"])


async def test_a_new_leader_takes_over_what_the_nodes_were_told(story: Any) -> None:
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


async def test_what_is_held_for_a_while_is_not_held_longer_because_the_leader_changed(story: Any) -> None:
    async def told() -> int:
        return sum([bool(await story.order(f"gpu-{i}")) for i in range(3)])

    async with story.played("gpu-0", "gpu-1", "gpu-2"):
        await story.cache("alpha", story.model("alpha"), places={"min": 3})
        await story.town.after(0.7 * HOLD_S)
        await story.change("alpha", spec={"places": {"min": 1}})
        await story.town.after(0.1 * HOLD_S)
        assert await told() == 3
    async with story.agents("gpu-0", "gpu-1", "gpu-2"), story.town.controller("two", list_model=story.list_model):
        await story.town.after(0.1 * HOLD_S)
        assert await told() == 3
        await story.town.after(0.2 * HOLD_S)
        assert await told() == 1


async def test_a_start_on_a_node_that_had_the_weights_is_warm_and_one_before_them_is_cold(story: Any) -> None:
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


async def test_a_service_knows_of_the_cache_of_another_namespace_that_brings_its_model(story: Any) -> None:
    uri = story.model("alpha")
    async with story.played("gpu-0", "gpu-1", "gpu-2"):
        await story.town.api.create(NAMESPACES, {"metadata": {"name": "ops"}})
        await story.cache("alpha", uri, places={"min": 3}, namespace="ops")
        await story.town.deploy(replicas=1, model=uri)
        await story.town.after(400)
        status = await story.town.status()

    assert (status["model"]["cache"], status["model"]["warmNodes"]) == ("ops/alpha", 3)


async def test_an_order_that_the_watch_has_not_told_yet_is_not_overwritten(story: Any) -> None:
    uri = story.model("alpha")
    async with story.played("gpu-0"):
        await story.cache("alpha", uri, places={"min": 1})
        await story.town.after(30)
        before = await story.order("gpu-0")
    client = story.town.client()
    client.hides = lambda path: path.endswith("/nodemodelcaches")
    async with story.town.controller("two", client, list_model=story.list_model):
        await story.town.after(60)
        assert await story.order("gpu-0") == before

    assert ("create", "/apis/warmtide.dev/v1alpha1/nodemodelcaches") in client.requests
