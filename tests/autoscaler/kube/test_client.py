"""The client: raw JSON in and out, and every way of failing told apart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
import yaml
from aiohttp import web

from autoscaler.errors import (
    ApiFailure,
    BadSpecError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    Throttled,
    Unauthorized,
    Unreachable,
    api_failure,
)
from autoscaler.kube.client import KubeClient
from autoscaler.kube.resources import DEPLOYMENTS, PODS, STREAM_OPEN, WATCH_SILENT, Object
from metrics.clock import ManualClock
from simulations.cluster.apiserver.rbac import User
from simulations.cluster.apiserver.server import ApiServer, ServerOptions

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}}


async def test_objects_are_created_read_patched_and_deleted(client: KubeClient) -> None:
    await client.create(CONFIG_MAPS, config_map("one"))
    patched = await client.patch(f"{CONFIG_MAPS}/one", {"data": {"a": None, "b": "2"}})
    read = await client.get(f"{CONFIG_MAPS}/one")
    await client.delete(f"{CONFIG_MAPS}/one")

    assert patched["data"] == {"b": "2"}
    assert read == patched
    with pytest.raises(NotFound):
        await client.get(f"{CONFIG_MAPS}/one")


async def test_a_list_gathers_every_page(client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.kube.client.PAGE_OBJECTS", 2)
    for name in ("a", "b", "c", "d", "e"):
        await client.create(CONFIG_MAPS, config_map(name))

    pages = [len(items) async for items, _version in client.pages(CONFIG_MAPS)]
    names = [item["metadata"]["name"] for item in await client.list(CONFIG_MAPS)]

    assert pages == [2, 2, 1]
    assert names == ["a", "b", "c", "d", "e"]


async def test_a_scale_patch_with_an_old_version_is_a_conflict(client: KubeClient) -> None:
    labels = {"matchLabels": {"app": "x"}}
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "x"}, "spec": {"replicas": 2, "selector": labels, "template": template}}
    created = await client.create(DEPLOYMENTS.path("default"), {"apiVersion": "apps/v1", "kind": "Deployment"} | body)
    version = created["metadata"]["resourceVersion"]
    path = DEPLOYMENTS.path("default", "x", "scale")

    scaled = await client.patch(path, {"metadata": {"resourceVersion": version}, "spec": {"replicas": 3}})

    assert scaled["spec"]["replicas"] == 3
    with pytest.raises(Conflict):
        await client.patch(path, {"metadata": {"resourceVersion": version}, "spec": {"replicas": 4}})


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        pytest.param(401, Unauthorized, id="401"),
        pytest.param(403, Forbidden, id="403"),
        pytest.param(409, Conflict, id="409"),
        pytest.param(410, Expired, id="410"),
        pytest.param(422, Invalid, id="422"),
        pytest.param(429, Throttled, id="429"),
        pytest.param(500, ApiFailure, id="500"),
        pytest.param(503, ApiFailure, id="503"),
    ],
)
async def test_each_answer_has_its_error(
    server: ApiServer, client: KubeClient, code: int, failure: type[ApiFailure]
) -> None:
    server.fail_next(code, count=2)  # a 401 is asked again once, with credentials read anew

    with pytest.raises(failure) as caught:
        await client.get(PODS.path("default"))

    assert type(caught.value) is failure
    assert caught.value.code == code
    assert "GET /api/v1/namespaces/default/pods" in str(caught.value)


async def test_a_namespace_that_goes_is_told_apart_from_a_missing_permission(
    server: ApiServer, client: KubeClient
) -> None:
    await client.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}})
    held = {"metadata": {"name": "held", "finalizers": ["example.org/hold"]}}
    await client.create("/api/v1/namespaces/going/configmaps", config_map("held") | held)
    await client.delete("/api/v1/namespaces/going")

    with pytest.raises(NamespaceTerminating) as caught:
        await client.create("/api/v1/namespaces/going/configmaps", config_map("late"))

    assert str(caught.value) == "403 NamespaceTerminating: namespace going is being terminated"


@pytest.mark.parametrize(
    "details",
    [None, [], "x", {"causes": None}, {"causes": {}}, {"causes": ["x", {}, {"reason": 1}]}],
    ids=repr,
)
def test_whatever_the_details_of_a_403_are_it_is_one(details: object) -> None:
    assert type(api_failure(403, "Forbidden", "no", details=details)) is Forbidden


async def test_retry_after_is_told_and_kept(server: ApiServer, client: KubeClient) -> None:
    server.fail_next(429, retry_after_s=3)

    with pytest.raises(Throttled) as caught:
        await client.get(PODS.path("default"))

    assert caught.value.retry_after_s == 3.0
    assert client.wait_s() > 2.0


async def test_a_server_that_is_gone_is_unreachable(server: ApiServer, client: KubeClient) -> None:
    await server.stop()

    with pytest.raises(Unreachable) as caught:
        await client.get("/version")

    assert server.url in str(caught.value)


async def test_a_missing_permission_says_which(server: ApiServer, tmp_path: Path) -> None:
    async with ApiServer(tokens={"nobody-token": User("nobody")}) as limited:
        path = limited.write_kubeconfig(tmp_path / "limited", "nobody-token")
        async with KubeClient.from_config(path) as client:
            with pytest.raises(Forbidden, match="pods"):
                await client.get(PODS.path("default"))


async def test_rotated_credentials_are_read_again_after_a_401(server: ApiServer, tmp_path: Path) -> None:
    clock = ManualClock(1000.0)
    path = server.write_kubeconfig(tmp_path / "rotated", "old-token")
    async with KubeClient.from_config(path, clock=clock) as client:
        with pytest.raises(Unauthorized):
            await client.get("/version")

        server.write_kubeconfig(path)
        clock.advance(60.0)

        assert (await client.get("/version"))["major"]


async def test_credentials_that_cannot_be_read_again_are_still_a_401(server: ApiServer, tmp_path: Path) -> None:
    """The file is just being replaced: the next try finds it."""
    clock = ManualClock(1000.0)
    path = server.write_kubeconfig(tmp_path / "rotated", "old-token")
    async with KubeClient.from_config(path, clock=clock) as client:
        path.unlink()
        clock.advance(60.0)
        with pytest.raises(Unauthorized):
            await client.get("/version")

        server.write_kubeconfig(path)
        clock.advance(60.0)
        assert (await client.get("/version"))["major"]


async def test_a_new_authority_is_read_from_the_file_without_a_restart(tmp_path: Path) -> None:
    """As a cluster whose certificates ran out is given new ones."""
    clock = ManualClock(1000.0)
    async with ApiServer(options=ServerOptions(tls=True)) as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        async with KubeClient.from_config(path, clock=clock) as client:
            assert (await client.get("/version"))["major"]
            await server.stop()
            server.replace_authority()
            await server.start()
            clock.advance(60.0)
            with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get("/version")

            server.write_kubeconfig(path)
            clock.advance(60.0)
            assert (await client.get("/version"))["major"]
    await asyncio.sleep(0.1)  # TLS connections close a moment after their session


def use_client_certificate(kubeconfig: Path) -> None:
    """Any: the stand-in asks for none, and the client replaces its connections when it reads one again."""
    issued = trustme.CA().issue_cert("controller.example.org")
    files = {"client-certificate": kubeconfig.with_suffix(".crt"), "client-key": kubeconfig.with_suffix(".key")}
    files["client-certificate"].write_bytes(issued.cert_chain_pems[0].bytes())
    files["client-key"].write_bytes(issued.private_key_pem.bytes())
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"] |= {name: str(file) for name, file in files.items()}
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")


async def test_a_watch_on_connections_that_are_replaced_ends_and_is_not_silent_for_ever(tmp_path: Path) -> None:
    clock = ManualClock(1000.0)
    async with ApiServer(options=ServerOptions(tls=True)) as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        use_client_certificate(path)
        async with KubeClient.from_config(path, clock=clock) as client:
            version = [version async for _items, version in client.pages(CONFIG_MAPS)][-1]
            events = client.watch(CONFIG_MAPS, resource_version=version, timeout_s=30)
            assert (await anext(events))["type"] == STREAM_OPEN

            clock.advance(60.0)
            server.fail_next(401)
            await client.list(CONFIG_MAPS)

            async with asyncio.timeout(5):
                with pytest.raises(Unreachable, match="WatchBroken"):
                    await anext(events)
    await asyncio.sleep(0.1)  # TLS connections close a moment after their session


async def test_a_watch_tells_that_it_is_open_and_then_what_changes(client: KubeClient) -> None:
    version = [version async for _items, version in client.pages(CONFIG_MAPS)][-1]
    events = client.watch(CONFIG_MAPS, resource_version=version, timeout_s=30)

    opened = await anext(events)
    await client.create(CONFIG_MAPS, config_map("new"))
    added = await anext(events)
    await events.aclose()

    assert opened["type"] == STREAM_OPEN
    assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "new")


async def test_a_watch_with_nothing_to_tell_ends_as_silent(client: KubeClient) -> None:
    version = [version async for _items, version in client.pages(CONFIG_MAPS)][-1]
    events = client.watch(CONFIG_MAPS, resource_version=version, timeout_s=30, silence_s=0.1)
    assert (await anext(events))["type"] == STREAM_OPEN

    with pytest.raises(Unreachable) as caught:
        await anext(events)

    assert caught.value.reason == WATCH_SILENT


async def test_a_watch_from_a_forgotten_version_is_expired(server: ApiServer, client: KubeClient) -> None:
    await client.create(CONFIG_MAPS, config_map("old"))
    await client.create(CONFIG_MAPS, config_map("older"))
    server.forget_history()

    with pytest.raises(Expired):
        _ = [event async for event in client.watch(CONFIG_MAPS, resource_version="1", timeout_s=30)]


@pytest.fixture
async def odd_server() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers every request with the bytes it was given, then ends the stream."""
    answers: list[bytes] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in answers:
            await response.write(chunk)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", answers
    await runner.cleanup()


