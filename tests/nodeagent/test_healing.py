"""A tree that rots on the disk: found, not given to anybody, mended file by file, and told."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cacheops.addresses import AddressRules
from cacheops.download import Transfer
from cacheops.errors import CacheError, FailureReason, InvalidRequestError
from cacheops.layout import Layout, open_cache
from cacheops.manifest_file import Published
from cacheops.page_cache import absent_ranges, read_leaving_no_trace
from cacheops.prefetch import read_failure
from cacheops.scrub import PERIOD_S, next_due, record_of
from cacheops.sources import SourceSettings, open_source
from cacheops.stock import WantedTree
from cacheops.tasks import NodeWish
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import ManualClock
from nodeagent.store import Leases, Store
from simulations.origin import Fault, Origin, serving

FILES = {"a.safetensors": 300_000, "b.safetensors": 300_000, "config.json": 100}
DAY_S = 86_400.0


class Node:
    """A store, the origin of its one model, and the tree that it published."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.origin = origin
        self.clock = ManualClock(DAY_S)
        self.layout: Layout = open_cache(folder)
        rules = AddressRules(hosts=frozenset({origin.url.removeprefix("http://")}))
        self.settings = SourceSettings(rules=rules)
        self.store = Store(self.layout, self.settings, self.clock, Leases())
        self.wish = self.wished()
        self.tree: Published = self.store.fetch(self.wish, Transfer(retry_first_s=0.01))

    def wished(self, path: str = "/m/", *, allow_unverified: bool = False) -> NodeWish:
        ref = model_ref(f"{self.origin.url}{path}")
        with closing(open_source(ref.uri, self.settings, self.clock)) as source:
            found = source.resolve(ref)
        tree = WantedTree(key=ref.storage_key, digest=found.digest, size_bytes=found.bytes)
        return NodeWish(ref=ref, tree=tree, allow_unverified=allow_unverified)

    def faults(self) -> set[str]:
        """What a start and then a whole reading find."""
        self.store.examine()
        record = record_of(self.layout, self.tree)
        return set(record.faults or self.store.scrub(self.tree, Transfer()).faults)

    def sent_bytes(self, work: Callable[[], object]) -> int:
        before = self.origin.sent_bytes
        work()
        return self.origin.sent_bytes - before


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    origin = Origin()
    for name, size in FILES.items():
        origin.add(f"/m/{name}", os.urandom(size))
    origin.sums("/m/")
    with serving(origin):
        made = Node(tmp_path / "cache", origin)
        made.clock.advance(PERIOD_S)
        yield made


def writable(path: Path) -> Path:
    """As root, or whoever owns a disk, can."""
    path.parent.chmod(0o755)
    path.chmod(0o644)
    return path


def flip(name: str, position: int) -> Callable[[Path], None]:
    def damage(tree: Path) -> None:
        with writable(tree / name).open("r+b") as file:
            file.seek(position, os.SEEK_SET if position >= 0 else os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))

    return damage


def resize(name: str, size: int) -> Callable[[Path], None]:
    return lambda tree: os.truncate(writable(tree / name), size)


def swap(tree: Path) -> None:
    one, other = writable(tree / "a.safetensors"), tree / "b.safetensors"
    one.rename(tree / "c")
    other.rename(one)
    (tree / "c").rename(other)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(tree: Path) -> None:
        path = writable(tree / "a.safetensors")
        path.unlink()
        make(path)

    return damage


