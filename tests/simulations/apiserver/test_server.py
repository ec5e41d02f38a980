"""The server as a thing to disturb: restarts, faults, cut connections; and the in-process and HTTP faces of it."""

import asyncio
import sys
import time
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metrics.clock import ManualClock
from simulations.cluster.api import CRDS, DEPLOYMENTS, EVENTS, NAMESPACES, PODS, ApiError, Resource
from simulations.cluster.apiserver import ApiServer, LocalApi, ServerOptions
from simulations.cluster.apiserver import events as event_rules
from simulations.cluster.apiserver.__main__ import read_tokens
from simulations.cluster.apiserver.errors import BadSpecError
from simulations.cluster.apiserver.queries import ListQuery, list_page
from simulations.cluster.apiserver.store import Store
from simulations.cluster.http_api import HttpApi

ROOT = Path(__file__).parents[3]
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


async def test_a_restart_keeps_port_and_objects(stand_in, server, config_map):
    (await stand_in.ask("POST", stand_in.path("configmaps"), config_map("one"))).ok()
    url = server.url

    await server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await stand_in.ask("GET", "/healthz")
    await server.start()

    assert server.url == url
    assert (await stand_in.ask("GET", stand_in.path("configmaps", "one"))).code == 200


async def test_a_stop_ends_open_watches_at_once(stand_in, server):
    async with stand_in.watch(stand_in.path("configmaps"), resourceVersion="") as following:
        await stand_in.until(lambda: is_true(server.open_watches == 1))
        began_s = time.monotonic()
        await server.stop()
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await following()

    assert time.monotonic() - began_s < 5
    assert server.open_watches == 0


async def is_true(value):
    return value


async def test_watches_can_be_cut_while_the_server_lives_on(stand_in, server):
    async with stand_in.watch(stand_in.path("configmaps")) as following:
        await stand_in.until(lambda: is_true(server.open_watches == 1))
        server.cut_watches()
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await following()

    assert (await stand_in.ask("GET", "/healthz")).code == 200


async def test_a_client_that_leaves_is_forgotten(stand_in, server):
    async with stand_in.watch(stand_in.path("configmaps")):
        await stand_in.until(lambda: is_true(server.open_watches == 1))

    await stand_in.until(lambda: is_true(server.open_watches == 0))


