"""How objects go: finalizers, grace, preconditions, owners, namespaces.

Owners and namespaces are the business of the controller manager in a real cluster; those tests wait
for it and run against a real server only with `plane.py --controllers`.
"""

import os

import pytest

FINALIZER = "warmtide.dev/hold"


@pytest.fixture
def collected(cluster):
    """The cluster, if it collects garbage."""
    if cluster.server is None and not os.environ.get("WARMTIDE_REAL_CONTROLLERS"):
        pytest.skip("needs a controller manager: plane.py --controllers and WARMTIDE_REAL_CONTROLLERS=1")
    return cluster


@pytest.fixture
def make(cluster, config_map):
    """Creates a ConfigMap, owned by others where they are given."""

    async def build(name, *owners, finalizers=(), block=False):
        body = config_map(name)
        body["metadata"]["finalizers"] = list(finalizers)
        body["metadata"]["ownerReferences"] = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "blockOwnerDeletion": block,
            }
            for owner in owners
        ]
        return (await cluster.ask("POST", cluster.path("configmaps"), body)).ok()

    return build


async def names(cluster):
    listed = (await cluster.ask("GET", cluster.path("configmaps"))).ok()
    return {item["metadata"]["name"] for item in listed["items"]} - {"kube-root-ca.crt"}


async def delete(cluster, name, **options):
    return await cluster.ask("DELETE", cluster.path("configmaps", name), options)


