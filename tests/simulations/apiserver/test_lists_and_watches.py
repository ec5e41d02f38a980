"""Lists, pages, selectors and watches, with all that can be wrong with a version."""

import asyncio
import json

import pytest

SELECTED = {
    "tier=gold": {"a", "b"},
    "tier==gold": {"a", "b"},
    "tier!=gold": {"c", "d"},
    "tier in (gold,silver)": {"a", "b", "c"},
    "tier notin (gold, silver)": {"d"},
    "tier": {"a", "b", "c"},
    "!tier": {"d"},
    "tier=gold,zone=x": {"a"},
    "tier in (gold),zone!=x": {"b"},
}


@pytest.fixture
async def four(cluster, config_map):
    """Four labelled objects; gives their path."""
    path = cluster.path("configmaps")
    labels = {
        "a": {"tier": "gold", "zone": "x", "set": "four"},
        "b": {"tier": "gold", "zone": "y", "set": "four"},
        "c": {"tier": "silver", "set": "four"},
        "d": {"set": "four"},
    }
    for name, have in labels.items():
        body = config_map(name)
        body["metadata"]["labels"] = have
        (await cluster.ask("POST", path, body)).ok()
    return path


def names(listed):
    return [item["metadata"]["name"] for item in listed["items"]]


@pytest.mark.parametrize(("selector", "expected"), SELECTED.items(), ids=SELECTED)
async def test_a_label_selector_selects(cluster, four, selector, expected):
    listed = (await cluster.ask("GET", four, params={"labelSelector": f"{selector},set=four"})).ok()

    assert set(names(listed)) == expected


@pytest.mark.parametrize("selector", ["a=b=c", "in (x)", "a in x", "=b"])
async def test_a_broken_label_selector_is_a_bad_request(cluster, four, selector):
    answer = await cluster.ask("GET", four, params={"labelSelector": selector})

    assert (answer.code, answer.body["reason"]) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("metadata.name=a", {"a"}), ("metadata.name!=a", {"b", "c", "d"}), ("metadata.name=a,metadata.name=b", set())],
)
async def test_a_field_selector_selects_by_name(cluster, four, selector, expected):
    params = {"fieldSelector": selector, "labelSelector": "set=four"}

    assert set(names((await cluster.ask("GET", four, params=params)).ok())) == expected


async def test_pods_can_be_selected_by_node_and_phase(cluster):
    spec = {"containers": [{"name": "c", "image": "i"}]}
    bodies = [
        {"metadata": {"name": "here"}, "spec": spec | {"nodeName": "n1"}},
        {"metadata": {"name": "there"}, "spec": spec | {"nodeName": "n2"}},
    ]
    for body in bodies:
        (await cluster.ask("POST", cluster.path("pods"), body)).ok()

    on_node = await cluster.ask("GET", cluster.path("pods"), params={"fieldSelector": "spec.nodeName=n1"})
    pending = await cluster.ask("GET", cluster.path("pods"), params={"fieldSelector": "status.phase=Pending"})

    assert names(on_node.ok()) == ["here"]
    assert names(pending.ok()) == ["here", "there"]