def kubeconfig_for(url: str, path: Path) -> Path:
    path.write_text(
        f"{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: '{url}'}}}}],"
        "users: [{name: u, user: {token: t}}], contexts: [{name: c, context: {cluster: c, user: u}}]}"
    )
    return path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"<html>proxy error</html>\n", "WatchGarbled", id="no JSON"),
        pytest.param(b"[1,2]\n", "WatchGarbled", id="no object"),
        pytest.param(b'{"kind":"Status"}\n', "WatchGarbled", id="no event"),
        pytest.param(b'{"type":"ADDED","object":7}\n', "WatchGarbled", id="event without an object"),
        pytest.param(b"\xff\xfe\n", "WatchGarbled", id="no UTF-8"),
    ],
)
async def test_garbage_in_a_watch_is_named(
    odd_server: tuple[str, list[bytes]], tmp_path: Path, line: bytes, reason: str
) -> None:
    url, answers = odd_server
    answers.append(line)
    async with KubeClient.from_config(kubeconfig_for(url, tmp_path / "odd")) as client:
        with pytest.raises(Unreachable) as caught:
            _ = [event async for event in client.watch("/api/v1/pods", resource_version="1", timeout_s=5)]

    assert caught.value.reason == reason


async def test_an_error_within_a_watch_is_raised_as_what_it_is(
    odd_server: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    url, answers = odd_server
    answers += [b'{"type":"ERROR","object":{"kind":"Status","code":410,', b'"reason":"Expired","message":"too old"}}\n']
    async with KubeClient.from_config(kubeconfig_for(url, tmp_path / "odd")) as client:
        with pytest.raises(Expired, match="too old"):
            _ = [event async for event in client.watch("/api/v1/pods", resource_version="1", timeout_s=5)]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"{"], ids=["empty", "text", "list", "cut"])