A, B, CONFIG = "a.safetensors", "b.safetensors", "config.json"
AT_REST = [
    pytest.param(flip(A, 0), {A}, id="first bit"),
    pytest.param(flip(A, 150_000), {A}, id="a bit in the middle"),
    pytest.param(flip(B, -1), {B}, id="last bit"),
    pytest.param(flip(CONFIG, 7), {CONFIG}, id="a bit of a small file"),
    pytest.param(resize(A, 0), {A}, id="empty"),
    pytest.param(resize(A, 299_999), {A}, id="a byte short"),
    pytest.param(resize(B, 300_001), {B}, id="a byte long"),
    pytest.param(resize(CONFIG, 4096), {CONFIG}, id="padded to a block"),
    pytest.param(swap, {A, B}, id="two files swapped"),
    pytest.param(instead(lambda path: path.write_bytes(bytes(300_000))), {A}, id="zeros"),
    pytest.param(instead(lambda path: None), {A}, id="missing"),
    pytest.param(instead(lambda path: path.mkdir()), {A}, id="a folder in its place"),
    pytest.param(instead(lambda path: path.symlink_to("/etc/passwd")), {A}, id="a link in its place"),
    pytest.param(instead(os.mkfifo), {A}, id="a pipe in its place"),
    pytest.param(lambda tree: (writable(tree / A).parent / "x.py").write_text("x"), {"x.py"}, id="one too many"),
]


@pytest.mark.parametrize(("damage", "bad"), AT_REST)
def test_rot_is_found_and_only_what_is_bad_comes_again(
    node: Node, damage: Callable[[Path], None], bad: set[str]
) -> None:
    damage(node.tree.path)

    found = node.faults()
    while node.faults():  # the first bad byte ends a reading: the second file shows in the next
        found |= node.faults()
        sent_bytes = node.sent_bytes(lambda: node.store.mend(node.tree, Transfer()))
        assert sent_bytes <= sum(FILES.get(name, 0) for name in bad)
        node.clock.advance(PERIOD_S + 1)

    assert found == bad
    assert full(node.tree.path, Transfer()) == []
    assert {path.stat().st_mode & 0o777 for path in node.tree.path.iterdir()} == {0o444}
    assert list(node.layout.trash.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip(".manifest.json", 40), id="a bit"),
        pytest.param(resize(".manifest.json", 100), id="cut off"),
        pytest.param(lambda tree: writable(tree / ".manifest.json").unlink(), id="missing"),
    ],
)
def test_a_tree_whose_manifest_is_bad_is_no_tree_and_is_fetched_as_if_it_were_not_there(
    node: Node, damage: Callable[[Path], None]
) -> None:
    damage(node.tree.path)
    assert node.store.look().published == {}

    node.store.fetch(node.wish, Transfer())

    assert full(node.tree.path, Transfer()) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(Fault(flip=True), FailureReason.INTEGRITY_MISMATCH, id="a bit"),
        pytest.param(Fault(size=300_001), FailureReason.INTEGRITY_MISMATCH, id="wrong size"),
        pytest.param(Fault(headers={"ETag": '"new"'}), FailureReason.INTEGRITY_MISMATCH, id="changed ETag"),
        pytest.param(Fault(status=404), FailureReason.INVALID_REQUEST, id="gone"),
        pytest.param(Fault(status=403), FailureReason.ACCESS_DENIED, id="forbidden"),
        pytest.param(Fault(cut_after=0), FailureReason.SOURCE_UNAVAILABLE, id="cut off"),
    ],
)
def test_a_source_that_cannot_mend_it_is_named_with_the_next_try_and_the_tree_stays_out_of_reach(
    node: Node, fault: Fault, reason: FailureReason
) -> None:
    flip(A, 5)(node.tree.path)
    node.faults()
    node.origin.always[f"/m/{A}"] = fault

    with pytest.raises(CacheError):
        node.store.mend(node.tree, Transfer(retry_first_s=0.001))

    failure = read_failure(node.layout, node.tree.path.name)
    assert failure is not None
    assert (failure.reason, failure.retry_at_s > node.clock.now_s()) == (reason, True)
    view = node.store.look()
    assert view.faults(node.tree.path.name).keys() == {A}
    del node.origin.always[f"/m/{A}"]
    node.store.mend(node.tree, Transfer())
    assert full(node.tree.path, Transfer()) == []
    assert read_failure(node.layout, node.tree.path.name) is None