@pytest.mark.parametrize(
    ("plural", "why"),
    [
        ("configmaps", '"spec.a" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("pods", "field label not supported: spec.a"),
    ],
)
async def test_a_field_that_cannot_be_selected_by_is_a_bad_request(cluster, plural, why):
    answer = await cluster.ask("GET", cluster.path(plural), params={"fieldSelector": "spec.a=b"})

    assert (answer.code, answer.body["reason"]) == (400, "BadRequest")
    assert why in answer.body["message"]


async def test_custom_resources_are_selected_by_the_fields_they_declare(cluster, widgets, widget):
    path = cluster.path("widgets", group=widgets)
    for name, mode in (("one", "fast"), ("two", "slow")):
        (await cluster.ask("POST", path, widget(name, mode=mode))).ok()

    listed = (await cluster.ask("GET", path, params={"fieldSelector": "spec.mode=fast"})).ok()
    refused = await cluster.ask("GET", path, params={"fieldSelector": "spec.size=1"})

    assert names(listed) == ["one"]
    assert refused.code == 400
    assert "field label not supported: spec.size" in refused.body["message"]


async def test_pages_make_one_consistent_list(cluster, four, config_map):
    params = {"limit": "2", "labelSelector": "set=four"}
    first = (await cluster.ask("GET", four, params=params)).ok()
    late = config_map("bb")
    late["metadata"]["labels"] = {"set": "four"}
    (await cluster.ask("POST", four, late)).ok()
    (await cluster.ask("DELETE", f"{four}/d")).ok()

    found, page = names(first), first
    while token := page["metadata"].get("continue"):
        page = (await cluster.ask("GET", four, params=params | {"continue": token})).ok()
        found += names(page)

    assert found == ["a", "b", "c", "d"]
    assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_page_says_how_many_are_left(cluster, four):
    first = (await cluster.ask("GET", four, params={"limit": "3"})).ok()

    assert first["metadata"]["remainingItemCount"] >= 1


async def test_a_broken_continue_token_is_a_bad_request(cluster, four):
    answer = await cluster.ask("GET", four, params={"limit": "2", "continue": "nonsense"})

    assert answer.code == 400


@pytest.mark.parametrize("version", ["", "0"], ids=["unset", "zero"])
async def test_any_version_will_do_where_none_is_asked_for(cluster, four, version):
    async def is_seen():
        listed = (await cluster.ask("GET", four, params={"resourceVersion": version})).ok()
        return {"a", "b", "c", "d"} <= set(names(listed))

    await cluster.until(is_seen)


async def test_an_exact_list_is_the_one_of_that_version(cluster, four):
    then = (await cluster.ask("GET", four)).ok()["metadata"]["resourceVersion"]
    (await cluster.ask("DELETE", f"{four}/a")).ok()

    params = {"resourceVersion": then, "resourceVersionMatch": "Exact", "labelSelector": "set=four"}
    listed = (await cluster.ask("GET", four, params=params)).ok()

    assert names(listed) == ["a", "b", "c", "d"]
    assert listed["metadata"]["resourceVersion"] == then


async def test_a_future_version_is_a_timeout(cluster, four):
    answer = await cluster.ask("GET", four, params={"resourceVersion": "999999999"})

    assert (answer.code, answer.body["reason"]) == (504, "Timeout")
    assert answer.body["message"].startswith("Timeout: Too large resource version: 999999999, current: ")
    assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer.headers["Retry-After"] == "1"


async def test_a_version_that_is_no_number_is_refused(cluster, four):
    answer = await cluster.ask("GET", four, params={"resourceVersion": "latest"})

    assert 400 <= answer.code < 500


async def test_a_watch_without_a_version_begins_with_what_there_is(cluster, four):
    async with cluster.watch(four, labelSelector="set=four") as following:
        seen = [await following() for _ in range(4)]

    assert {event["type"] for event in seen} == {"ADDED"}
    assert {event["object"]["metadata"]["name"] for event in seen} == {"a", "b", "c", "d"}


async def test_a_watch_from_a_version_tells_what_came_later_in_order(cluster, four, config_map):
    version = (await cluster.ask("GET", four)).ok()["metadata"]["resourceVersion"]

    async with cluster.watch(four, resourceVersion=version) as following:
        (await cluster.ask("POST", four, config_map("e"))).ok()
        (await cluster.patch(f"{four}/e", {"data": {"k": "v"}})).ok()
        (await cluster.ask("DELETE", f"{four}/e")).ok()
        seen = [await following() for _ in range(3)]

    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in seen]
    assert versions == sorted(set(versions))
    assert seen[2]["object"]["data"] == {"k": "v"}


async def test_leaving_the_selection_looks_like_going_and_entering_it_like_coming(cluster, four):
    version = (await cluster.ask("GET", four)).ok()["metadata"]["resourceVersion"]

    async with cluster.watch(four, resourceVersion=version, labelSelector="tier=gold") as following:
        (await cluster.patch(f"{four}/a", {"metadata": {"labels": {"tier": "tin"}}})).ok()
        (await cluster.patch(f"{four}/a", {"metadata": {"labels": {"tier": "gold"}}})).ok()
        left, entered = await following(), await following()

    assert (left["type"], entered["type"]) == ("DELETED", "ADDED")
    assert left["object"]["metadata"]["labels"]["tier"] == "gold"


async def test_a_watch_of_all_namespaces_sees_this_one(cluster, four, config_map):
    version = (await cluster.ask("GET", four)).ok()["metadata"]["resourceVersion"]

    async with cluster.watch("/api/v1/configmaps", resourceVersion=version) as following:
        (await cluster.ask("POST", four, config_map("late"))).ok()
        event = await following()
        while event["object"]["metadata"]["namespace"] != cluster.space:
            event = await following()

    assert event["object"]["metadata"]["name"] == "late"


