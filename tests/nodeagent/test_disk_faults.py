"""Disks that refuse and processes that die: a whole tree or none, a reason, and the time of the next try.

Real parts: a tmpfs that fills up, another user, a library before libc's own that answers EIO, SIGKILL.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cacheops.bandwidth import Bandwidth
from cacheops.download import Transfer
from cacheops.errors import FailureReason, InsufficientCapacityError, StorageError
from cacheops.inventory import contents
from cacheops.layout import open_cache
from cacheops.manifest_file import Published
from cacheops.sources import SourceSettings
from cacheops.sources.file import FolderSource
from cacheops.sources.folder import Folder
from cacheops.stock import WantedTree
from cacheops.tasks import NodeWish
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import WallClock
from nodeagent.peers.choice import Peer
from nodeagent.peers.client import PeerSource
from nodeagent.peers.server import PeerServer, ServeLimits, serving_peers
from nodeagent.peers.token import TokenFile
from nodeagent.store import Leases, Store

MIB = 1 << 20
SIZES = {"a.safetensors": 6 * MIB, "b.safetensors": 2 * MIB, "config.json": 10}
TOKEN = "a-token-that-all-agents-share"
KILLS = 8
RATE = 120.0 * MIB  # 6 MiB take 50 ms: kills fall before, into and after the bytes
ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, size in SIZES.items():
        (folder / name).write_bytes(os.urandom(size))
    return folder


def store_of(root: Path) -> Store:
    return Store(open_cache(root), SourceSettings(local_files=True), WallClock(), Leases())


def wish_of(model: Path) -> NodeWish:
    ref = model_ref(f"file://{model}")
    found = FolderSource(Folder(root=model)).resolve(ref)
    tree = WantedTree(key=ref.storage_key, digest=found.digest, size_bytes=found.bytes)
    return NodeWish(ref=ref, tree=tree, allow_unverified=True)


def slowly() -> Transfer:
    return Transfer(workers=2, bandwidth=Bandwidth(RATE, WallClock()), range_bytes=MIB, chunk_bytes=MIB // 4)


def forked(work: Callable[[], object]) -> int:
    """A process that does some work and ends; its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def killed_after(child: int, after_s: float) -> bool:
    """Whether the child was still at work."""
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def rot(store: Store, tree: Published) -> None:
    """A file lost its last byte, which a start finds."""
    path = tree.path / "a.safetensors"
    path.chmod(0o644)
    os.truncate(path, SIZES["a.safetensors"] - 1)
    path.chmod(0o444)
    assert store.examine()


def test_a_mender_that_is_killed_leaves_the_old_tree_or_the_whole_new_one(tmp_path: Path, model: Path) -> None:
    chance = random.Random(7)
    store, wish = store_of(tmp_path / "cache"), wish_of(model)
    tree = store.fetch(wish, Transfer())
    kills = 0
    for _ in range(4 * KILLS):
        if not store.look().faults(tree.path.name):
            rot(store, tree)
        kills += killed_after(forked(lambda: store_of(tmp_path / "cache").mend(tree, slowly())), chance.uniform(0, 0.1))

        [held] = contents(open_cache(tmp_path / "cache")).trees
        assert held == tree
        assert {path.name for path in tree.path.iterdir()} == {*SIZES, ".manifest.json"}
        for name in ("b.safetensors", "config.json"):
            assert (tree.path / name).read_bytes() == (model / name).read_bytes()
        if kills >= KILLS:
            break
    assert kills >= KILLS
    store.mend(tree, Transfer())
    assert full(tree.path, Transfer()) == []
    assert list((tmp_path / "cache" / ".warmtide" / "trash").iterdir()) == []


async def give(root: Path, token: Path, port_to: int) -> None:
    """A node that gives all it has until it is killed."""
    store = store_of(root)
    trees = {tree.source_digest: tree for tree in store.look().published.values()}

    class Shelf:
        def shared(self, digest: str) -> Published | None:
            return trees.get(digest)

        def staged_bytes(self, _digest: str) -> int | None:
            return None

        def underway(self, _digest: str) -> None:
            return None

    server = PeerServer(Shelf(), TokenFile(token), ServeLimits(bytes_per_s=0), WallClock())
    async with serving_peers(server, "127.0.0.1", 0) as port:
        os.write(port_to, f"{port}\n".encode())
        await asyncio.Event().wait()