def test_who_reads_the_old_tree_goes_on_and_who_opens_it_anew_gets_the_mended_one(node: Node) -> None:
    flip(A, 5)(node.tree.path)
    node.faults()

    with (node.tree.path / A).open("rb") as opened:
        node.store.mend(node.tree, Transfer())
        assert len(opened.read()) == FILES[A]

    assert full(node.tree.path, Transfer()) == []


def mounted(source: Path, target: Path) -> Iterator[Path]:
    """A real bind mount, as a kubelet makes it."""
    target.mkdir()
    done = subprocess.run(["mount", "--bind", str(source), str(target)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode()}")
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_pod_that_has_it_mounted_keeps_the_whole_old_tree_until_it_ends(node: Node, tmp_path: Path) -> None:
    flip(A, 5)(node.tree.path)
    node.faults()

    with contextmanager(mounted)(node.tree.path, tmp_path / "pod") as pod:
        node.store.mend(node.tree, Transfer())
        node.store.look()
        assert {path.name for path in pod.iterdir()} == {*FILES, ".manifest.json"}
        assert (pod / A).read_bytes() != (node.tree.path / A).read_bytes()
    node.store.look()

    assert full(node.tree.path, Transfer()) == []
    assert list(node.layout.trash.iterdir()) == []


def test_files_are_read_again_in_turn_and_what_was_read_rests_for_a_week(node: Node) -> None:
    view = node.store.look()
    assert view.scrub_due(DAY_S + PERIOD_S - 1) is None
    assert view.scrub_due(DAY_S + PERIOD_S) == node.tree

    record = node.store.scrub(node.tree, Transfer())

    assert record.read_at_s == dict.fromkeys(FILES, node.clock.now_s())
    assert next_due([(node.tree, record)], node.clock.now_s() + PERIOD_S - 1) is None
    assert next_due([(node.tree, record)], node.clock.now_s() + PERIOD_S) == node.tree


def test_a_record_of_an_earlier_publication_says_nothing_of_this_one(node: Node) -> None:
    flip(A, 5)(node.tree.path)
    assert node.faults() == {A}
    shutil.rmtree(node.tree.path)
    node.clock.advance(1.0)

    node.store.fetch(node.wish, Transfer())

    assert node.store.look().faults(node.tree.path.name) == {}


def test_what_nobody_vouches_for_is_refused_unless_allowed_and_then_recorded(node: Node) -> None:
    with pytest.raises(InvalidRequestError, match="allowUnverified is false"):
        node.store.fetch(node.wished(f"/m/{A}"), Transfer())
    [failure] = node.store.look().failures.values()
    assert (failure.reason, failure.retry_at_s > node.clock.now_s()) == (FailureReason.INVALID_REQUEST, True)

    taken = node.store.fetch(node.wished(f"/m/{A}", allow_unverified=True), Transfer())

    assert [entry.first_use for entry in taken.manifest.files] == [True]
    assert [entry.first_use for entry in node.tree.manifest.files] == [False, False, False]
    assert node.store.look().failures == {}


def test_of_what_is_read_again_only_that_stays_cached_which_was(tmp_path: Path) -> None:
    path, mib = tmp_path / "weights", 1 << 20
    path.write_bytes(os.urandom(4 * mib))
    warm = (mib, mib + 65536)
    with path.open("rb") as file:
        fd = file.fileno()
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        if absent_ranges(fd, 0, 4 * mib) != [(0, 4 * mib)]:
            pytest.skip("this file system keeps its files in memory")
        os.pread(fd, warm[1] - warm[0], warm[0])

        position, buffer = 0, memoryview(bytearray(2 * mib))
        while count := read_leaving_no_trace(fd, buffer, position):
            position += count

        assert position == 4 * mib
        assert absent_ranges(fd, 0, 4 * mib) == [(0, warm[0]), (warm[1], 4 * mib)]
