"""Make a staged model visible: whole or not at all.

The tree is built in staging from hard links to the part files, synced, and moved with one rename; an older tree is
exchanged in the same instant. A crash anywhere leaves the old tree or the new one, and staging to take up again.
"""

import ctypes
import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cacheops.errors import from_os
from cacheops.guard import MANIFEST_NAME
from cacheops.hub_view import drop_view, publish_view
from cacheops.layout import Layout, check_sentinel, discard, remove_tree, why_unclaimed
from cacheops.manifest_file import Published, encode
from cacheops.model import ModelManifest
from cacheops.parts import part_name

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS})  # NFS and some overlays
_libc = ctypes.CDLL(None, use_errno=True)


def publish(layout: Layout, staging: Path, manifest: ModelManifest, *, source_digest: str, now_s: float) -> Published:
    """Move a staged, verified model to its place under `models/`; `manifest` is sealed."""
    target = layout.tree(manifest.storage_key)
    published = Published(manifest=manifest, source_digest=source_digest, published_at_s=now_s, path=target)
    parts = {entry.path: staging / "parts" / part_name(index) for index, entry in enumerate(manifest.files)}
    _put(layout, staging, published, parts)
    return published


def mend(layout: Layout, staging: Path, published: Published, fresh: Mapping[str, Path]) -> None:
    """Put a tree in the place of itself, with some files anew: the others by hard links, all at once by one rename."""
    files = {entry.path: published.path / entry.path for entry in published.manifest.files}
    _put(layout, staging, published, {**files, **fresh})


def remove(layout: Layout, published: Published) -> None:
    """Take a tree and its hub view away, each in one rename."""
    try:
        drop_view(layout, published)
    except OSError as exc:
        raise from_os(exc, f"{published.manifest.ref.uri}: its view under {layout.hub} cannot be deleted") from exc
    discard(layout, published.path)


def _put(layout: Layout, staging: Path, published: Published, places: Mapping[str, Path]) -> None:
    try:
        _clear(layout, staging / "tree")
        tree = _built(staging, published, places)
        _placed(layout, tree, published.path)
        publish_view(layout, published)
        shutil.rmtree(staging)
    except OSError as exc:
        raise from_os(exc, f"publishing {published.manifest.ref.uri} at {published.path}") from exc


def _clear(layout: Layout, tree: Path) -> None:
    """What a publication left that a crash ended: a tree that was not published yet, or the one that was until then."""
    if not why_unclaimed(layout):
        discard(layout, tree)
    elif tree.exists():
        remove_tree(tree)


def _built(staging: Path, published: Published, places: Mapping[str, Path]) -> Path:
    """The tree, read-only and synced. Its top stays writable: a folder must be, to be moved."""
    tree = staging / "tree"
    tree.mkdir(mode=0o755)
    for entry in published.manifest.files:
        place = tree / entry.path
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.link(places[entry.path], place, follow_symlinks=False)
        place.chmod(0o444)
    _write_synced(tree / MANIFEST_NAME, encode(published))
    for folder, _, _ in os.walk(tree, topdown=False):
        if folder != str(tree):
            os.chmod(folder, 0o555)
        sync_folder(Path(folder))
    return tree


def _placed(layout: Layout, tree: Path, target: Path) -> None:
    if target.exists():
        check_sentinel(layout)  # before, not after: what is replaced is deleted
        target.chmod(0o755)
        old = tree if _exchange(tree, target) else None
        if old is None:
            discard(layout, target)
            tree.rename(target)
        else:
            discard(layout, old)
    else:
        tree.rename(target)
    target.chmod(0o555)
    sync_folder(target)
    sync_folder(layout.models)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where the file system can."""
    done = _libc.renameat2(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE)
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _write_synced(path: Path, text: bytes) -> None:
    with path.open("xb") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make names in a folder last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
