"""Published trees are read again now and then, within a budget; what is wrong is written down until it is mended.

Bits rot on disks, and whoever is root on a node can write to any file. A tree's record belongs to this publication
of it: a tree that was fetched anew starts afresh, for its bytes were checked as they came.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from cacheops.download import Transfer
from cacheops.errors import CacheError, from_os
from cacheops.layout import Layout
from cacheops.manifest_file import Published, read_published
from cacheops.verify import damage, file_fault

PERIOD_S = 7 * 86_400.0  # each file once a week: disks tell of a sector that went bad once a year or so
BYTES_PER_S = 50e6  # a tenth of a slow NVMe disk
RECORD_BYTES_MAX = 16 << 20  # 20,000 files with names of 500 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of one publication of a tree."""

    digest: str
    published_at_s: float
    read_at_s: Mapping[str, float] = field(default_factory=dict)  # by path
    faults: Mapping[str, str] = field(default_factory=dict)  # path → what is wrong

    def due_at_s(self, path: str) -> float:
        """When a file is to be read again."""
        return self.read_at_s.get(path, self.published_at_s) + PERIOD_S


def record_of(layout: Layout, tree: Published) -> Record:
    """What was written down about a tree, or nothing yet."""
    fresh = Record(digest=tree.manifest.digest, published_at_s=tree.published_at_s)
    try:
        with layout.scrub(tree.path.name).open("rb") as file:
            found = Record(**json.loads(file.read(RECORD_BYTES_MAX)))
    except (OSError, ValueError, TypeError):
        return fresh
    return found if (found.digest, found.published_at_s) == (fresh.digest, fresh.published_at_s) else fresh


def keep(layout: Layout, key: str, record: Record) -> None:
    """Write a record down, whole or not at all."""
    path = layout.scrub(key)
    body = {name: getattr(record, name) for name in Record.__dataclass_fields__}
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fresh.write_text(json.dumps(body) + "\n", encoding="utf-8")
        fresh.rename(path)
    except OSError as exc:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise from_os(exc, f"record of {key}") from exc


def next_due(trees: Iterable[tuple[Published, Record]], now_s: float) -> Published | None:
    """The tree whose most overdue file is due for longest; one with faults is not read again before it is mended."""
    due = [
        (min(record.due_at_s(entry.path) for entry in tree.manifest.files), tree.path.name, tree)
        for tree, record in trees
        if not record.faults
    ]
    at_s, _key, tree = min(due, key=lambda row: row[:2], default=(float("inf"), "", None))
    return tree if at_s <= now_s else None


def look(layout: Layout, tree: Published) -> Record:
    """What a cheap look finds is added to what is known."""
    record = record_of(layout, tree)
    faults = {fault.path: fault.what for fault in damage(tree)}
    if faults and faults != record.faults:
        record = replace(record, faults={**record.faults, **faults})
        keep(layout, tree.path.name, record)
    return record


def scrub(layout: Layout, tree: Published, transfer: Transfer, *, now_s: float) -> Record:
    """Read the files that are due, within the transfer's bandwidth and until its stop; the first fault ends it."""
    record = look(layout, tree)
    for entry in sorted(tree.manifest.files, key=lambda entry: record.due_at_s(entry.path)):
        if record.faults or record.due_at_s(entry.path) > now_s:
            break
        what = file_fault(tree.path / entry.path, entry, transfer)
        if what and not _is_there(tree):
            break  # it was evicted or replaced while we read
        faults = {entry.path: what} if what else {}
        record = replace(record, read_at_s={**record.read_at_s, entry.path: now_s}, faults=faults)
        keep(layout, tree.path.name, record)
    return record


def mended(layout: Layout, tree: Published, *, now_s: float) -> None:
    """Nothing is wrong any more: what was bad came anew, and was checked."""
    record = record_of(layout, tree)
    read_at_s = {**record.read_at_s, **dict.fromkeys(record.faults, now_s)}
    keep(layout, tree.path.name, replace(record, faults={}, read_at_s=read_at_s))


def forget(layout: Layout, key: str) -> None:
    """The tree is gone."""
    with suppress(OSError):
        os.unlink(layout.scrub(key))


def _is_there(tree: Published) -> bool:
    try:
        return read_published(tree.path) == tree
    except CacheError:
        return False
