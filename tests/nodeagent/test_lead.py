"""A node takes from the one that fetches for all what that has whole, while the rest still comes. Real sockets."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cacheops.download import Transfer
from cacheops.errors import CacheError, CanceledError, IntegrityMismatchError
from cacheops.layout import open_cache
from cacheops.manifest_file import Published
from cacheops.model import Algorithm, FileEntry, ModelManifest
from cacheops.sources import SourceSettings
from cacheops.stock import WantedTree
from cacheops.tasks import NodeWish
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import WallClock
from nodeagent.peers.choice import FOLLOWERS_MAX, Peer, choose
from nodeagent.peers.client import PeerLostError
from nodeagent.peers.lead import LeadSource, Patience
from nodeagent.peers.server import PeerServer, ServeLimits, serving_peers
from nodeagent.peers.token import TokenFile
from nodeagent.peers.underway import Underway, underway
from nodeagent.store import Leases, Store

TOKEN = "a-token-that-all-agents-share"
REF = model_ref("hf://org/name")
FILES = 4
QUICK = Patience(poll_s=0.01, still_s=0.5, gone_s=0.2)


@dataclass
class Lead:
    """A node that fetches: its files become whole when the test says so."""

    folder: Path
    manifest: ModelManifest
    whole: dict[int, Path] = field(default_factory=dict)
    told_bytes: int = 1
    is_fetching: bool = True
    tree: Published | None = None
    port: int = 0

    def shared(self, digest: str) -> Published | None:
        return self.tree if digest == self.manifest.digest else None

    def staged_bytes(self, digest: str) -> int | None:
        return self.told_bytes if self.is_fetching and digest == self.manifest.digest else None

    def underway(self, digest: str) -> Underway | None:
        if not self.is_fetching or digest != self.manifest.digest:
            return None
        return Underway(manifest=self.manifest, whole=dict(self.whole))

    def finish(self, number: int) -> None:
        """A file is whole and agreed with its digest."""
        self.whole[number] = self.folder / self.manifest.files[number].path
        self.told_bytes += 1

    def source(self, stop: threading.Event | None = None) -> LeadSource:
        peer = Peer(node="lead", address=f"127.0.0.1:{self.port}")
        stop = stop or threading.Event()
        digest, clock = self.manifest.digest, WallClock()
        return LeadSource(peer, digest, f"Bearer {TOKEN}", clock, stop=stop, patience=QUICK)

    async def take(self, root: Path, transfer: Transfer) -> Published:
        """As another node does it."""
        store = Store(open_cache(root), SourceSettings(), WallClock(), Leases())
        tree = WantedTree(key=REF.storage_key, digest=self.manifest.digest, size_bytes=self.manifest.bytes)
        with closing(self.source(transfer.stop)) as source:
            return await asyncio.to_thread(store.take, NodeWish(ref=REF, tree=tree), transfer, source)

    async def status(self, path: str) -> int:
        url = f"http://127.0.0.1:{self.port}/v1/trees/{self.manifest.digest}{path}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status


@pytest.fixture
async def lead(tmp_path: Path) -> AsyncIterator[Lead]:
    (tmp_path / "parts").mkdir()
    entries = []
    for number in range(FILES):
        data = os.urandom(300_000 + number)
        (tmp_path / "parts" / f"{number}.safetensors").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(
            FileEntry(path=f"{number}.safetensors", size_bytes=len(data), algorithm=Algorithm.SHA256, digest=digest)
        )
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    made = Lead(tmp_path / "parts", ModelManifest(ref=REF, resolved_revision="c0ffee", files=tuple(entries)))
    server = PeerServer(made, TokenFile(tmp_path / "token"), ServeLimits(bytes_per_s=0), WallClock())
    async with serving_peers(server, "127.0.0.1", 0) as made.port:
        yield made


async def failure_of(lead: Lead, root: Path, transfer: Transfer) -> CacheError | None:
    try:
        await lead.take(root, transfer)
    except CacheError as exc:
        return exc
    return None


async def when(transfer: Transfer, fetched_bytes: int) -> None:
    """Wait until so much was taken."""
    clock = WallClock()
    async with asyncio.timeout(20):
        while transfer.fetched_bytes < fetched_bytes:
            await clock.sleep(0.01)


async def test_files_are_taken_as_they_become_whole_and_the_tree_is_the_lead_s(lead: Lead, tmp_path: Path) -> None:
    transfer, sizes = Transfer(workers=2), [entry.size_bytes for entry in lead.manifest.files]
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(lead.take(tmp_path / "taker", transfer))
        for number in reversed(range(FILES)):  # the largest first, as a fetch does
            lead.finish(number)
            await when(transfer, sum(sizes[number:]))
            assert not taking.done() or number == 0

    published = taking.result()
    assert full(published.path, Transfer()) == []
    assert (published.source_digest, published.manifest.resolved_revision) == (lead.manifest.digest, "c0ffee")


async def test_what_is_not_whole_is_not_given(lead: Lead) -> None:
    lead.finish(1)

    found = [await lead.status(path) for path in ("", "/files/1", "/files/0", f"/files/{FILES}")]

    assert found == [200, 200, 503, 404]


async def test_the_moment_of_publication_is_waited_through(lead: Lead, tmp_path: Path) -> None:
    transfer = Transfer(workers=1)
    lead.finish(FILES - 1)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(lead.take(tmp_path / "taker", transfer))
        await when(transfer, lead.manifest.files[-1].size_bytes)
        lead.is_fetching = False  # neither staged nor published: 404 for everything
        await asyncio.sleep(0)
        lead.tree = Published(
            manifest=lead.manifest, source_digest=lead.manifest.digest, published_at_s=0.0, path=lead.folder
        )

    assert full(taking.result().path, Transfer()) == []


@pytest.mark.parametrize("trouble", ["stands still", "gives up", "lies"])
async def test_a_lead_that_does_not_come_to_its_end_is_left_and_what_came_is_kept(
    lead: Lead, tmp_path: Path, trouble: str
) -> None:
    transfer, size_bytes = Transfer(workers=1, retry_first_s=0.01), lead.manifest.files[-1].size_bytes
    lead.finish(FILES - 1)
    if trouble == "lies":
        (lead.folder / "0.safetensors").write_bytes(bytes(300_000))
        for number in range(FILES):
            lead.finish(number)

    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(failure_of(lead, tmp_path / "taker", transfer))
        await when(transfer, size_bytes)
        lead.is_fetching = trouble != "gives up"

    assert isinstance(leaving.result(), IntegrityMismatchError if trouble == "lies" else PeerLostError)
    assert transfer.staged_bytes >= size_bytes
    assert list((tmp_path / "taker" / "models").iterdir()) == []


async def test_who_is_stopped_waits_no_longer(lead: Lead, tmp_path: Path) -> None:
    transfer = Transfer(workers=2)
    transfer.stop.set()

    with pytest.raises(CanceledError):
        await lead.take(tmp_path / "taker", transfer)


def test_nothing_is_open_where_the_source_gave_no_digest_for_some_file(lead_files: tuple[FileEntry, ...]) -> None:
    sworn = ModelManifest(ref=REF, resolved_revision="r", files=lead_files)
    unsworn = replace(sworn, files=(*lead_files, FileEntry(path="z.json", size_bytes=2, etag="e")))

    found = [underway(Transfer(manifest=manifest)) for manifest in (None, unsworn, sworn)]

    assert found == [None, None, Underway(manifest=sworn, whole={})]


@pytest.fixture
def lead_files() -> tuple[FileEntry, ...]:
    return (FileEntry(path="a.json", size_bytes=2, algorithm=Algorithm.GIT_SHA1, digest="a" * 40),)


def test_a_few_follow_and_the_others_wait_for_them() -> None:
    names = [f"n{number}" for number in range(20)]
    waiting = [Peer(node=name, address="10.0.0.1:1", phase="Pending") for name in names]
    busy = Peer(node="lead", address="10.0.0.1:1", phase="Fetching")

    followers = [name for name in names if choose([busy, *waiting], name, "d" * 64).may_follow]
    early = [name for name in names if (choice := choose(waiting, name, "d" * 64)).lead and choice.may_follow]

    assert len(followers) == len(early) == FOLLOWERS_MAX


@pytest.mark.cluster
async def test_two_nodes_that_want_a_model_at_once_have_it_at_nearly_the_same_time(cluster: Any) -> None:
    folder = cluster.folder / "hub" / "org" / "shards"
    folder.mkdir()
    for number in range(12):
        (folder / f"model-{number:02}.safetensors").write_bytes(os.urandom(500_000))
    cluster.hub.settings.bytes_per_s = 100_000  # of each connection, until the other has begun, too
    wanted = await cluster.wanted("hf://org/shards")
    nodes = ("node-1", "node-2")
    async with AsyncExitStack() as stack:
        for node in nodes:
            await cluster.make_node_cache([], node)
            await stack.enter_async_context(cluster.agent(node, *cluster.peer_options(), "--workers", "4"))
            await cluster.cache_when(lambda status: "address" in status, node)
        sent = cluster.hub.settings.sent_bytes
        await asyncio.gather(*(cluster.want([wanted], node) for node in nodes))

        async def staging() -> dict[str, Any]:
            return {node: list((cluster.folder / node / ".warmtide" / "staging").glob("*/parts/*")) for node in nodes}

        await cluster.until(staging, lambda begun: all(begun.values()))
        cluster.hub.settings.bytes_per_s = 4_000_000
        for node in nodes:
            await cluster.cache_when(lambda status: status.get("summary") == "1/1", node)

    assert cluster.hub.settings.sent_bytes - sent <= 1.05 * wanted["bytes"]
    assert "while it fetched it" in cluster.log("node-1") + cluster.log("node-2")