async def test_a_watch_from_a_version_long_gone_is_told_to_list_again(stand_in):
    async with stand_in.watch(stand_in.path("configmaps"), resourceVersion="1") as following:
        event = await following()

    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"].startswith("too old resource version: 1 (")


async def test_a_watch_ends_when_its_time_is_over(cluster, four):
    version = (await cluster.ask("GET", four)).ok()["metadata"]["resourceVersion"]
    params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "1"}

    answer = await cluster.ask("GET", four, params=params)

    assert answer.code == 200


async def test_initial_events_end_with_a_marked_bookmark(cluster, four):
    asked = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}

    async with cluster.watch(four, labelSelector="set=four", **asked) as following:
        seen = [await following() for _ in range(5)]

    assert [event["type"] for event in seen] == ["ADDED"] * 4 + ["BOOKMARK"]
    assert seen[4]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_quiet_watch_gets_bookmarks_that_move_on(stand_in, config_map):
    path = stand_in.path("configmaps")
    version = (await stand_in.ask("GET", path)).ok()["metadata"]["resourceVersion"]

    async with stand_in.watch(path, resourceVersion=version, allowWatchBookmarks="true") as following:
        (await stand_in.ask("POST", "/api/v1/namespaces/default/configmaps", config_map("far"))).ok()
        bookmark = await following()

    assert bookmark["type"] == "BOOKMARK"
    assert int(bookmark["object"]["metadata"]["resourceVersion"]) > int(version)
    assert bookmark["object"]["kind"] == "ConfigMap"


async def test_nobody_gets_bookmarks_who_did_not_ask(stand_in):
    params = {"watch": "1", "timeoutSeconds": "1"}

    answer = await stand_in.ask("GET", stand_in.path("secrets"), params=params)

    assert answer.body == ""


async def test_a_watch_from_a_future_version_is_told_so(stand_in):
    async with stand_in.watch(stand_in.path("configmaps"), resourceVersion="999999999") as following:
        event = await following()

    assert event["object"]["code"] == 504
    assert event["object"]["message"].startswith("Timeout: Too large resource version")


async def test_a_list_waits_a_moment_for_a_version_about_to_come(stand_in, config_map):
    path = stand_in.path("configmaps")
    version = int((await stand_in.ask("GET", path)).ok()["metadata"]["resourceVersion"])

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(stand_in.ask("GET", path, params={"resourceVersion": str(version + 1)}))
        group.create_task(stand_in.ask("POST", path, config_map("soon")))

    assert waiting.result().code == 200
    assert names(waiting.result().body) == ["soon"]


async def test_history_that_was_forgotten_is_expired(stand_in, server, config_map):
    path = stand_in.path("configmaps")
    old = (await stand_in.ask("GET", path)).ok()["metadata"]["resourceVersion"]
    (await stand_in.ask("POST", path, config_map("one"))).ok()
    server.forget_history()

    async with stand_in.watch(path, resourceVersion=old) as following:
        event = await following()
    exact = await stand_in.ask("GET", path, params={"resourceVersion": old, "resourceVersionMatch": "Exact"})

    assert event["object"]["code"] == 410
    assert (exact.code, exact.body["reason"]) == (410, "Expired")


async def test_a_page_of_a_forgotten_list_is_expired(stand_in, server, config_map):
    path = stand_in.path("configmaps")
    for name in ("a", "b"):
        (await stand_in.ask("POST", path, config_map(name))).ok()
    first = (await stand_in.ask("GET", path, params={"limit": "1"})).ok()
    (await stand_in.ask("DELETE", f"{path}/a")).ok()
    server.forget_history()

    answer = await stand_in.ask("GET", path, params={"limit": "1", "continue": first["metadata"]["continue"]})

    assert answer.code == 410
    assert "continue parameter is too old" in answer.body["message"]


async def test_fifty_watches_see_every_change(stand_in, config_map):
    path = stand_in.path("configmaps")

    async def collect() -> list[str]:
        async with stand_in.watch(path) as following:
            return [(await following())["object"]["metadata"]["name"] for _ in range(5)]

    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(collect()) for _ in range(50)]
        for index in range(5):
            group.create_task(stand_in.ask("POST", path, config_map(f"c{index}")))

    assert {tuple(sorted(task.result())) for task in watching} == {tuple(f"c{index}" for index in range(5))}


async def test_a_watch_can_be_asked_for_as_a_table(cluster, four):
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    params = {"watch": "1", "timeoutSeconds": "1", "fieldSelector": "metadata.name=a"}

    answer = await cluster.ask("GET", four, params=params, headers=accept)

    event = json.loads(answer.body.splitlines()[0])
    assert event["object"]["kind"] == "Table"
    assert event["object"]["rows"][0]["cells"][0] == "a"
