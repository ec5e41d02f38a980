"""Create, read, update, conflict: the rules every object lives by."""

import re

import pytest


async def test_a_created_object_gets_what_the_server_decides(cluster, config_map):
    path = cluster.path("configmaps")

    made = (await cluster.ask("POST", path, config_map("one", a="1"))).ok()

    metadata = made["metadata"]
    assert metadata["namespace"] == cluster.space
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert int(metadata["resourceVersion"]) > 0
    assert made["data"] == {"a": "1"}


async def test_what_was_created_can_be_read_back(cluster, config_map):
    made = (await cluster.ask("POST", cluster.path("configmaps"), config_map("one", a="1"))).ok()

    read = (await cluster.ask("GET", cluster.path("configmaps", "one"))).ok()

    assert read["metadata"]["uid"] == made["metadata"]["uid"]
    assert read["data"] == made["data"]


async def test_generate_name_appends_five_letters(cluster, config_map):
    body = config_map("x") | {"metadata": {"generateName": "many-"}}

    first = (await cluster.ask("POST", cluster.path("configmaps"), body)).ok()
    second = (await cluster.ask("POST", cluster.path("configmaps"), body)).ok()

    assert re.fullmatch(r"many-[a-z0-9]{5}", first["metadata"]["name"])
    assert first["metadata"]["name"] != second["metadata"]["name"]


async def test_creating_twice_is_a_conflict_that_names_the_object(cluster, deployment):
    path = cluster.path("deployments", group="apps/v1")
    (await cluster.ask("POST", path, deployment())).ok()

    again = await cluster.ask("POST", path, deployment())

    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")
    assert again.body["message"] == 'deployments.apps "web" already exists'
    assert again.body["details"] == {"name": "web", "group": "apps", "kind": "deployments"}


async def test_an_absent_object_is_not_found_in_the_servers_words(cluster):
    answer = await cluster.ask("GET", cluster.path("deployments", "gone", group="apps/v1"))

    assert answer.code == 404
    assert answer.body["kind"] == "Status"
    assert answer.body["status"] == "Failure"
    assert answer.body["message"] == 'deployments.apps "gone" not found'
    assert answer.body["reason"] == "NotFound"


async def test_core_objects_are_named_without_a_group(cluster):
    answer = await cluster.ask("GET", cluster.path("pods", "gone"))

    assert answer.body["message"] == 'pods "gone" not found'
    assert answer.body["details"] == {"name": "gone", "kind": "pods"}


async def test_nothing_can_be_created_in_an_unknown_namespace(cluster, config_map):
    answer = await cluster.ask("POST", "/api/v1/namespaces/no-such-space/configmaps", config_map("one"))

    assert answer.code == 404
    assert answer.body["message"] == 'namespaces "no-such-space" not found'


async def test_an_update_of_an_old_version_is_a_conflict(cluster, deployment):
    path = cluster.path("deployments", group="apps/v1")
    old = (await cluster.ask("POST", path, deployment())).ok()
    (await cluster.patch(f"{path}/web", {"spec": {"replicas": 2}})).ok()

    answer = await cluster.ask("PUT", f"{path}/web", old)

    assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    assert answer.body["message"] == (
        'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_an_update_for_another_uid_is_a_conflict(cluster, config_map):
    path = cluster.path("configmaps")
    made = (await cluster.ask("POST", path, config_map("one"))).ok()
    made["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"

    answer = await cluster.ask("PUT", f"{path}/one", made)

    assert answer.code == 409
    assert "Precondition failed: UID in precondition" in answer.body["message"]


async def test_an_update_under_another_name_is_a_bad_request(cluster, config_map):
    path = cluster.path("configmaps")
    (await cluster.ask("POST", path, config_map("one"))).ok()

    answer = await cluster.ask("PUT", f"{path}/one", config_map("two"))

    assert answer.code == 400
    assert answer.body["message"] == "the name of the object (two) does not match the name on the URL (one)"


async def test_an_update_cannot_change_what_the_server_decided(cluster, config_map):
    path = cluster.path("configmaps")
    made = (await cluster.ask("POST", path, config_map("one"))).ok()

    changed = (await cluster.patch(f"{path}/one", {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z"}})).ok()

    assert changed["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]


async def test_an_update_without_a_change_makes_no_new_version(cluster, config_map):
    path = cluster.path("configmaps")
    made = (await cluster.ask("POST", path, config_map("one", a="1"))).ok()

    same = (await cluster.patch(f"{path}/one", {"data": {"a": "1"}})).ok()

    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_only_changes_of_the_spec_count_as_generations(cluster, deployment):
    path = cluster.path("deployments", group="apps/v1")
    made = (await cluster.ask("POST", path, deployment())).ok()
    labelled = (await cluster.patch(f"{path}/web", {"metadata": {"labels": {"x": "y"}}})).ok()
    scaled = (await cluster.patch(f"{path}/web", {"spec": {"replicas": 3}})).ok()

    generations = [obj["metadata"]["generation"] for obj in (made, labelled, scaled)]

    assert generations == [1, 1, 2]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Upper", id="upper case"),
        pytest.param("under_score", id="underscore"),
        pytest.param("-dash", id="dash first"),
        pytest.param("x" * 254, id="too long"),
    ],
)
async def test_a_bad_name_is_refused_with_its_field(cluster, config_map, name):
    answer = await cluster.ask("POST", cluster.path("configmaps"), config_map(name))

    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    assert "metadata.name" in answer.causes


async def test_a_name_must_be_given(cluster, config_map):
    answer = await cluster.ask("POST", cluster.path("configmaps"), config_map("x") | {"metadata": {}})

    assert answer.code == 422
    assert answer.body["details"]["causes"][0]["reason"] == "FieldValueRequired"


async def test_a_body_of_another_kind_is_refused(cluster, config_map):
    answer = await cluster.ask("POST", cluster.path("configmaps"), config_map("one") | {"kind": "Secret"})

    assert answer.code == 400


async def test_a_body_of_another_namespace_is_refused(cluster, config_map):
    body = config_map("one")
    body["metadata"]["namespace"] = "default"

    answer = await cluster.ask("POST", cluster.path("configmaps"), body)

    assert answer.code == 400
    assert "does not match the namespace" in answer.body["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe"], ids=["empty", "cut off", "a list", "no text"])
async def test_a_body_that_is_no_object_is_refused(cluster, body):
    answer = await cluster.ask("POST", cluster.path("configmaps"), body)

    assert answer.code == 400
    assert answer.body["kind"] == "Status"


async def test_a_body_of_more_than_three_megabytes_is_refused(cluster, config_map):
    answer = await cluster.ask("POST", cluster.path("configmaps"), config_map("one", a="x" * (3 * 1024 * 1024)))

    assert answer.code == 413


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"replicas": -1}, "spec.replicas", id="negative replicas"),
        pytest.param({"selector": None}, "spec.selector", id="no selector"),
        pytest.param(
            {"selector": {"matchLabels": {"app": "other"}}}, "spec.template.metadata.labels", id="foreign labels"
        ),
    ],
)
async def test_a_deployment_that_cannot_work_is_refused(cluster, deployment, spec, field):
    body = deployment()
    body["spec"] |= spec

    answer = await cluster.ask("POST", cluster.path("deployments", group="apps/v1"), body)

    assert answer.code == 422
    assert field in answer.causes