@contextmanager
def giving(root: Path, token: Path) -> Iterator[Peer]:
    reader, writer = os.pipe()
    child = forked(lambda: asyncio.run(give(root, token, writer)))
    os.close(writer)
    try:
        with os.fdopen(reader) as lines:
            yield Peer(node="giver", address=f"127.0.0.1:{lines.readline().strip()}")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def take(root: Path, wish: NodeWish, peer: Peer, transfer: Transfer) -> Published:
    with closing(PeerSource(peer, wish.tree.digest, f"Bearer {TOKEN}", WallClock())) as source:
        return store_of(root).take(wish, transfer, source)


def test_a_taker_that_is_killed_goes_on_where_it_was(tmp_path: Path, model: Path) -> None:
    chance = random.Random(11)
    (tmp_path / "token").write_text(TOKEN)
    wish = wish_of(model)
    store_of(tmp_path / "giver").fetch(wish, Transfer())
    taker = tmp_path / "taker"
    kills = 0
    with giving(tmp_path / "giver", tmp_path / "token") as peer:
        for _ in range(4 * KILLS):
            kills += killed_after(forked(lambda: take(taker, wish, peer, slowly())), chance.uniform(0, 0.12))
            held = contents(open_cache(taker))
            assert held.strangers == ()
            for tree in held.trees:
                assert full(tree.path, Transfer()) == []
                shutil.rmtree(tree.path)
            if kills >= KILLS:
                break
        assert kills >= KILLS
        taken = take(taker, wish, peer, Transfer())
    assert full(taken.path, Transfer()) == []


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of its own."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    """Somebody else takes every byte."""
    free = os.statvfs(place)
    with (place / "somebody-elses").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)


def test_a_disk_that_fills_up_is_a_lack_of_capacity_that_is_known_though_nothing_can_be_written(
    tmp_path: Path, model: Path
) -> None:
    wish = wish_of(model)
    with small_disk(tmp_path / "disk", 96 * MIB) as disk:
        store = store_of(disk / "cache")
        tree = store.fetch(wish, Transfer())
        rot(store, tree)
        fill(disk)
        with pytest.raises(InsufficientCapacityError):
            store.mend(tree, Transfer())

        failure = store.look().failures[tree.path.name]
        assert (failure.reason, failure.retry_at_s > failure.failed_at_s) == (
            FailureReason.INSUFFICIENT_CAPACITY,
            True,
        )
        (disk / "somebody-elses").unlink()
        store.mend(tree, Transfer())
        assert store.look().failures == {}
        assert full(tree.path, Transfer()) == []


def test_a_disk_that_somebody_fills_under_a_fetch_ends_it_with_a_reason(tmp_path: Path, model: Path) -> None:
    wish = wish_of(model)
    with small_disk(tmp_path / "disk", 96 * MIB) as disk:
        store = store_of(disk / "cache")
        transfer = Transfer(workers=1)
        spare = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 74 * MIB
        with (disk / "others").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, spare)  # just enough to begin
        fillers = iter([lambda: fill(disk)])

        class Filling(Bandwidth):
            def wait_s(self, count_bytes: int) -> float:
                next(fillers, lambda: None)()
                return 0.0

        transfer.bandwidth = Filling(0.0, WallClock())
        with pytest.raises(InsufficientCapacityError, match="No space left"):
            store.fetch(wish, transfer)

        [failure] = store.look().failures.values()
        assert (failure.reason, failure.attempts) == (FailureReason.INSUFFICIENT_CAPACITY, 1)
        assert store.look().published == {}


def test_a_cache_that_became_somebody_elses_needs_a_human(tmp_path: Path, model: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not write here")
    store, wish = store_of(tmp_path / "cache"), wish_of(model)
    tree = store.fetch(wish, Transfer())
    rot(store, tree)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)

    def stranger() -> None:
        os.setegid(65534)
        os.seteuid(65534)
        try:
            store.mend(tree, Transfer())
        except StorageError as exc:
            (out / "said").write_text(f"{exc.reason} {exc}")

    os.waitpid(forked(stranger), 0)

    assert (out / "said").read_text().startswith("StorageFailed")
    assert store.look().faults(tree.path.name)


SHIM = """
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int bad(const char *call, int fd) {
    char link[64], path[4096];
    const char *wanted = getenv("EIO_CALL"), *below = getenv("EIO_BELOW");
    if (!wanted || !below || strcmp(wanted, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    if (!strstr(path, below)) return 0;
    errno = EIO;
    return 1;
}
#define CALL(kind, name, result, asked, given) \\
    result name asked { \\
        static result (*next) asked; \\
        if (!next) next = (result (*) asked)dlsym(RTLD_NEXT, #name); \\
        return bad(kind, fd) ? -1 : next given; \\
    }
#define WRITE (int fd, const void *data, size_t size, off_t at), (fd, data, size, at)
#define READ (int fd, const struct iovec *to, int count, off_t at), (fd, to, count, at)
#define READ_2 (int fd, const struct iovec *to, int count, off_t at, int flags), (fd, to, count, at, flags)
#define APPLY(macro, ...) macro(__VA_ARGS__)
APPLY(CALL, "pwrite", pwrite, ssize_t, WRITE)
APPLY(CALL, "pwrite", pwrite64, ssize_t, WRITE)
APPLY(CALL, "preadv", preadv, ssize_t, READ)
APPLY(CALL, "preadv", preadv64, ssize_t, READ)
APPLY(CALL, "preadv", preadv2, ssize_t, READ_2)
APPLY(CALL, "preadv", preadv64v2, ssize_t, READ_2)
APPLY(CALL, "fsync", fsync, int, (int fd), (fd))
"""
CHILD = """
import json, sys
from pathlib import Path
from cacheops.download import Transfer
from cacheops.errors import CacheError
from cacheops.layout import open_cache
from cacheops.sources import SourceSettings
from cacheops.stock import WantedTree
from cacheops.tasks import NodeWish
from cacheops.uri import model_ref
from metrics.clock import WallClock
from nodeagent.store import Leases, Store
root, uri, digest, work = sys.argv[1:]
store = Store(open_cache(Path(root)), SourceSettings(local_files=True), WallClock(), Leases())
ref = model_ref(uri)
wanted = WantedTree(key=ref.storage_key, digest=digest, size_bytes=1)
wish = NodeWish(ref=ref, tree=wanted, allow_unverified=True)
try:
    if work == "fetch":
        store.fetch(wish, Transfer(workers=1))
    else:
        [tree] = store.look().published.values()
        store.scrub(tree, Transfer())
except CacheError as exc:
    print(exc)
view = store.look()
said = {key: [failure.reason, failure.retry_at_s > failure.failed_at_s] for key, failure in view.failures.items()}
print(json.dumps([said, {key: dict(view.faults(key)) for key in view.published}]))
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library whose read, write and sync fail as on a dying disk."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the library that fails")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, folder / "shim.c", "-ldl"], check=True
    )
    return library


