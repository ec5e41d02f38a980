"""Mend a published tree: only its bad files are fetched again, and nobody ever sees half of it."""

from collections.abc import Collection
from dataclasses import replace

from cacheops.download import RangeSource, Transfer, download
from cacheops.layout import Layout
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest
from cacheops.parts import part_name
from cacheops.prefetch import alone, check_room
from cacheops.publish import mend
from cacheops.scrub import mended


def missing(tree: Published, paths: Collection[str]) -> ModelManifest:
    """What of a tree must come again; its digest names the staging. Empty where files are merely too many."""
    return replace(tree.manifest, files=tuple(entry for entry in tree.manifest.files if entry.path in paths))


def heal(
    layout: Layout, tree: Published, part: ModelManifest, source: RangeSource, transfer: Transfer, *, now_s: float
) -> None:
    """Fetch `part` of a tree, verify it, and put the whole in its own place. Safe to repeat, safe to kill."""
    staging = layout.staging(part.digest)
    with alone(staging):
        check_room(staging, part)
        if part.files:
            download(part, source, staging, transfer)
        fresh = {entry.path: staging / "parts" / part_name(index) for index, entry in enumerate(part.files)}
        mend(layout, staging, tree, fresh)
    mended(layout, tree, now_s=now_s)
