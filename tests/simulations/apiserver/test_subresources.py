"""Status and scale: who may write which part of an object."""

import pytest

STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
async def web(cluster, deployment):
    path = cluster.path("deployments", group="apps/v1")
    (await cluster.ask("POST", path, deployment(replicas=2))).ok()
    return f"{path}/web"


@pytest.fixture
async def one(cluster, widgets, widget):
    path = cluster.path("widgets", group=widgets)
    (await cluster.ask("POST", path, widget(size=2))).ok()
    return f"{path}/one"


async def test_a_deployment_shows_its_scale(cluster, web):
    seen = (await cluster.ask("GET", web)).ok()

    scale = (await cluster.ask("GET", f"{web}/scale")).ok()

    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    for field in ("name", "namespace", "uid"):
        assert scale["metadata"][field] == seen["metadata"][field]
    assert int(scale["metadata"]["resourceVersion"]) >= int(seen["metadata"]["resourceVersion"])


async def test_scaling_changes_the_replicas_and_nothing_else(cluster, web):
    before = (await cluster.ask("GET", web)).ok()

    scaled = (await cluster.patch(f"{web}/scale", {"spec": {"replicas": 5}})).ok()

    after = (await cluster.ask("GET", web)).ok()
    assert scaled["spec"]["replicas"] == 5
    assert int(scaled["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    assert after["spec"] == before["spec"] | {"replicas": 5}
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


async def test_scaling_from_an_old_version_is_a_conflict(cluster, web):
    old = (await cluster.ask("GET", f"{web}/scale")).ok()["metadata"]["resourceVersion"]
    (await cluster.patch(web, {"metadata": {"labels": {"new": "label"}}})).ok()

    answer = await cluster.patch(f"{web}/scale", {"metadata": {"resourceVersion": old}, "spec": {"replicas": 5}})

    assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    assert (await cluster.ask("GET", web)).body["spec"]["replicas"] == 2


async def test_scaling_from_the_version_seen_works(cluster, web):
    async def is_scaled():  # again where a real Deployment controller came between
        seen = (await cluster.ask("GET", web)).ok()["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": seen}, "spec": {"replicas": 5}}
        return (await cluster.patch(f"{web}/scale", patch)).code == 200

    await cluster.until(is_scaled)
    assert (await cluster.ask("GET", web)).body["spec"]["replicas"] == 5


async def test_a_scale_can_be_put(cluster, web):
    scale = (await cluster.ask("GET", f"{web}/scale")).ok()
    del scale["metadata"]["resourceVersion"]  # a real Deployment controller may have written in between

    answer = await cluster.ask("PUT", f"{web}/scale", scale | {"spec": {"replicas": 0}})

    assert answer.code == 200
    assert (await cluster.ask("GET", web)).body["spec"]["replicas"] == 0


async def test_a_scale_below_zero_is_refused(cluster, web):
    answer = await cluster.patch(f"{web}/scale", {"spec": {"replicas": -1}})

    assert answer.code == 422
    assert "spec.replicas" in answer.causes


async def test_scaling_what_is_not_there_is_not_found(cluster):
    path = cluster.path("deployments", "gone", "scale", group="apps/v1")

    answer = await cluster.patch(path, {"spec": {"replicas": 1}})

    assert answer.code == 404
    assert answer.body["message"] == 'deployments.apps "gone" not found'


async def test_replica_sets_scale_too(cluster, deployment):
    body = deployment() | {"kind": "ReplicaSet"}
    path = cluster.path("replicasets", group="apps/v1")
    (await cluster.ask("POST", path, body)).ok()

    answer = await cluster.patch(f"{path}/web/scale", {"spec": {"replicas": 4}})

    assert answer.ok()["spec"]["replicas"] == 4


async def test_a_custom_resource_scales_where_its_crd_says(cluster, one):
    (await cluster.patch(f"{one}/status", {"status": {"size": 1, "selector": "a=b"}})).ok()

    scale = (await cluster.patch(f"{one}/scale", {"spec": {"replicas": 7}})).ok()

    assert scale["spec"]["replicas"] == 7
    assert scale["status"] == {"replicas": 1, "selector": "a=b"}
    assert (await cluster.ask("GET", one)).body["spec"]["size"] == 7


async def test_a_rule_can_refuse_a_scale(cluster, one):
    answer = await cluster.patch(f"{one}/scale", {"spec": {"replicas": 11}})

    assert answer.code == 422
    assert (await cluster.ask("GET", one)).body["spec"]["size"] == 2


async def test_a_kind_without_scale_has_none(cluster, config_map):
    (await cluster.ask("POST", cluster.path("configmaps"), config_map("one"))).ok()

    assert (await cluster.ask("GET", cluster.path("configmaps", "one", "scale"))).code == 404


async def test_the_status_of_a_deployment_is_only_written_as_such(cluster, web):
    await check_separation(cluster, web, "replicas")


async def test_the_status_of_a_custom_resource_is_only_written_as_such(cluster, one):
    await check_separation(cluster, one, "size")


async def check_separation(cluster, path, field):
    (await cluster.patch(path, {"status": {field: 3}})).ok()
    ignored = (await cluster.ask("GET", path)).ok()
    (await cluster.patch(f"{path}/status", {"spec": {field: 9}, "status": {field: 3}})).ok()
    written = (await cluster.ask("GET", path)).ok()

    assert field not in ignored.get("status", {})
    assert written["status"][field] == 3
    assert written["spec"][field] == 2


async def test_a_status_brought_along_at_birth_is_dropped(cluster, widgets, widget):
    body = widget() | {"status": {"size": 3}}

    made = (await cluster.ask("POST", cluster.path("widgets", group=widgets), body)).ok()

    assert "status" not in made


async def test_a_new_status_is_no_new_generation(cluster, one):
    answer = await cluster.patch(f"{one}/status", {"status": {"size": 3}})

    assert answer.ok()["metadata"]["generation"] == 1


async def test_labels_do_not_change_through_the_status_of_a_custom_resource(cluster, one):
    (await cluster.patch(f"{one}/status", {"metadata": {"labels": {"a": "b"}}, "status": {"size": 3}})).ok()

    assert "labels" not in (await cluster.ask("GET", one)).body["metadata"]


async def test_a_status_from_an_old_version_is_a_conflict(cluster, one):
    seen = (await cluster.ask("GET", one)).ok()
    (await cluster.patch(one, {"spec": {"size": 3}})).ok()

    answer = await cluster.ask("PUT", f"{one}/status", seen | {"status": {"size": 3}})

    assert answer.code == 409


async def test_a_node_registers_with_its_status_and_a_pod_does_not(cluster):
    name = f"node-{cluster.space}"
    node = {"metadata": {"name": name}, "status": {"capacity": {"nvidia.com/gpu": "8"}}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Failed"},
    }

    made = (await cluster.ask("POST", "/api/v1/nodes", node)).ok()
    born = (await cluster.ask("POST", cluster.path("pods"), pod)).ok()

    assert made["status"]["capacity"]["nvidia.com/gpu"] == "8"
    assert born["status"]["phase"] == "Pending"
    await cluster.ask("DELETE", f"/api/v1/nodes/{name}")


async def test_binding_puts_a_pod_on_a_node_once(cluster):
    spec = {"schedulerName": "this-test", "containers": [{"name": "c", "image": "i"}]}
    (await cluster.ask("POST", cluster.path("pods"), {"metadata": {"name": "p"}, "spec": spec})).ok()
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}

    first = await cluster.ask("POST", cluster.path("pods", "p", "binding"), binding)
    second = await cluster.ask("POST", cluster.path("pods", "p", "binding"), binding)

    bound = (await cluster.ask("GET", cluster.path("pods", "p"))).ok()
    assert first.code == 201
    assert second.code == 409
    assert bound["spec"]["nodeName"] == "n1"
    assert {one["type"]: one["status"] for one in bound["status"]["conditions"]} == {"PodScheduled": "True"}
    await cluster.ask("DELETE", cluster.path("pods", "p"), {"gracePeriodSeconds": 0})