@pytest.mark.parametrize(
    ("call", "below", "work"),
    [
        pytest.param("pwrite", "/staging/", "fetch", id="a write"),
        pytest.param("fsync", "/staging/", "fetch", id="a sync"),
        pytest.param("preadv", "/models/", "scrub", id="a read"),
    ],
)
def test_a_disk_that_dies_is_told(tmp_path: Path, model: Path, shim: Path, call: str, below: str, work: str) -> None:
    root, wish = tmp_path / "cache", wish_of(model)
    if work == "scrub":
        tree = store_of(root).fetch(wish, Transfer())
        manifest = tree.path / ".manifest.json"
        text = json.loads(manifest.read_text())
        manifest.chmod(0o644)
        manifest.write_text(json.dumps(text | {"publishedAt": 1000.0}))
    environment = os.environ | {
        "LD_PRELOAD": str(shim),
        "EIO_CALL": call,
        "EIO_BELOW": below,
        "PYTHONPATH": str(ROOT),
    }

    words = [sys.executable, "-c", CHILD, str(root), wish.ref.uri, wish.tree.digest, work]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)

    said, faults = json.loads(done.stdout.splitlines()[-1])
    if work == "fetch":
        assert said == {wish.tree.key: ["StorageFailed", True]}
        assert faults == {}
    else:
        [found] = faults[wish.tree.key].values()
        assert found == "cannot be read: Input/output error"
