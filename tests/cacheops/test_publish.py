"""Disks that refuse, trees that rot, caches that are not ours."""

import os
import resource
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheops.cli import main
from cacheops.download import Transfer
from cacheops.errors import FailureReason, IntegrityMismatchError, StorageError
from cacheops.inventory import contents, disk_bytes
from cacheops.layout import Layout, discard, open_cache
from cacheops.manifest_file import Published, read_published
from cacheops.model import storage_key
from cacheops.prefetch import bring, read_failure
from cacheops.publish import remove
from cacheops.sources.file import FolderSource
from cacheops.sources.folder import Folder
from cacheops.uri import model_ref
from cacheops.verify import full, quick

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "sub").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(os.urandom(3 * MIB))
    (made / "sub" / "config.json").write_text("{}")
    return made


def brought(layout: Layout, folder: Path) -> Published:
    source = FolderSource(Folder(root=folder))
    return bring(layout, source.resolve(model_ref(f"file://{folder}")), source, Transfer(), now_s=7.0)


@pytest.fixture
def tree(layout: Layout, folder: Path) -> Published:
    return brought(layout, folder)


def in_child(work: Callable[[], None]) -> int:
    """Run something that changes its process; the exit code, 1 for an error."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_file_too_large_for_its_disk_is_a_lack_of_capacity_and_leaves_nothing_published(
    layout: Layout, folder: Path
) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))
        brought(layout, folder)

    assert in_child(limited) == 1

    failure = read_failure(layout, storage_key(f"file://{folder}"))
    assert failure is not None
    assert failure.reason is FailureReason.INSUFFICIENT_CAPACITY
    assert contents(layout).trees == ()
    assert brought(layout, folder).manifest.bytes == 3 * MIB + 2  # and later, with room, it comes


def test_a_cache_that_may_not_be_written_needs_a_human() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not write here")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "model"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        layout = open_cache(Path(place) / "cache")

        def stranger() -> None:
            os.setegid(65534)
            os.seteuid(65534)
            with pytest.raises(StorageError, match="Permission denied"):
                brought(layout, folder)

        assert in_child(stranger) == 0


@pytest.mark.parametrize("obstacle", ["a file for parts", "a folder for journal"])
def test_staging_that_something_else_lies_in_fails_with_a_reason_and_a_next_try(
    layout: Layout, folder: Path, obstacle: str
) -> None:
    kind, name = obstacle.split(" for ")
    manifest = FolderSource(Folder(root=folder)).resolve(model_ref(f"file://{folder}"))
    layout.staging(manifest.digest).mkdir()
    place = layout.staging(manifest.digest) / name
    place.touch() if kind == "a file" else place.mkdir()

    with pytest.raises(StorageError, match=f"staging {manifest.digest}"):
        brought(layout, folder)

    failure = read_failure(layout, manifest.storage_key)
    assert failure is not None
    assert (failure.reason, failure.retry_at_s > failure.failed_at_s) == (FailureReason.STORAGE_FAILED, True)


def test_a_published_tree_is_read_only_and_says_what_it_holds(tree: Published) -> None:
    modes = {path.relative_to(tree.path): path.stat().st_mode & 0o777 for path in tree.path.rglob("*")}

    assert set(modes.values()) == {0o444, 0o555}
    assert read_published(tree.path) == tree
    assert all(entry.sworn and entry.first_use for entry in tree.manifest.files)


def change(path: Path, data: bytes | None) -> None:
    path.parent.chmod(0o755)
    path.unlink()
    if data is not None:
        path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "seen_quickly"),
    [
        pytest.param("model.safetensors", bytes(3 * MIB), False, id="other bytes of the same size"),
        pytest.param("model.safetensors", b"short", True, id="wrong size"),
        pytest.param("sub/config.json", None, True, id="missing"),
    ],
)
def test_rot_is_found(tree: Published, name: str, data: bytes | None, seen_quickly: bool) -> None:
    change(tree.path / name, data)

    assert (quick(tree.path)[1] != []) is seen_quickly
    assert any(name in fault for fault in full(tree.path, Transfer()))


def test_a_visibly_damaged_tree_is_replaced_when_it_is_asked_for_again(
    layout: Layout, folder: Path, tree: Published
) -> None:
    change(tree.path / "model.safetensors", b"short")

    healed = brought(layout, folder)

    assert healed.path == tree.path
    assert full(healed.path, Transfer()) == []


def test_a_stranger_and_a_link_in_a_tree_are_found(tree: Published) -> None:
    tree.path.chmod(0o755)
    (tree.path / "extra.bin").write_bytes(b"x")
    change(tree.path / "sub" / "config.json", None)
    (tree.path / "sub" / "config.json").symlink_to("/etc/passwd")

    faults = quick(tree.path)[1]

    assert any("extra.bin" in fault for fault in faults)
    assert any("not a regular file" in fault for fault in faults)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"files": [{"path": "../x"}]}', b"\xff"], ids=repr)
def test_a_manifest_that_is_not_ours_makes_no_tree(layout: Layout, tree: Published, text: bytes) -> None:
    change(tree.path / ".manifest.json", text)

    with pytest.raises(IntegrityMismatchError):
        read_published(tree.path)
    assert contents(layout).strangers == (tree.path,)


def test_a_manifest_whose_list_was_altered_is_refused(tree: Published) -> None:
    text = (tree.path / ".manifest.json").read_text()
    change(tree.path / ".manifest.json", text.replace("config.json", "other.json").encode())

    with pytest.raises(IntegrityMismatchError, match="claims"):
        read_published(tree.path)


def test_hard_links_count_once(layout: Layout, tree: Published) -> None:
    os.link(tree.path / "model.safetensors", layout.hub / "again")

    assert disk_bytes(layout.root) < 4 * MIB


def test_a_removed_tree_is_gone_at_once(layout: Layout, tree: Published) -> None:
    remove(layout, tree)

    assert not tree.path.exists()
    assert list(layout.trash.iterdir()) == []


def test_nothing_is_deleted_without_our_sentinel(layout: Layout, tree: Published) -> None:
    layout.sentinel.unlink()

    with pytest.raises(StorageError, match="sentinel"):
        discard(layout, tree.path)
    assert full(tree.path, Transfer()) == []


def test_nothing_is_deleted_on_another_file_system(layout: Layout, tree: Published) -> None:
    layout.sentinel.write_text('{"fsid": -1}')

    with pytest.raises(StorageError, match="another file system"):
        discard(layout, tree.path)


@pytest.mark.parametrize("root", ["/", "/var", "/etc", "/var/lib/kubelet"])
def test_a_folder_of_the_system_is_no_cache(root: str) -> None:
    with pytest.raises(StorageError):
        open_cache(Path(root))


def test_a_cache_root_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(StorageError, match="symlink"):
        open_cache(tmp_path / "link")


def test_the_command_line_brings_lists_verifies_and_counts(
    layout: Layout, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, uri = str(layout.root), f"file://{folder}"

    assert main(["prefetch", root, uri, "--dry-run"]) == 0
    assert "would be published" in capsys.readouterr().out
    assert main(["prefetch", root, uri]) == 0
    assert main(["ls", root]) == 0
    assert storage_key(uri) in capsys.readouterr().out
    assert main(["du", root]) == 0
    assert main(["verify", root]) == 0
    assert "sound" in capsys.readouterr().out
    change(layout.tree(storage_key(uri)) / "model.safetensors", bytes(3 * MIB))
    assert main(["verify", root, "--quick"]) == 0
    assert main(["verify", root]) == 1


def test_the_command_line_says_why_and_when_again(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prefetch", str(layout.root), "https://169.254.169.254/latest/"]) == 2
    assert "InvalidRequest" in capsys.readouterr().err

    assert main(["ls", str(layout.root)]) == 0
    assert "again in 3" in capsys.readouterr().out
