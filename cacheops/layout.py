"""Where everything lies under a cache's root, and the sentinel without which nothing is deleted.

```
models/<storage key>/…          published trees: 0444 files, 0555 folders, .manifest.json (KServe's own path)
hub/models--org--name/…         the same bytes by hard links, as huggingface_hub expects them (HF_HUB_CACHE)
.warmtide/staging/<digest>/     numbered part files, their journal, a lock
.warmtide/trash/                renamed away before deletion
.warmtide/failures/<key>.json   why a model is not here and when it is tried again
.warmtide/scrub/<key>.json      when each file was last read in whole, and what was wrong with it
.warmtide/sentinel              this folder is ours, on this file system
```
"""

import json
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from cacheops.errors import InvalidRequestError, StorageError, from_os
from cacheops.guard import MANIFEST_NAME
from cacheops.mounts import Leases, mounted_names, read_table

# A cache in one of these would one day delete what others live on.
FORBIDDEN_ROOTS = frozenset(
    f"/{name}".rstrip("/")
    for name in (
        *("", "bin", "boot", "dev", "etc", "home", "lib", "lib64", "opt", "proc", "root", "run", "sbin", "srv", "sys"),
        *("tmp", "usr", "var", "var/lib", "var/log", "var/lib/kubelet", "var/lib/containerd", "var/lib/docker"),
        *("var/lib/etcd", "var/tmp"),
    )
)

REMOVALS_MAX = 10  # of one folder that others delete, too: each of them brings it nearer to its end


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one cache."""

    root: Path
    leases: Leases = field(default_factory=Leases)  # what is mounted is not deleted

    @property
    def models(self) -> Path:
        """Published trees."""
        return self.root / "models"

    @property
    def hub(self) -> Path:
        """What HF_HUB_CACHE may point at."""
        return self.root / "hub"

    @property
    def own(self) -> Path:
        """Everything that is nobody else's business."""
        return self.root / ".warmtide"

    @property
    def trash(self) -> Path:
        """Renamed away, to be deleted."""
        return self.own / "trash"

    @property
    def sentinel(self) -> Path:
        """Proof that this root is a cache of ours."""
        return self.own / "sentinel"

    def tree(self, key: str) -> Path:
        """One published tree."""
        return self.models / key

    def staging(self, digest: str) -> Path:
        """Where one manifest's parts gather."""
        return self.own / "staging" / digest

    def failure(self, key: str) -> Path:
        """Why a model is not here."""
        return self.own / "failures" / f"{key}.json"

    def scrub(self, key: str) -> Path:
        """When its files were last read in whole."""
        return self.own / "scrub" / f"{key}.json"


def open_cache(root: Path, *, claim: bool | None = None, leases: Leases | None = None) -> Layout:
    """A cache at `root`, its folders made; refuses a root that is a symlink or belongs to the system.

    Nothing is ever deleted in a folder that is not claimed. `claim`: True takes it, whatever lies there; False never;
    None only takes a new or empty one.
    """
    _check_root(root)
    layout = Layout(root.absolute(), leases or Leases())
    folders = (layout.own / "staging", layout.trash, layout.own / "failures")
    try:
        claim = _is_new(layout) if claim is None else claim
        for folder in (layout.models, layout.hub):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for folder in (layout.own, *folders):
            folder.mkdir(mode=0o700, exist_ok=True)
        if claim and why_unclaimed(layout):
            text = json.dumps({"id": str(uuid.uuid4()), "fsid": os.statvfs(layout.root).f_fsid})
            fresh = layout.sentinel.with_suffix(".new")
            fresh.write_text(text + "\n", encoding="utf-8")
            fresh.rename(layout.sentinel)
    except OSError as exc:
        raise from_os(exc, f"cache root {root}: cannot be set up") from exc
    return layout


def look_at(root: Path, *, may_be_missing: bool = False) -> Layout:
    """The cache that is, or might be, in a folder; makes nothing, not even where nothing is yet."""
    _check_root(root)
    try:
        is_missing = not root.exists()
        if not root.is_dir() and not (is_missing and may_be_missing):
            raise InvalidRequestError(f"cache {root}: {'there is no such folder' if is_missing else 'not a folder'}")
    except OSError as exc:
        raise from_os(exc, f"cache {root}: cannot be read") from exc
    return Layout(root.absolute())


def _check_root(root: Path) -> None:
    if root.is_symlink():
        raise StorageError(f"cache root {root}: a symlink; name the folder that it leads to")
    if str(root.absolute()).rstrip("/") in FORBIDDEN_ROOTS:
        raise StorageError(f"cache root {root}: a folder of the system; name one of your own, below it")


def why_unclaimed(layout: Layout) -> str:
    """Why nothing may be deleted under this root; empty: it is ours, on the file system it was claimed on."""
    try:
        fsid = json.loads(layout.sentinel.read_text(encoding="utf-8"))["fsid"]
    except (OSError, ValueError, KeyError, TypeError):
        return "no readable sentinel"
    return "" if fsid == os.statvfs(layout.root).f_fsid else "another file system than the sentinel's"


def check_sentinel(layout: Layout) -> None:
    """Refuse to delete under a root that is not ours, or whose file system was mounted away."""
    if why := why_unclaimed(layout):
        raise StorageError(f"cache root {layout.root}: {why}, nothing is deleted here before --claim")


def discard(layout: Layout, path: Path) -> None:
    """Rename a folder away, then delete it: a reader sees all of it or none of it.

    Who has it mounted keeps it: it stays in the trash until nobody does.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return
    check_sentinel(layout)
    grave = layout.trash / f"{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        path.chmod(0o755)  # the owner must be able to write a folder to move it
        path.rename(grave)
        empty_trash(layout)
    except OSError as exc:
        raise from_os(exc, f"{path}: cannot be deleted") from exc


def empty_trash(layout: Layout) -> None:
    """Delete what was renamed away, now or before a crash, but for trees that a pod has mounted, or may have."""
    check_sentinel(layout)
    graves = list(layout.trash.iterdir())
    if not graves:
        return
    table = read_table(layout.leases.table)
    mounted, is_seen = mounted_names(table, layout.trash), layout.leases.are_seen(table)
    for grave in graves:
        if grave.name in mounted or (not is_seen and (grave / MANIFEST_NAME).exists()):
            continue
        remove_tree(grave)


def remove_tree(path: Path) -> None:
    """Delete a folder of ours with everything in it, whoever else is at it."""
    for attempt in range(1, REMOVALS_MAX + 1):
        try:
            for folder, _, _ in os.walk(path):
                os.chmod(folder, 0o700)  # published folders are 0555
            shutil.rmtree(path)
        except FileNotFoundError:  # a pass and a fetch both empty the trash: what one found the other had deleted
            if attempt == REMOVALS_MAX:
                raise
        if not path.exists():
            return


def _is_new(layout: Layout) -> bool:
    """Whether nothing lies there but what a first start that was cut off would leave."""
    if not layout.root.exists():
        return True
    known = {layout.models.name, layout.hub.name, layout.own.name, "lost+found"}
    if any(path.name not in known for path in layout.root.iterdir()):
        return False
    return not any(folder.is_dir() and any(folder.iterdir()) for folder in (layout.models, layout.hub))
