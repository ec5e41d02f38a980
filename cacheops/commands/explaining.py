"""`warmtide cache prefetch --dry-run`: what a prefetch would do with a folder."""

import argparse
from collections import Counter
from contextlib import closing

from cacheops.commands.fetching import source_settings, wanted_ref
from cacheops.commands.folder import Shelved, shelved
from cacheops.commands.output import say, size
from cacheops.commands.steps import actions
from cacheops.layout import Layout, look_at
from cacheops.model import ModelManifest, Trust
from cacheops.prefetch import check_room, published_as
from cacheops.sources import open_source
from cacheops.stock import Action, Cause, Verb
from metrics.clock import WallClock

FILES_SHOWN = 50


def explain(options: argparse.Namespace) -> int:
    """What a prefetch would do, file by file. Writes nothing, also where it fails."""
    clock, ref = WallClock(), wanted_ref(options)
    layout = look_at(options.root, may_be_missing=True)
    with closing(open_source(ref.uri, source_settings(options), clock)) as source:
        _explain(layout, source.resolve(ref))
    return 0


def _explain(layout: Layout, manifest: ModelManifest) -> None:
    trusted = Counter(entry.trust for entry in manifest.files)
    rests_on = ", ".join(f"{trusted[trust]} by {trust}" for trust in Trust if trusted[trust])
    say(f"{manifest.ref.uri} at {manifest.resolved_revision}: {len(manifest.files)} files, {size(manifest.bytes)}")
    say(f"digest {manifest.digest}; files are trusted {rests_on}")
    for entry in manifest.files[:FILES_SHOWN]:
        say(f"  {entry.size_bytes:>14} {entry.algorithm:<9} {entry.path}")
    if len(manifest.files) > FILES_SHOWN:
        say(f"  and {len(manifest.files) - FILES_SHOWN} more")
    if published_as(layout, manifest):
        say(f"already published at {layout.tree(manifest.storage_key)}")
        return
    check_room(layout.staging(manifest.digest), manifest)
    actions([_fetch(shelved(layout), manifest)], lambda _key: manifest.ref.uri)
    say(f"would be published at {layout.tree(manifest.storage_key)}")


def _fetch(seen: Shelved, manifest: ModelManifest) -> Action:
    """What bringing it means for this folder, which has the room."""
    staged_bytes = sum(part.disk_bytes for part in seen.held.staged if part.digest == manifest.digest)
    cause = Cause.REVISION_CHANGED if manifest.storage_key in seen.by_key else Cause.WANTED
    return Action(
        verb=Verb.FETCH,
        key=manifest.storage_key,
        digest=manifest.digest,
        grows_bytes=max(0, manifest.bytes - staged_bytes),
        cause=Cause.RESUMES if staged_bytes else cause,
        detail=f"{size(staged_bytes)} are staged already" if staged_bytes else "asked for by hand",
    )
