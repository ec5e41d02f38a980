"""Patches: three formats, applied or refused as the real server does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.cluster.apiserver.patches import json_patch, merge_patch

JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


@pytest.fixture
async def web(cluster, deployment):
    """A Deployment; gives its path."""
    path = cluster.path("deployments", group="apps/v1")
    (await cluster.ask("POST", path, deployment())).ok()
    return f"{path}/web"


@pytest.fixture
async def data(cluster, config_map):
    """A ConfigMap; gives its path."""
    (await cluster.ask("POST", cluster.path("configmaps"), config_map("one", a="1", b="2"))).ok()
    return cluster.path("configmaps", "one")


async def test_a_merge_patch_merges_replaces_and_removes(cluster, data):
    answer = await cluster.patch(data, {"data": {"a": None, "b": "3", "c": "4"}})

    assert answer.ok()["data"] == {"b": "3", "c": "4"}


async def test_a_merge_patch_replaces_lists_whole(cluster, web):
    container = {"name": "main", "image": "new"}

    answer = await cluster.patch(web, {"spec": {"template": {"spec": {"containers": [container]}}}})

    assert "env" not in answer.ok()["spec"]["template"]["spec"]["containers"][0]


async def test_a_merge_patch_from_an_old_version_is_a_conflict(cluster, data):
    old = (await cluster.ask("GET", data)).ok()["metadata"]["resourceVersion"]
    (await cluster.patch(data, {"data": {"a": "9"}})).ok()

    answer = await cluster.patch(data, {"metadata": {"resourceVersion": old}, "data": {"a": "10"}})

    assert (answer.code, answer.body["reason"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        pytest.param([{"op": "add", "path": "/data/c", "value": "3"}], {"a": "1", "b": "2", "c": "3"}, id="add"),
        pytest.param([{"op": "remove", "path": "/data/a"}], {"b": "2"}, id="remove"),
        pytest.param([{"op": "replace", "path": "/data/a", "value": "9"}], {"a": "9", "b": "2"}, id="replace"),
        pytest.param([{"op": "move", "from": "/data/a", "path": "/data/c"}], {"b": "2", "c": "1"}, id="move"),
        pytest.param([{"op": "copy", "from": "/data/a", "path": "/data/c"}], {"a": "1", "b": "2", "c": "1"}, id="copy"),
        pytest.param(
            [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "remove", "path": "/data/b"}],
            {"a": "1"},
            id="test holds",
        ),
    ],
)
async def test_a_json_patch_operates(cluster, data, operations, expected):
    answer = await cluster.patch(data, operations, JSON_PATCH)

    assert answer.ok()["data"] == expected


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([{"op": "test", "path": "/data/a", "value": "2"}], id="test fails"),
        pytest.param([{"op": "remove", "path": "/data/zz"}], id="remove what is not there"),
        pytest.param([{"op": "replace", "path": "/data/zz/y", "value": "1"}], id="replace below nothing"),
    ],
)
async def test_a_json_patch_that_does_not_fit_changes_nothing(cluster, data, operations):
    first = {"op": "replace", "path": "/data/b", "value": "changed"}

    answer = await cluster.patch(data, [first, *operations], JSON_PATCH)

    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    assert (await cluster.ask("GET", data)).body["data"] == {"a": "1", "b": "2"}


async def test_a_json_pointer_escapes_slashes(cluster, data):
    operations = [
        {"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/annotations/warmtide.dev~1policy", "value": "chat"},
    ]

    answer = await cluster.patch(data, operations, JSON_PATCH)

    assert answer.ok()["metadata"]["annotations"] == {"warmtide.dev/policy": "chat"}


async def test_a_json_patch_must_be_a_list(cluster, data):
    answer = await cluster.patch(data, {"data": {}}, JSON_PATCH)

    assert answer.code == 400


async def test_a_strategic_patch_merges_containers_and_variables_by_name(cluster, web):
    container = {"name": "main", "env": [{"name": "B", "value": "2"}]}

    answer = await cluster.patch(web, {"spec": {"template": {"spec": {"containers": [container]}}}}, STRATEGIC)

    merged = answer.ok()["spec"]["template"]["spec"]["containers"]
    assert len(merged) == 1
    assert merged[0]["image"] == "none"
    assert {variable["name"]: variable["value"] for variable in merged[0]["env"]} == {"A": "1", "B": "2"}


async def test_a_strategic_patch_deletes_items_by_directive(cluster, web):
    container = {"name": "main", "env": [{"name": "A", "$patch": "delete"}]}

    answer = await cluster.patch(web, {"spec": {"template": {"spec": {"containers": [container]}}}}, STRATEGIC)

    assert not answer.ok()["spec"]["template"]["spec"]["containers"][0].get("env")


async def test_a_strategic_patch_orders_items_as_told(cluster, web):
    spec = {
        "$setElementOrder/containers": [{"name": "side"}, {"name": "main"}],
        "containers": [{"name": "side", "image": "none"}],
    }

    answer = await cluster.patch(web, {"spec": {"template": {"spec": spec}}}, STRATEGIC)

    assert [one["name"] for one in answer.ok()["spec"]["template"]["spec"]["containers"]] == ["side", "main"]


async def test_a_strategic_patch_merges_conditions_by_type(cluster, web):
    def condition(kind, status):
        return {"type": kind, "status": status}

    first = {"status": {"conditions": [condition("Available", "True"), condition("Progressing", "True")]}}
    (await cluster.patch(f"{web}/status", first, STRATEGIC)).ok()

    answer = await cluster.patch(
        f"{web}/status", {"status": {"conditions": [condition("Available", "False")]}}, STRATEGIC
    )

    found = {one["type"]: one["status"] for one in answer.ok()["status"]["conditions"]}
    assert found == {"Available": "False", "Progressing": "True"}


async def test_finalizers_are_merged_as_a_set(cluster, data):
    (await cluster.patch(data, {"metadata": {"finalizers": ["warmtide.dev/a"]}})).ok()

    answer = await cluster.patch(data, {"metadata": {"finalizers": ["warmtide.dev/b"]}}, STRATEGIC)

    assert set(answer.ok()["metadata"]["finalizers"]) == {"warmtide.dev/a", "warmtide.dev/b"}
    (await cluster.patch(data, {"metadata": {"finalizers": None}})).ok()


async def test_custom_resources_take_no_strategic_patch(cluster, widgets, widget):
    path = cluster.path("widgets", group=widgets)
    (await cluster.ask("POST", path, widget())).ok()

    answer = await cluster.patch(f"{path}/one", {"spec": {"size": 2}}, STRATEGIC)

    assert (answer.code, answer.body["reason"]) == (415, "UnsupportedMediaType")
    assert "application/merge-patch+json" in answer.body["message"]


async def test_an_unknown_patch_format_is_refused(cluster, data):
    answer = await cluster.patch(data, {}, "application/json")

    assert answer.code == 415


async def test_the_stand_in_says_that_it_serves_no_server_side_apply(stand_in, config_map):
    (await stand_in.ask("POST", stand_in.path("configmaps"), config_map("one"))).ok()

    answer = await stand_in.patch(stand_in.path("configmaps", "one"), config_map("one"), APPLY)

    assert answer.code == 415
    assert "does not serve server-side apply" in answer.body["message"]


async def test_patching_what_is_not_there_is_not_found(cluster):
    answer = await cluster.patch(cluster.path("configmaps", "gone"), {"data": {}})

    assert answer.code == 404


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab~/", max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("ab~/", max_size=2), below, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(st.text("ab~/", max_size=2), values, max_size=4)


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return value


@given(target=objects, patch=objects)
def test_a_merge_patch_applied_twice_is_applied_once(target, patch):
    once = merge_patch(target, patch)

    assert merge_patch(once, patch) == once


@given(patch=objects)
def test_a_merge_patch_of_nothing_is_the_patch_without_its_nulls(patch):
    assert merge_patch({}, patch) == without_nulls(patch)


@given(target=objects, patch=objects)
def test_a_merge_patch_leaves_its_target_alone(target, patch):
    before = repr(target)

    merge_patch(target, patch)

    assert repr(target) == before


@given(target=objects, name=st.text("ab~/", max_size=3), value=values)
def test_what_a_json_patch_adds_it_finds_copies_and_removes_again(target, name, value):
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    bare = {key: item for key, item in target.items() if key != name}
    add, test, remove = (
        {"op": "add", "path": path, "value": value},
        {"op": "test", "path": path, "value": value},
        {"op": "remove", "path": path},
    )

    assert json_patch(target, [add, test]) == target | {name: value}
    assert json_patch(target, [add, remove]) == bare
