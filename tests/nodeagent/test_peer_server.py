"""What a node gives to others, and what others make of one that lies. Real sockets, real files."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cacheops.download import Transfer
from cacheops.errors import CacheError, InvalidRequestError, SourceUnavailableError
from cacheops.layout import open_cache
from cacheops.manifest_file import Published
from cacheops.prefetch import bring
from cacheops.sources import SourceSettings
from cacheops.sources.file import FolderSource
from cacheops.sources.folder import Folder
from cacheops.stock import WantedTree
from cacheops.tasks import NodeWish
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import WallClock
from nodeagent.errors import BadStartError
from nodeagent.peers.choice import Peer
from nodeagent.peers.client import PeerLostError, PeerSource, Progress
from nodeagent.peers.server import PeerServer, ServeLimits, serving_peers
from nodeagent.peers.token import TokenFile
from nodeagent.peers.underway import Underway
from nodeagent.store import Leases, Store

TOKEN = "a-token-that-all-agents-share"
WEIGHTS_BYTES = 3_000_000


@dataclass
class Shelf:
    """What is given away."""

    trees: dict[str, Published] = field(default_factory=dict)
    staged: dict[str, int] = field(default_factory=dict)
    begun: dict[str, Underway] = field(default_factory=dict)

    def shared(self, digest: str) -> Published | None:
        return self.trees.get(digest)

    def staged_bytes(self, digest: str) -> int | None:
        return self.staged.get(digest)

    def underway(self, digest: str) -> Underway | None:
        return self.begun.get(digest)


@dataclass(kw_only=True)
class Giver:
    """A node that gives, its tree, and another that takes."""

    folder: Path
    tree: Published
    shelf: Shelf
    server: PeerServer
    port: int = 0
    token: str = TOKEN

    @property
    def digest(self) -> str:
        return self.tree.source_digest

    def source(self, digest: str | None = None) -> PeerSource:
        peer = Peer(node="giver", address=f"127.0.0.1:{self.port}")
        return PeerSource(peer, digest or self.digest, f"Bearer {self.token}", WallClock())

    def wish(self, *, allow_unverified: bool = True) -> NodeWish:
        ref = self.tree.manifest.ref
        tree = WantedTree(key=ref.storage_key, digest=self.digest, size_bytes=self.tree.manifest.bytes)
        return NodeWish(ref=ref, tree=tree, allow_unverified=allow_unverified)

    async def take(self, **more: Any) -> Published:
        store = Store(open_cache(self.folder / "taker"), SourceSettings(), WallClock(), Leases())
        with closing(self.source()) as source:
            return await asyncio.to_thread(store.take, self.wish(**more), Transfer(retry_first_s=0.01), source)

    async def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> tuple[int, bytes]:
        given = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, headers=given) as answer:
            return answer.status, await answer.read()

    def file(self, number: int) -> str:
        return f"/v1/trees/{self.digest}/files/{number}"


@pytest.fixture
async def giver(tmp_path: Path) -> AsyncIterator[Giver]:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(os.urandom(WEIGHTS_BYTES))
    (folder / "config.json").write_text("{}")
    source = FolderSource(Folder(root=folder))
    manifest = source.resolve(model_ref(f"file://{folder}"))
    tree = bring(open_cache(tmp_path / "giver"), manifest, source, Transfer(), now_s=0.0)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    shelf = Shelf({tree.source_digest: tree})
    server = PeerServer(shelf, TokenFile(tmp_path / "token"), ServeLimits(streams_max=4, bytes_per_s=0), WallClock())
    made = Giver(folder=tmp_path, tree=tree, shelf=shelf, server=server)
    async with serving_peers(server, "127.0.0.1", 0) as made.port:
        yield made


async def test_a_tree_is_taken_with_its_trust_and_every_byte_is_compared(giver: Giver) -> None:
    taken = await giver.take()

    assert full(taken.path, Transfer()) == []
    assert (taken.manifest.files, taken.source_digest) == (giver.tree.manifest.files, giver.digest)
    assert giver.server.sent_bytes == giver.tree.manifest.bytes


async def test_what_nobody_vouches_for_is_not_taken_from_a_peer_either(giver: Giver) -> None:
    with pytest.raises(InvalidRequestError, match=r"2 files have no digest of their source.*allowUnverified is false"):
        await giver.take(allow_unverified=False)

    assert giver.server.sent_bytes == 0


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer ü"],
)
@pytest.mark.parametrize("path", ["", "/files/0", "/progress", "/nonsense"])
async def test_without_the_token_nobody_learns_anything(giver: Giver, authorization: str, path: str) -> None:
    answer = await giver.get(f"/v1/trees/{giver.digest}{path}", {"Authorization": authorization})

    assert answer[0] == 401


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/trees/{'0' * 64}",
        "/v1/trees/{digest}/files/2",
        "/v1/trees/{digest}/files/999999",
        "/v1/trees/{digest}/files/-1",
        "/v1/trees/{digest}/files/config.json",
        "/v1/trees/{digest}/files/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/trees/{digest}/../../../etc/passwd",
        "/v1/trees/..%2f..%2f.warmtide%2fsentinel",
        "/v1/trees/{digest}/",
        "/v1/trees/",
        "/",
    ],
)
async def test_what_is_not_there_is_not_there(giver: Giver, path: str) -> None:
    status, body = await giver.get(path.format(digest=giver.digest))

    assert (status, b"root:" in body) == (404, False)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
async def test_nothing_can_be_done_but_read(giver: Giver, method: str) -> None:
    assert (await giver.get(giver.file(0), method=method))[0] == 405


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        pytest.param("bytes=0-1", 206, slice(0, 2), id="first two"),
        pytest.param("bytes=2999999-2999999", 206, slice(2_999_999, 3_000_000), id="the last"),
        pytest.param("bytes=2999990-", 206, slice(2_999_990, None), id="to the end"),
        pytest.param("bytes=2999990-9999999999", 206, slice(2_999_990, None), id="past the end"),
        pytest.param(None, 200, slice(None), id="all"),
        pytest.param("bytes=3000000-3000001", 416, None, id="behind the end"),
        pytest.param("bytes=5-4", 416, None, id="backwards"),
        pytest.param("bytes=-5", 416, None, id="the last five"),
        pytest.param("bytes=0-1,5-6", 416, None, id="several"),
        pytest.param("bytes=0-٣", 416, None, id="other digits"),
        pytest.param(f"bytes=0-{'9' * 40}", 416, None, id="a number for fun"),
        pytest.param("lines=0-1", 416, None, id="another unit"),
    ],
)
async def test_ranges(giver: Giver, asked: str | None, status: int, expected: slice | None) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"} | ({"Range": asked} if asked else {})

    found, body = await giver.get(giver.file(1), headers)

    assert found == status
    if expected is not None:
        assert body == (giver.tree.path / "model.safetensors").read_bytes()[expected]


async def test_more_readers_than_it_may_have_are_sent_away_for_a_moment(giver: Giver) -> None:
    giver.server._streams = 4

    busy = [await giver.get(path) for path in (giver.file(0), f"/v1/trees/{giver.digest}")]

    assert [status for status, _body in busy] == [503, 503]
    with pytest.raises(SourceUnavailableError) as raised:
        await giver.take()
    assert raised.value.wait_s == 1.0


@pytest.mark.parametrize("kind", ["shorter", "a link", "gone"])
async def test_a_file_that_is_no_longer_as_the_manifest_says_is_not_given(giver: Giver, kind: str) -> None:
    path = giver.tree.path / "model.safetensors"
    if kind == "shorter":
        os.truncate(path, 5)
    else:
        path.parent.chmod(0o755)
        path.unlink()
    if kind == "a link":
        path.symlink_to("/etc/passwd")

    assert (await giver.get(giver.file(1)))[0] == 404


async def test_a_peer_that_gives_other_bytes_is_left_and_nothing_is_published(giver: Giver) -> None:
    path = giver.tree.path / "model.safetensors"
    path.chmod(0o644)
    path.write_bytes(os.urandom(WEIGHTS_BYTES))

    with pytest.raises(CacheError, match="was promised"):
        await giver.take()

    assert list((giver.folder / "taker" / "models").iterdir()) == []
    assert list((giver.folder / "taker" / ".warmtide" / "failures").iterdir()) == []  # the origin comes next


async def test_a_peer_that_lists_another_model_is_left_before_the_first_byte(giver: Giver) -> None:
    giver.shelf.trees["1" * 64] = giver.tree

    with closing(giver.source("1" * 64)) as source, pytest.raises(PeerLostError, match="wanted is 1111"):
        await asyncio.to_thread(source.manifest, giver.tree.manifest.ref)


async def test_a_peer_with_another_token_is_lost(giver: Giver) -> None:
    giver.token = "some-other-token-of-somebody"

    with pytest.raises(PeerLostError, match="401"):
        await giver.take()


async def test_progress_is_told_while_it_is_fetched_and_nothing_before(giver: Giver) -> None:
    other = "2" * 64

    with closing(giver.source(other)) as source:
        before = await asyncio.to_thread(source.progress)
        giver.shelf.staged[other] = 0
        deciding = await asyncio.to_thread(source.progress)
        giver.shelf.staged[other] = 7
        during = await asyncio.to_thread(source.progress)
        giver.shelf.trees[other] = giver.tree
        after = await asyncio.to_thread(source.progress)

    assert (before, deciding) == (Progress(), Progress(is_deciding=True))
    assert (during, after) == (Progress(staged_bytes=7), Progress(is_published=True))


def test_a_token_changes_without_a_moment_in_which_nobody_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    mine, theirs = TokenFile(path), TokenFile(path)
    new = "the-next-token-of-the-cluster"

    path.write_text(f"{TOKEN}\n{new}\n")
    assert mine.accepts(theirs.header())
    path.write_text(f"{new}\n{TOKEN}\n")
    assert mine.header() == f"Bearer {new}"
    assert mine.accepts(f"Bearer {TOKEN}")
    path.write_text(f"{new}\n\n")
    assert not mine.accepts(f"Bearer {TOKEN}")
    path.unlink()
    assert mine.accepts(f"Bearer {new}")


@pytest.mark.parametrize(
    "text", ["", "\n\n", "short\n", "with\ttab-and-long-enough\n", "größer-als-sechzehn-zeichen\n"]
)
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(BadStartError, match="--peer-token-file"):
        TokenFile(path)