async def test_requests_fail_as_often_as_told(stand_in, server):
    server.fail_next(429, 2, retry_after_s=3)

    answers = [await stand_in.ask("GET", "/api/v1/nodes") for _ in range(3)]

    assert [answer.code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "3"
    assert answers[0].body["reason"] == "TooManyRequests"


async def test_a_fault_waits_for_the_request_it_is_for(stand_in, server, deployment):
    path = stand_in.path("deployments", group="apps/v1")
    server.fail_next(500, verb="patch", plural="deployments")

    made = await stand_in.ask("POST", path, deployment())
    first = await stand_in.patch(f"{path}/web", {"spec": {"replicas": 2}})
    second = await stand_in.patch(f"{path}/web", {"spec": {"replicas": 2}})

    assert (made.code, first.code, second.code) == (201, 500, 200)


@pytest.mark.parametrize("code", [410, 504])
async def test_a_watch_is_told_of_lost_history_within_the_stream(stand_in, server, code):
    server.fail_next(code, verb="watch")

    async with stand_in.watch("/api/v1/nodes") as following:
        event = await following()

    assert event["type"] == "ERROR"
    assert event["object"]["code"] == code


async def test_a_slow_server_sleeps_on_its_clock():
    clock = ManualClock(1_000.0)
    async with ApiServer(clock=clock) as server, aiohttp.ClientSession() as session:
        server.delay(5.0)

        async with session.get(f"{server.url}/healthz") as response:
            assert response.status == 200

    assert clock.now_s() == 1_005.0


async def test_a_watch_that_falls_behind_the_log_is_told(config_map):
    options = ServerOptions(log_events=5)
    server = ApiServer(options=options)
    feed_of = server.objects.store.collection(("", "configmaps")).log
    position = feed_of.position_after(server.objects.store.version)

    for index in range(20):
        await server.api.create(CONFIG_MAPS, config_map(f"c{index}"))

    with pytest.raises(ApiError, match="too old resource version"):
        feed_of.read(position)


# --- the in-process face ---


async def test_what_the_local_api_gives_may_be_written_to(config_map):
    api = LocalApi.on_new_store()
    mine = config_map("one", a="1")
    made = await api.create(CONFIG_MAPS, mine)

    mine["data"]["a"] = made["data"]["a"] = "changed"
    (await api.list(CONFIG_MAPS))[0]["data"]["a"] = "changed"

    assert (await api.get(CONFIG_MAPS, "default", "one"))["data"]["a"] == "1"


async def test_a_local_watch_begins_with_all_and_goes_on_in_one_order(config_map, deployment):
    api = LocalApi.on_new_store()
    await api.create(CONFIG_MAPS, config_map("one"))

    async with aclosing(api.watch([CONFIG_MAPS, DEPLOYMENTS])) as events:
        first = await anext(events)
        await api.create(DEPLOYMENTS, deployment())
        await api.patch(CONFIG_MAPS, "default", "one", {"data": {"a": "1"}})
        await api.delete(DEPLOYMENTS, "default", "web")
        later = [await anext(events) for _ in range(3)]

    assert (first.type, first.object["metadata"]["name"]) == ("ADDED", "one")
    seen = [(event.type, event.object["kind"]) for event in later]
    assert seen == [("ADDED", "Deployment"), ("MODIFIED", "ConfigMap"), ("DELETED", "Deployment")]


async def test_a_local_watch_survives_lost_history(config_map):
    server = ApiServer()
    for name in ("stays", "goes"):
        await server.api.create(CONFIG_MAPS, config_map(name))

    async with aclosing(server.api.watch([CONFIG_MAPS])) as events:
        for _ in range(2):
            await anext(events)
        await server.api.delete(CONFIG_MAPS, "default", "goes")
        await server.api.patch(CONFIG_MAPS, "default", "stays", {"data": {"a": "1"}})
        await server.api.create(CONFIG_MAPS, config_map("new"))
        server.forget_history()
        seen = {(event.type, event.object["metadata"]["name"]) for event in [await anext(events) for _ in range(3)]}

    assert seen == {("DELETED", "goes"), ("MODIFIED", "stays"), ("ADDED", "new")}


async def test_a_kind_not_served_yet_can_be_watched():
    server = ApiServer()
    gadgets = Resource("x.dev", "v1", "gadgets", "Gadget")
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    names = {"plural": "gadgets", "kind": "Gadget"}
    spec = {"group": "x.dev", "scope": "Namespaced", "names": names, "versions": [version]}

    async with aclosing(server.api.watch([gadgets, NAMESPACES])) as events:
        while (await anext(events)).object["metadata"]["name"] != "kube-system":
            pass
        await server.api.create(CRDS, {"metadata": {"name": "gadgets.x.dev"}, "spec": spec})
        await server.api.create(gadgets, {"apiVersion": "x.dev/v1", "kind": "Gadget", "metadata": {"name": "one"}})
        added = await anext(events)
        await server.api.delete(CRDS, "", "gadgets.x.dev")
        gone = await anext(events)

    assert (added.type, gone.type) == ("ADDED", "DELETED")
    assert gone.object["metadata"]["name"] == "one"


async def test_events_do_not_pile_up():
    clock = ManualClock(0.0)
    server = ApiServer(clock=clock)
    event = {"metadata": {"generateName": "e-", "namespace": "default"}, "involvedObject": {}, "reason": "R"}
    await server.api.create(EVENTS, event)
    clock.advance(event_rules.TTL_S + 1)

    await server.api.create(EVENTS, event)

    assert len(await server.api.list(EVENTS)) == 1


@pytest.mark.parametrize("extra", [-1, 0, 1], ids=["just under", "at", "just over"])
async def test_the_number_of_events_is_limited(extra):
    store = ApiServer().objects.store
    budget = event_rules.EventBudget(store, limit=5)
    for index in range(5 + extra):
        metadata = {"name": f"e{index}", "namespace": "default", "uid": f"u{index}"}
        budget.admit(store.put(("", "events"), {"metadata": metadata}), 0.0)

    assert len(store.collection(("", "events")).all(None)) == min(5, 5 + extra)


# --- over HTTP ---


@pytest.fixture
async def over_http(server):
    async with HttpApi(server.url, server.admin_token) as api:
        yield api


async def test_both_faces_behave_alike(server, over_http, deployment):
    for api in (server.api, over_http):
        made = await api.create(DEPLOYMENTS, deployment())
        scaled = await api.patch(DEPLOYMENTS, "default", "web", {"spec": {"replicas": 3}}, "scale")
        with pytest.raises(ApiError) as stale:
            await api.update(DEPLOYMENTS, made)
        listed = await api.list(DEPLOYMENTS, "default", {"app": "web"})
        await api.delete(DEPLOYMENTS, "default", "web")
        with pytest.raises(ApiError) as gone:
            await api.get(DEPLOYMENTS, "default", "web")

        assert scaled["spec"]["replicas"] == 3
        assert (stale.value.code, stale.value.reason) == (409, "Conflict")
        assert [item["kind"] for item in listed] == ["Deployment"]
        assert (gone.value.code, gone.value.reason) == (404, "NotFound")


async def test_a_watch_over_http_survives_a_restart(server, over_http, config_map):
    await server.api.create(CONFIG_MAPS, config_map("before"))

    async with aclosing(over_http.watch([CONFIG_MAPS])) as events:
        first = await anext(events)
        await server.stop()
        await server.api.create(CONFIG_MAPS, config_map("meanwhile"))
        await server.api.delete(CONFIG_MAPS, "default", "before")
        await server.start()
        later = {(event.type, event.object["metadata"]["name"]) for event in [await anext(events) for _ in range(2)]}

    assert first.object["metadata"]["name"] == "before"
    assert later == {("ADDED", "meanwhile"), ("DELETED", "before")}


@pytest.mark.parametrize("code", [410, 429, 500, 504])
async def test_a_watch_over_http_survives_refusals(server, over_http, config_map, code):
    server.fail_next(code, 2, verb="watch", plural="configmaps")

    async with aclosing(over_http.watch([CONFIG_MAPS])) as events, asyncio.timeout(20):
        await server.api.create(CONFIG_MAPS, config_map("one"))
        event = await anext(events)

    assert event.object["metadata"]["name"] == "one"


async def test_long_lists_come_in_pages(server, over_http, config_map):
    for index in range(1_001):
        await server.api.create(CONFIG_MAPS, config_map(f"c{index}"))

    assert len(await over_http.list(CONFIG_MAPS)) == 1_001


async def test_a_server_that_is_away_is_unavailable(server, over_http):
    await server.stop()

    with pytest.raises(ApiError) as away:
        await over_http.get(PODS, "default", "p")

    assert away.value.code == 503


async def test_a_kubeconfig_leads_to_the_server_over_tls(tmp_path, deployment):
    async with ApiServer(options=ServerOptions(tls=True)) as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        async with HttpApi.from_kubeconfig(path) as api:
            await api.create(DEPLOYMENTS, deployment())

        assert path.stat().st_mode & 0o077 == 0
        assert await server.api.get(DEPLOYMENTS, "default", "web")


@pytest.mark.parametrize("change", [{"current-context": "other"}, {"clusters": []}, {"users": None}])
def test_a_kubeconfig_that_is_not_whole_is_refused_by_name(tmp_path, change):
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(ApiServer().kubeconfig() | change), encoding="utf-8")

    with pytest.raises(BadSpecError, match="kubeconfig"):
        HttpApi.from_kubeconfig(path)