async def test_a_deleted_object_is_gone_and_said_to_be(cluster, make):
    made = await make("one")

    answer = await delete(cluster, "one")

    assert answer.ok()["status"] == "Success"
    assert answer.body["details"] == {"name": "one", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    assert (await cluster.ask("GET", cluster.path("configmaps", "one"))).code == 404


async def test_deleting_what_is_not_there_is_not_found(cluster):
    assert (await delete(cluster, "gone")).code == 404


async def test_a_finalizer_holds_an_object_until_it_leaves(cluster, make):
    await make("one", finalizers=[FINALIZER])

    held = (await delete(cluster, "one")).ok()
    freed = (await cluster.patch(cluster.path("configmaps", "one"), {"metadata": {"finalizers": None}})).ok()

    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["finalizers"] == [FINALIZER]
    assert freed["metadata"]["name"] == "one"
    assert (await cluster.ask("GET", cluster.path("configmaps", "one"))).code == 404


async def test_an_object_that_is_going_takes_no_new_finalizers(cluster, make):
    await make("one", finalizers=[FINALIZER])
    (await delete(cluster, "one")).ok()
    path = cluster.path("configmaps", "one")

    answer = await cluster.patch(path, {"metadata": {"finalizers": [FINALIZER, "warmtide.dev/late"]}})

    assert answer.code == 422
    assert "no new finalizers can be added" in answer.body["message"]
    await cluster.patch(path, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
async def test_a_precondition_that_does_not_hold_is_a_conflict(cluster, make, field):
    await make("one")

    answer = await delete(cluster, "one", preconditions={field: "1"})

    assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    assert "in the precondition (1) does not match" in answer.body["message"]
    assert await names(cluster) == {"one"}


async def test_a_precondition_that_holds_lets_go(cluster, make):
    metadata = (await make("one"))["metadata"]

    answer = await delete(
        cluster, "one", preconditions={"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    )

    assert answer.code == 200


async def test_a_collection_is_deleted_by_selector(cluster, make):
    for name in ("a", "b", "c"):
        await make(name)
    await cluster.patch(cluster.path("configmaps", "b"), {"metadata": {"labels": {"keep": "yes"}}})

    params = {"labelSelector": "!keep", "fieldSelector": "metadata.name!=kube-root-ca.crt"}
    answer = await cluster.ask("DELETE", cluster.path("configmaps"), params=params)

    assert answer.code == 200
    assert await names(cluster) == {"b"}


@pytest.fixture
async def pod(cluster):
    """A pod on a node; gives its path."""
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 40}
    (await cluster.ask("POST", cluster.path("pods"), {"metadata": {"name": "p"}, "spec": spec})).ok()
    yield cluster.path("pods", "p")
    await cluster.ask("DELETE", cluster.path("pods", "p"), {"gracePeriodSeconds": 0})


async def test_a_pod_on_a_node_gets_time_to_end(cluster, pod):
    going = (await cluster.ask("DELETE", pod)).ok()

    assert going["kind"] == "Pod"
    assert going["metadata"]["deletionTimestamp"]
    assert going["metadata"]["deletionGracePeriodSeconds"] == 40
    assert (await cluster.ask("GET", pod)).code == 200


async def test_the_time_to_end_can_be_shortened_but_not_prolonged(cluster, pod):
    for asked, expected in ((20, 20), (35, 20), (5, 5)):
        going = (await cluster.ask("DELETE", pod, {"gracePeriodSeconds": asked})).ok()
        assert going["metadata"]["deletionGracePeriodSeconds"] == expected


async def test_without_grace_a_pod_goes_at_once(cluster, pod):
    (await cluster.ask("DELETE", pod)).ok()
    (await cluster.ask("DELETE", pod, {"gracePeriodSeconds": 0})).ok()

    assert (await cluster.ask("GET", pod)).code == 404


async def test_a_pod_without_a_node_goes_at_once(cluster):
    spec = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]}
    body = {"metadata": {"name": "p"}, "spec": spec}
    (await cluster.ask("POST", cluster.path("pods"), body)).ok()

    (await cluster.ask("DELETE", cluster.path("pods", "p"))).ok()

    assert (await cluster.ask("GET", cluster.path("pods", "p"))).code == 404


async def test_what_an_owner_had_goes_with_it(collected, make):
    owner = await make("owner")
    child = await make("child", owner)
    await make("grandchild", child)
    await make("other")

    (await delete(collected, "owner")).ok()

    async def are_gone():
        return await names(collected) == {"other"}

    await collected.until(are_gone)


async def test_an_object_with_another_living_owner_stays(collected, make):
    first, second = await make("first"), await make("second")
    await make("shared", first, second)

    (await delete(collected, "first")).ok()

    async def is_released():
        shared = (await collected.ask("GET", collected.path("configmaps", "shared"))).ok()
        return [owner["name"] for owner in shared["metadata"]["ownerReferences"]] == ["second"]

    await collected.until(is_released)


async def test_orphans_are_left_without_an_owner(collected, make):
    owner = await make("owner")
    await make("child", owner)

    (await delete(collected, "owner", propagationPolicy="Orphan")).ok()

    async def is_free():
        child = (await collected.ask("GET", collected.path("configmaps", "child"))).ok()
        return "ownerReferences" not in child["metadata"] and await names(collected) == {"child"}

    await collected.until(is_free)


async def test_in_the_foreground_the_owner_goes_last(collected, make):
    owner = await make("owner")
    await make("child", owner, finalizers=[FINALIZER], block=True)

    going = (await delete(collected, "owner", propagationPolicy="Foreground")).ok()

    async def is_marked():
        child = (await collected.ask("GET", collected.path("configmaps", "child"))).ok()
        return "deletionTimestamp" in child["metadata"]

    async def is_empty():
        return await names(collected) == set()

    await collected.until(is_marked)
    assert going["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert await names(collected) == {"owner", "child"}
    await collected.patch(collected.path("configmaps", "child"), {"metadata": {"finalizers": None}})
    await collected.until(is_empty)


async def test_an_object_born_after_its_owner_went_is_collected(collected, make):
    owner = await make("owner")
    (await delete(collected, "owner")).ok()
    await make("late", owner)

    async def is_gone():
        return "late" not in await names(collected)

    await collected.until(is_gone)


async def test_a_namespace_goes_with_all_it_holds(collected, make):
    await make("one")

    (await collected.ask("DELETE", f"/api/v1/namespaces/{collected.space}")).ok()

    async def is_gone():
        return (await collected.ask("GET", f"/api/v1/namespaces/{collected.space}")).code == 404

    await collected.until(is_gone)


async def test_a_namespace_that_is_going_takes_nothing_new(cluster, make, config_map):
    await make("one", finalizers=[FINALIZER])
    going = (await cluster.ask("DELETE", f"/api/v1/namespaces/{cluster.space}")).ok()

    answer = await cluster.ask("POST", cluster.path("configmaps"), config_map("late"))

    assert going["status"]["phase"] == "Terminating"
    assert answer.code == 403
    assert "because it is being terminated" in answer.body["message"]
    assert answer.body["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {cluster.space} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    await cluster.patch(cluster.path("configmaps", "one"), {"metadata": {"finalizers": None}})


async def test_the_first_namespace_stays(cluster):
    answer = await cluster.ask("DELETE", "/api/v1/namespaces/default")

    assert answer.code == 403
    assert answer.body["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'


async def test_eviction_lets_a_pod_go(cluster, pod):
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": cluster.space}}

    answer = await cluster.ask("POST", f"{pod}/eviction", body)

    assert answer.code == 201
    assert "deletionTimestamp" in (await cluster.ask("GET", pod)).body["metadata"]
