"""Volumes over models as stories: what comes, grows and goes with a ModelCache, and what is not touched."""

from typing import Any

import pytest

from autoscaler.errors import NamespaceTerminating
from cacheops.model import storage_key
from simulations.cluster.api import MODEL_CACHES, Resource

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)


async def test_a_claim_and_its_volume_come_grow_and_go_with_the_cache(story: Any) -> None:
    uri = story.model("alpha")
    client = story.client("persistentvolumes")
    async with story.played("gpu-0", client=client):
        await story.cache("alpha", uri, places={"min": 1}, volume={"enabled": True})
        await story.town.after(30)
        status = await story.status("alpha")
        claim = await story.town.api.get(CLAIMS, "default", "alpha")
        [volume] = await story.town.api.list(VOLUMES)
        client.requests.clear()
        await story.town.after(600)
        assert not [path for verb, path in client.requests if verb != "list" and "persistentvolume" in path]

        await story.town.api.delete(CLAIMS, "default", "alpha")
        await story.town.after(90)
        again = await story.town.api.get(CLAIMS, "default", "alpha")
        await story.town.api.delete(MODEL_CACHES, "default", "alpha")
        await story.town.after(150)
        left = [*await story.town.api.list(CLAIMS, "default"), *await story.town.api.list(VOLUMES)]

    assert (status["claim"], status["reason"]) == ("alpha", "Ready")
    assert volume["spec"]["local"]["path"] == f"/var/lib/warmtide/models/{storage_key(uri)}"
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert claim["metadata"]["ownerReferences"][0]["name"] == "alpha"
    assert again["metadata"]["uid"] != claim["metadata"]["uid"]
    assert left == []


async def test_a_claim_of_someone_else_is_left_alone_and_named(story: Any) -> None:
    client = story.client("persistentvolumes")
    theirs = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "x"}
    async with story.played("gpu-0", client=client):
        await story.town.api.create(CLAIMS, {"metadata": {"name": "alpha", "namespace": "default"}, "spec": theirs})
        await story.cache("alpha", story.model("alpha"), volume={"enabled": True})
        await story.town.after(30)
        condition = await story.condition("alpha", "Volume")
        assert await story.town.api.list(VOLUMES) == []

    assert (condition["status"], condition["reason"]) == ("False", "VolumeTaken")
    assert "storage class 'x'" in condition["message"]


async def test_a_claim_for_a_namespace_that_goes_is_no_trouble(story: Any, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(verb: str, path: str) -> NamespaceTerminating | None:
        going = verb == "create" and path.endswith("/persistentvolumeclaims")
        return NamespaceTerminating(403, "", "namespace default is being terminated") if going else None

    client = story.client("persistentvolumes")
    client.refuse = refuse
    async with story.played("gpu-0", client=client):
        await story.cache("alpha", story.model("alpha"), places={"min": 1}, volume={"enabled": True})
        await story.town.after(150)

    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
    assert len([path for verb, path in client.requests if verb == "create" and "claims" in path]) <= 4


@pytest.mark.parametrize(
    ("rights", "reason"),
    [
        pytest.param((), "VolumesOff", id="without the right to make volumes"),
        pytest.param(("persistentvolumes",), "LabelsOff", id="without the labels that its affinity goes by"),
    ],
)
async def test_what_a_volume_needs_and_has_not_is_said(story: Any, rights: tuple[str, ...], reason: str) -> None:
    client = story.client(*rights)
    async with story.played("gpu-0", client=client):
        await story.cache("alpha", story.model("alpha"), volume={"enabled": True, "onlyWarmNodes": True})
        await story.town.after(30)
        status = await story.status("alpha")
        made = await story.town.api.list(VOLUMES)

    assert (status["reason"], made, status.get("claim")) == (reason, [], None)