async def test_an_answer_that_is_no_object_is_an_error(
    odd_server: tuple[str, list[bytes]], tmp_path: Path, body: bytes
) -> None:
    url, answers = odd_server
    answers.append(body or b" ")
    async with KubeClient.from_config(kubeconfig_for(url, tmp_path / "odd")) as client:
        with pytest.raises(Unreachable) as caught:
            await client.get("/version")

    assert caught.value.reason == "GarbledAnswer"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="absent"),
        pytest.param("{", id="no YAML"),
        pytest.param("[]", id="a list"),
        pytest.param("", id="empty"),
        pytest.param("{apiVersion: v1, kind: Config, current-context: nowhere}", id="no such context"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)

    with pytest.raises(BadSpecError, match=f"kubeconfig {path}"):
        async with KubeClient.from_config(path):
            pass


@pytest.mark.parametrize(
    ("named", "said"),
    [
        pytest.param("", "kubeconfig ~/.kube/config: file: there is none; --kubeconfig", id="nowhere"),
        pytest.param("/nope:/nada", "kubeconfig /nope:/nada: file: there is none; --kubeconfig", id="a list"),
    ],
)
async def test_where_no_kubeconfig_is_one_is_told_how_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, said: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", named)

    with pytest.raises(BadSpecError, match=said):
        async with KubeClient.from_config():
            pass


async def test_the_first_kubeconfig_of_a_list_that_is_there_is_used(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = server.write_kubeconfig(tmp_path / "there")
    monkeypatch.setenv("KUBECONFIG", f"/nope:{path}")

    async with KubeClient.from_config() as client:
        assert client.server == server.url
