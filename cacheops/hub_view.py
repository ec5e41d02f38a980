"""A Hugging Face view of published trees: `hub/models--org--name/snapshots/<commit>` by hard links.

With HF_HUB_CACHE at `<root>/hub` an engine finds the model by its hub name, offline, in the bytes of `models/<key>`.
"""

import os
import shutil
from pathlib import Path

from cacheops.errors import InvalidRequestError
from cacheops.layout import Layout, discard
from cacheops.manifest_file import Published
from cacheops.uri import Scheme, SourceUri, parse_uri

DEFAULT_REVISION = "main"


def publish_view(layout: Layout, published: Published) -> Path | None:
    """Link a tree into the hub cache under its commit and its branch; None for models of other sources."""
    if (uri := _hub_uri(published)) is None:
        return None
    repository = layout.hub / f"models--{uri.place.replace('/', '--')}"
    commit = published.manifest.resolved_revision
    snapshot = repository / "snapshots" / commit
    building = layout.own / "staging" / f"view-{published.manifest.storage_key}"
    shutil.rmtree(building, ignore_errors=True)
    for entry in published.manifest.files:
        place = building / entry.path
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.link(published.path / entry.path, place, follow_symlinks=False)
    (repository / "refs").mkdir(mode=0o755, parents=True, exist_ok=True)
    snapshot.parent.mkdir(mode=0o755, exist_ok=True)
    discard(layout, snapshot)
    building.rename(snapshot)
    if uri.revision != commit:
        _point(repository / "refs" / (uri.revision or DEFAULT_REVISION), commit)
    _drop_stale(layout, repository)
    return snapshot


def drop_view(layout: Layout, published: Published) -> None:
    """Remove the view of a tree that is about to go, before its bytes do."""
    if (uri := _hub_uri(published)) is not None:
        repository = layout.hub / f"models--{uri.place.replace('/', '--')}"
        _unpoint(repository, uri.revision or DEFAULT_REVISION, published.manifest.resolved_revision)
        _drop_stale(layout, repository, but=published.manifest.resolved_revision)


def _hub_uri(published: Published) -> SourceUri | None:
    try:
        uri = parse_uri(published.manifest.ref.uri)
    except InvalidRequestError:
        return None
    return uri if uri.scheme is Scheme.HF else None


def _point(ref: Path, commit: str) -> None:
    """A branch's commit, replaced in one rename."""
    ref.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = ref.with_name(f".{ref.name}.new")
    fresh.write_text(commit, encoding="ascii")
    fresh.rename(ref)


def _unpoint(repository: Path, revision: str, commit: str) -> None:
    ref = repository / "refs" / revision
    if ref.is_file() and ref.read_text(encoding="ascii", errors="replace") == commit:
        ref.unlink()


def _drop_stale(layout: Layout, repository: Path, *, but: str | None = None) -> None:
    """Snapshots whose files are linked nowhere else hold space that no inventory counts; `but` goes in any case."""
    snapshots = repository / "snapshots"
    if not snapshots.is_dir():
        return
    for snapshot in snapshots.iterdir():
        files = [path for path in snapshot.rglob("*") if path.is_file()]
        if snapshot.name == but or all(path.stat().st_nlink == 1 for path in files):
            discard(layout, snapshot)