async def test_a_selector_cannot_change(cluster, deployment):
    path = cluster.path("deployments", group="apps/v1")
    (await cluster.ask("POST", path, deployment())).ok()
    labels = {"app": "web", "more": "x"}
    template = {"metadata": {"labels": labels}}

    answer = await cluster.patch(f"{path}/web", {"spec": {"selector": {"matchLabels": labels}, "template": template}})

    assert answer.code == 422
    assert "field is immutable" in answer.causes["spec.selector"]


async def test_a_deployment_gets_the_defaults_controllers_rely_on(cluster, deployment):
    body = deployment()
    del body["spec"]["replicas"]

    spec = (await cluster.ask("POST", cluster.path("deployments", group="apps/v1"), body)).ok()["spec"]

    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30
    assert spec["template"]["spec"]["restartPolicy"] == "Always"


async def test_a_lease_changes_hands_only_from_the_version_seen(cluster):
    path = cluster.path("leases", group="coordination.k8s.io/v1")
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    seen = (await cluster.ask("POST", path, {"metadata": {"name": "leader"}, "spec": spec})).ok()
    taken = seen | {"spec": spec | {"holderIdentity": "b"}}

    first = await cluster.ask("PUT", f"{path}/leader", taken)
    second = await cluster.ask("PUT", f"{path}/leader", seen | {"spec": spec | {"holderIdentity": "c"}})

    assert first.code == 200
    assert second.code == 409
    assert (await cluster.ask("GET", f"{path}/leader")).body["spec"]["holderIdentity"] == "b"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"leaseDurationSeconds": 0}, id="no duration"),
        pytest.param({"leaseTransitions": -1}, id="negative transitions"),
    ],
)
async def test_a_lease_that_cannot_be_held_is_refused(cluster, spec):
    body = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a"} | spec}

    answer = await cluster.ask("POST", cluster.path("leases", group="coordination.k8s.io/v1"), body)

    assert answer.code == 422


async def test_events_of_both_apis_are_the_same_objects(cluster):
    about = {"kind": "Pod", "namespace": cluster.space, "name": "p"}
    event = {
        "metadata": {"name": "e1"},
        "regarding": about,
        "reason": "Scaled",
        "note": "from 1 to 2",
        "type": "Normal",
        "action": "Scale",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "warmtide.dev/controller",
        "reportingInstance": "one",
    }
    (await cluster.ask("POST", cluster.path("events", group="events.k8s.io/v1"), event)).ok()

    core = (await cluster.ask("GET", cluster.path("events", "e1"))).ok()

    assert core["apiVersion"] == "v1"
    assert core["message"] == "from 1 to 2"
    assert core["involvedObject"]["name"] == "p"
    assert core["reportingComponent"] == "warmtide.dev/controller"


async def test_an_unknown_path_is_a_status_too(cluster):
    answer = await cluster.ask("GET", "/apis/no.such.group/v1/things")

    assert answer.code == 404


async def test_a_collection_cannot_be_put(cluster, config_map):
    answer = await cluster.ask("PUT", cluster.path("configmaps"), config_map("one"))

    assert (answer.code, answer.body["reason"]) == (405, "MethodNotAllowed")
