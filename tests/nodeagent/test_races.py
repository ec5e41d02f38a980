"""A pass looks at the disk in one thread while a fetch changes it in another: nothing is done twice, nothing fails."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from cacheops.download import Transfer
from cacheops.inventory import contents
from cacheops.layout import Layout, discard, empty_trash, open_cache
from cacheops.manifest_file import Published
from cacheops.model import ModelRef
from cacheops.sources import SourceSettings, open_source
from cacheops.stock import WantedTree
from cacheops.tasks import NodeWish
from metrics.clock import WallClock
from nodeagent.fetches import Fetches
from nodeagent.reconcile import Agent, AgentOptions
from nodeagent.store import Leases, Store, View

Object = dict[str, Any]
WAIT_S = 20.0


class LateEyes(Store):
    """A look that is told only when the fetch it saw running is over."""

    fetches: Fetches
    looking: threading.Event
    count = 0

    def fetch(self, wish: NodeWish, transfer: Transfer) -> Published:
        self.count += 1
        assert self.looking.wait(WAIT_S)
        return super().fetch(wish, transfer)

    def look(self) -> View:
        view = replace(super().look(), capacity_bytes=1 << 40, free_bytes=1 << 40)  # whatever this machine's disk has
        if self.count == 1 and not view.published:
            self.looking.set()
            pause = threading.Event()
            while self.fetches.running:
                pause.wait(0.001)
        return view


class OneNode:
    """The API of a cluster of one node."""

    def __init__(self, task: Object) -> None:
        self._task = task
        self.told: Object = {}
        self.is_ready = asyncio.Event()

    async def get(self, _collection: str, _name: str) -> Object:
        return self._task

    async def patch_status(self, _collection: str, _name: str, status: Object) -> None:
        self.told = status
        if status["summary"] == "1/1":
            self.is_ready.set()

    async def changes(self, _collection: str, _name: str) -> AsyncIterator[str]:
        await asyncio.sleep(WAIT_S)
        yield "CHANGED"


def node_task(settings: SourceSettings, folder: Path) -> Object:
    uri = f"file://{folder}"
    with contextlib.closing(open_source(uri, settings, WallClock())) as source:
        found = source.resolve(ModelRef(uri=uri))
    model = {"key": found.storage_key, "uri": uri, "revision": found.resolved_revision, "digest": found.digest}
    return {
        "metadata": {"name": "n", "generation": 1},
        "spec": {"models": [model | {"bytes": found.bytes, "allowUnverified": True}]},
    }


async def test_what_was_fetched_while_a_pass_looked_at_the_disk_is_not_fetched_again(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    clock, stop, settings = WallClock(), asyncio.Event(), SourceSettings(local_files=True)
    (tmp_path / "mounts").write_text("30 25 98:0 /var/lib/kubelet/pods /var/lib/kubelet/pods ro - ext4 /dev/x ro\n")
    store = LateEyes(open_cache(tmp_path / "cache"), settings, clock, Leases(table=tmp_path / "mounts"))
    store.looking, store.fetches = threading.Event(), Fetches(store, clock)
    api = OneNode(node_task(settings, folder))
    options = AgentOptions(node="n", version="test", is_companion=False, look_s=0.01, idle_s=0.01)

    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_S):
        group.create_task(Agent(store, api, store.fetches, options, clock).run(stop))
        await api.is_ready.wait()
        stop.set()

    assert store.count == 1
    key = api.told["models"][0]["key"]
    assert store.fetches.timed(WantedTree(key=key, digest="d", size_bytes=2)).refetch_s == store.fetches.took_s[key]
    assert store.fetches.timed(WantedTree(key=key, digest="d", size_bytes=2, refetch_s=9.0)).refetch_s == 9.0


def test_several_who_empty_the_trash_at_once_all_succeed(tmp_path: Path) -> None:
    layout = open_cache(tmp_path / "cache")

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(bury, layout, number) for number in range(4)]:
            job.result()

    assert list(layout.trash.iterdir()) == []


def bury(layout: Layout, number: int) -> None:
    """Trees come, are looked at, and go, while others do the same."""
    for turn in range(25):
        folder = layout.own / "staging" / f"{number}-{turn}"
        for name in ("a", "b/c"):
            (folder / name).mkdir(parents=True)
            (folder / name / "file").write_text("x")
        contents(layout)
        discard(layout, folder)
        empty_trash(layout)
