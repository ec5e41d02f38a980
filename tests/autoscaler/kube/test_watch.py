"""Informers survive whatever happens to the API server and the network, and miss no deletion."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoscaler.errors import ApiFailure, TooLargeResourceVersion, Unreachable, api_failure
from autoscaler.kube import watch
from autoscaler.kube.client import KubeClient
from autoscaler.kube.resources import SCALED_OBJECTS, STREAM_OPEN, WATCH_SILENT, Object, Resource
from autoscaler.kube.watch import Informer, Watched
from metrics.clock import ManualClock, WallClock
from simulations.cluster.apiserver.rbac import User
from simulations.cluster.apiserver.server import ApiServer

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
PATH = CONFIG_MAPS.path("default")


@dataclass
class Seen:
    """What an informer reported, as `+a`, `~a`, `-a`."""

    changes: list[str] = field(default_factory=list)

    def __call__(self, key: str, before: str | None, after: str | None) -> None:
        sign = "+" if before is None else "-" if after is None else "~"
        self.changes.append(sign + key.removeprefix("default/"))


def data_of(obj: Object) -> str | None:
    return obj["data"]["a"]


async def put(client: KubeClient, name: str, value: str = "1") -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}}
    await client.create(PATH, body)


def watched(seen: Seen, *, resource: Resource = CONFIG_MAPS, is_optional: bool = False) -> Watched[str]:
    return Watched(resource=resource, keep=data_of, on_change=seen, namespace="default", is_optional=is_optional)


@asynccontextmanager
async def running(informer: Informer[str]) -> AsyncIterator[Informer[str]]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informer.run())
        yield informer
        task.cancel()


async def test_an_informer_follows_what_happens(client: KubeClient, eventually) -> None:
    seen = Seen()
    await put(client, "a")
    async with running(Informer(client, watched(seen), WallClock())) as informer:
        await eventually(lambda: informer.synced)
        await put(client, "b")
        await client.patch(f"{PATH}/a", {"data": {"a": "2"}})
        await client.patch(f"{PATH}/a", {"metadata": {"labels": {"unseen": "change"}}})
        await client.delete(f"{PATH}/b")
        await eventually(lambda: "-b" in seen.changes)

        assert seen.changes == ["+a", "+b", "~a", "-b"]
        assert informer.items == {"default/a": "2"}
        assert informer.stale_for_s(WallClock().now_s()) == 0.0


def cut(server: ApiServer) -> None:
    server.cut_watches()


def cut_and_forget(server: ApiServer) -> None:
    server.forget_history()
    server.cut_watches()


def throttle(server: ApiServer) -> None:
    server.fail_next(429, count=2, retry_after_s=0, plural="configmaps", verb="watch")
    server.cut_watches()


def fail(server: ApiServer) -> None:
    server.fail_next(500, count=2, plural="configmaps", verb="watch")
    server.fail_next(503, count=2, plural="configmaps", verb="list")
    server.cut_watches()


@pytest.mark.parametrize("disturb", [cut, cut_and_forget, throttle, fail])
async def test_nothing_is_missed_when_a_watch_ends_badly(
    server: ApiServer, client: KubeClient, eventually, disturb: Callable[[ApiServer], None]
) -> None:
    seen = Seen()
    await put(client, "stays")
    await put(client, "goes")
    async with running(Informer(client, watched(seen), WallClock())) as informer:
        await eventually(lambda: informer.synced and server.open_watches == 1)
        disturb(server)
        await server.api.delete(_registered(CONFIG_MAPS), "default", "goes")
        await eventually(lambda: "-goes" in seen.changes)
        await eventually(lambda: server.open_watches == 1)

        assert seen.changes == ["+goes", "+stays", "-goes"]
        assert set(informer.items) == {"default/stays"}


async def test_a_restarted_api_server_is_found_again(server: ApiServer, client: KubeClient, eventually) -> None:
    seen, clock = Seen(), WallClock()
    await put(client, "stays")
    await put(client, "goes")
    async with running(Informer(client, watched(seen), clock)) as informer:
        await eventually(lambda: informer.synced and server.open_watches == 1)
        await server.stop()
        await server.api.delete(_registered(CONFIG_MAPS), "default", "goes")
        await eventually(lambda: informer.stale_for_s(clock.now_s()) > 0.0)
        server.forget_history()
        await server.start()
        await eventually(lambda: "-goes" in seen.changes)
        await eventually(lambda: informer.stale_for_s(clock.now_s()) == 0.0)

        assert set(informer.items) == {"default/stays"}


async def test_a_kind_that_is_not_installed_is_off_and_no_trouble(client: KubeClient, eventually) -> None:
    seen = Seen()
    informer = Informer(client, watched(seen, resource=SCALED_OBJECTS, is_optional=True), WallClock())
    async with running(informer):
        await eventually(lambda: informer.synced)

        assert not informer.is_available
        assert informer.items == {}


async def test_a_kind_that_is_needed_is_waited_for(tmp_path: Path, eventually) -> None:
    async with ApiServer(tokens={"nobody-token": User("nobody")}) as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig", "nobody-token")
        async with (
            KubeClient.from_config(path) as client,
            running(Informer(client, watched(Seen()), WallClock())) as it,
        ):
            await eventually(lambda: "Forbidden" in it.last_failure)

            assert not it.synced


FORBIDDEN = api_failure(403, "Forbidden", "you cannot list this")


async def test_a_kind_that_was_readable_is_kept_through_a_403(eventually) -> None:
    """A real API server that has just started forbids everything for a moment: its own caches are still empty."""
    seen, clock = Seen(), ManualClock()
    client = ScriptedClient(lists=[["a"], *[FORBIDDEN] * 20, ["a", "b"]], watches=[FORBIDDEN])
    async with running(Informer(client, watched(seen, is_optional=True), clock)) as informer:
        await eventually(lambda: len(informer.items) == 2)

        assert seen.changes == ["+a", "+b"]
        assert clock.now_s() > watch.FORBIDDEN_SURE_S


async def test_a_403_at_the_start_switches_an_optional_kind_off_only_when_it_lasts(eventually) -> None:
    clock = ManualClock()
    client = ScriptedClient(lists=[FORBIDDEN], watches=[])
    informer = Informer(client, watched(Seen(), is_optional=True), clock)
    async with running(informer):
        await eventually(lambda: informer.synced)

        assert not informer.is_available
        assert clock.now_s() >= watch.FORBIDDEN_SURE_S


async def test_a_403_that_passes_at_the_start_costs_nothing(eventually) -> None:
    clock = ManualClock()
    client = ScriptedClient(lists=[FORBIDDEN, FORBIDDEN, ["a"]], watches=[])
    informer = Informer(client, watched(Seen(), is_optional=True), clock)
    async with running(informer):
        await eventually(lambda: informer.synced)

        assert informer.items == {"default/a": "a"}
        assert clock.now_s() < 1.0


@dataclass
class ScriptedClient:
    """Lists and watches that go by a script; beyond its end, watches stay open."""

    lists: list[list[str] | ApiFailure]
    watches: list[list[Object] | ApiFailure]
    listed: int = 0

    async def pages(self, path: str, *, labels: str | None = None) -> AsyncIterator[tuple[list[Object], str]]:
        self.listed += 1
        names = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(names, ApiFailure):
            raise names
        yield [config(name) for name in names], "7"

    async def watch(self, path: str, *, resource_version: str, timeout_s: float) -> AsyncIterator[Object]:
        script = self.watches.pop(0) if self.watches else None
        if isinstance(script, ApiFailure):
            raise script
        yield {"type": STREAM_OPEN, "object": {}}
        for event in script or ():
            yield event
        if script is None:
            await asyncio.Event().wait()


def config(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": "8"}, "data": {"a": name}}


GARBLED = Unreachable(0, "WatchGarbled", "an HTML page")
BROKEN = Unreachable(0, "WatchBroken", "connection reset")
SILENT = Unreachable(0, WATCH_SILENT, "nothing for 120 s")


@pytest.mark.parametrize(
    ("trouble", "lists"),
    [
        pytest.param([TooLargeResourceVersion(504, "Timeout", "Too large resource version: 9")], 2, id="504 relists"),
        pytest.param([api_failure(410, "Expired", "too old")], 2, id="410 relists"),
        pytest.param([GARBLED], 2, id="garbage relists"),
        pytest.param([[{"type": "ADDED", "object": {"metadata": {}}}]], 2, id="an object without a name relists"),
        pytest.param([BROKEN], 1, id="a broken connection watches again"),
        pytest.param([BROKEN] * 3, 1, id="so do three"),
        pytest.param([BROKEN] * 4, 2, id="four in a row relist"),
        pytest.param([SILENT] * 6, 1, id="a silent one watches again however often"),
        pytest.param([[]], 1, id="the server's own timeout watches again"),
    ],
)
async def test_each_trouble_ends_in_a_list_or_in_a_watch(
    trouble: list[list[Object] | ApiFailure], lists: int, eventually
) -> None:
    client = ScriptedClient(lists=[["a"]], watches=list(trouble))
    informer = Informer(client, watched(Seen()), ManualClock())
    async with running(informer):
        await eventually(lambda: not client.watches and informer.stale_for_s(1e9) == 0.0)

        assert client.listed == lists
        assert set(informer.items) == {"default/a"}


async def test_waits_grow_while_lists_work_and_watches_do_not(eventually) -> None:
    clock = ManualClock()
    client = ScriptedClient(lists=[["a"]], watches=[api_failure(500, "InternalError", "no") for _ in range(8)])
    async with running(Informer(client, watched(Seen()), clock)):
        await eventually(lambda: not client.watches)

        assert clock.now_s() > watch.BACKOFF_CAP_S


def _registered(resource: Resource):
    from simulations.cluster import api

    return api.Resource(resource.group, resource.version, resource.plural, resource.kind)
