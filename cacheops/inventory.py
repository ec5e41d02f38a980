"""What a cache holds on disk: published trees, unfinished fetches, and what failed."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cacheops.errors import IntegrityMismatchError
from cacheops.layout import Layout
from cacheops.manifest_file import Published, read_published
from cacheops.prefetch import Failure, read_failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """An unfinished fetch."""

    digest: str
    disk_bytes: int
    touched_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything under one root."""

    trees: tuple[Published, ...]
    staged: tuple[Staged, ...]
    failures: tuple[Failure, ...]
    strangers: tuple[Path, ...]  # folders under models/ without a manifest of ours: never counted, never deleted


def contents(layout: Layout, *, may_be_new: bool = False) -> Contents:
    """Look at the disk; cheap enough for every pass. What a fetch moves or deletes meanwhile is seen or not seen.

    FileNotFoundError where the folders of a cache are missing, for its disk may be: only one that `may_be_new` is
    empty then.
    """
    trees, strangers = [], []
    for folder in _inside(layout.models, may_be_new):
        try:
            trees.append(read_published(folder))
        except IntegrityMismatchError:
            strangers.append(folder)
    failures = (read_failure(layout, path.stem) for path in sorted((layout.own / "failures").glob("*.json")))
    staged = (_staged(folder) for folder in _inside(layout.own / "staging", may_be_new))
    return Contents(
        trees=tuple(trees),
        staged=tuple(part for part in staged if part is not None),
        failures=tuple(failure for failure in failures if failure is not None),
        strangers=tuple(strangers),
    )


def _inside(folder: Path, may_be_new: bool) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        if not may_be_new:
            raise
        return []


def disk_bytes(folder: Path) -> int:
    """What a folder takes on disk; hard links count once."""
    blocks: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found = Path(place, name).lstat()
                blocks[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(blocks.values())


def _staged(folder: Path) -> Staged | None:
    """None: it was published this very moment."""
    for place in (folder / "journal", folder):
        with suppress(FileNotFoundError):
            touched_at_s = place.stat().st_mtime
            return Staged(digest=folder.name, disk_bytes=disk_bytes(folder), touched_at_s=touched_at_s)
    return None