# --- the store's laws ---

steps = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30)


def names_now(store):
    return [item.name for item in store.collection(("", "things")).all(None)]


@given(steps=steps)
def test_every_older_list_can_be_had_again(steps):
    store = Store()
    history = [(store.version, names_now(store))]
    for name, is_put in steps:
        old = store.get(("", "things"), "", name)
        if is_put:
            store.put(("", "things"), {"metadata": {"name": name, "uid": name}})
        elif old is not None:
            store.remove(old)
        history.append((store.version, names_now(store)))

    for version, names in history:
        query = ListQuery(version=str(version), version_match="Exact")
        assert [item.name for item in list_page(store, ("", "things"), query).items] == names


@given(steps=steps)
def test_the_log_replayed_gives_the_objects(steps):
    store = Store()
    for name, is_put in steps:
        old = store.get(("", "things"), "", name)
        if is_put:
            store.put(("", "things"), {"metadata": {"name": name, "uid": name}})
        elif old is not None:
            store.remove(old)

    replayed = {}
    log = store.collection(("", "things")).log
    versions = []
    for entry in log.read(log.position_after(log.floor)):
        versions.append(entry.version)
        if entry.change == "DELETED":
            del replayed[entry.stored.name]
        else:
            assert (entry.change == "ADDED") == (entry.stored.name not in replayed)
            replayed[entry.stored.name] = entry.stored

    assert sorted(replayed) == names_now(store)
    assert versions == sorted(set(versions))


# --- as a program ---


async def test_the_program_serves_until_it_is_told_to_end(tmp_path, deployment):
    tokens, config = tmp_path / "tokens.csv", tmp_path / "kubeconfig"
    tokens.write_text('robot-token,robot,1,"a,b"\n', encoding="utf-8")
    command = [sys.executable, "-m", "simulations.cluster.apiserver", "--kubeconfig", config, "--token-file", tokens]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    line = (await child.stdout.readline()).decode()

    async with HttpApi.from_kubeconfig(config) as api:
        await api.create(DEPLOYMENTS, deployment())
    child.terminate()

    assert line.startswith("serving on https://127.0.0.1:")
    assert await child.wait() == 0


@pytest.mark.parametrize("line", ["only-a-token", "token,,1"], ids=["too few columns", "no user"])
def test_a_broken_token_file_is_refused_by_line(tmp_path, line):
    path = tmp_path / "tokens.csv"
    path.write_text(f"good,user,1\n{line}\n", encoding="utf-8")

    with pytest.raises(BadSpecError, match=r"tokens\.csv:2: expected token,user,uid"):
        read_tokens(path)
