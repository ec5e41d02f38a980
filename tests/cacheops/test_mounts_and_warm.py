"""What is mounted is in use; what is about to be read lies in memory, unless memory is short."""

from pathlib import Path

import pytest

from cacheops.download import Transfer
from cacheops.errors import StorageError
from cacheops.manifest_file import Published
from cacheops.model import FileEntry, ModelManifest, ModelRef
from cacheops.mounts import mounted_keys, read_table, shows
from cacheops.warm import BLOCK_BYTES, has_memory, warm

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
MODELS = Path("/var/lib/warmtide/models")


def row(root: str, place: str) -> str:
    return f"36 35 98:0 {root} {place} rw,noatime shared:1 - ext4 /dev/root rw"


@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        ([row(f"/var/lib/warmtide/models/{KEY}", "/pods/a")], {KEY: 1}),
        ([row(f"/var/lib/warmtide/models/{KEY}", f"/pods/{n}") for n in "ab"], {KEY: 2}),
        ([row(f"/warmtide/models/{KEY}/sub", "/pods/a")], {KEY: 1}),
        ([row(f"/models/{KEY}", "/pods/a"), row(f"/models/{OTHER}", "/pods/b")], {KEY: 1, OTHER: 1}),
        ([row(f"/my\\040disk/models/{KEY}", "/pods/with\\040space")], {KEY: 1}),
        ([row("/var/lib/warmtide/models", "/pods/all")], {}),
        ([row(f"/var/lib/warmtide/models/{KEY}0", "/pods/a")], {}),
        ([row(f"/submodels/{KEY}", "/pods/a")], {}),
        ([row(f"/models/{KEY}", f"{MODELS}/{KEY}")], {}),
        (["", "nonsense", "1 2 3"], {}),
    ],
    ids=["one", "twice", "a part", "two", "spaces", "all", "longer", "other folder", "itself", "garbage"],
)
def test_mounts_are_counted_by_tree(rows: list[str], keys: dict[str, int]) -> None:
    assert mounted_keys("\n".join(rows), MODELS) == keys


def test_a_table_without_the_kubelet_s_folder_says_nothing_about_pods() -> None:
    pods = Path("/var/lib/kubelet/pods")

    assert shows(row("/var/lib/kubelet/pods", str(pods)), pods)
    assert not shows(row("/var/lib/kubelet/pods", f"{pods}/u/volumes/x"), pods)


def test_this_machine_s_own_table_can_be_read() -> None:
    assert mounted_keys(read_table(Path("/proc/self/mountinfo")), MODELS) == {}


def published(folder: Path, sizes: dict[str, int]) -> Published:
    for name, size in sizes.items():
        (folder / name).write_bytes(b"x" * size)
    files = tuple(FileEntry(path=name, size_bytes=size) for name, size in sizes.items())
    manifest = ModelManifest(ref=ModelRef(uri="hf://a/b"), resolved_revision="c", files=files)
    return Published(manifest=manifest, source_digest="d", published_at_s=0.0, path=folder)


def test_all_files_are_read(tmp_path: Path) -> None:
    tree = published(tmp_path, {"a": 10, "b": BLOCK_BYTES + 5, "empty": 0})

    assert warm(tree, Transfer(), may_go_on=lambda: True) == BLOCK_BYTES + 15


def test_reading_ends_when_memory_gets_short(tmp_path: Path) -> None:
    tree = published(tmp_path, {"small": 10, "large": 3 * BLOCK_BYTES})
    answers = iter([True, False])

    assert warm(tree, Transfer(), may_go_on=lambda: next(answers)) == BLOCK_BYTES


def test_reading_ends_when_asked_to(tmp_path: Path) -> None:
    transfer = Transfer()
    transfer.stop.set()

    assert warm(published(tmp_path, {"a": 10}), transfer, may_go_on=lambda: True) == 0


def test_a_file_that_vanished_is_told(tmp_path: Path) -> None:
    tree = published(tmp_path, {"a": 10})
    (tmp_path / "a").unlink()

    with pytest.raises(StorageError, match=r"reading .*/a into the page cache"):
        warm(tree, Transfer(), may_go_on=lambda: True)


@pytest.mark.parametrize(("available", "enough"), [(199, False), (200, True), (201, True)])
def test_a_fifth_of_memory_stays_available(tmp_path: Path, available: int, enough: bool) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n", encoding="ascii")

    assert has_memory(meminfo) is enough
