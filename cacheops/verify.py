"""Is a published tree still what its manifest says? A cheap look at start, a full read in the background.

The full read leaves the page cache as it found it: blocks that were not cached are dropped again, warm ones stay.
"""

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from cacheops.bandwidth import Bandwidth
from cacheops.digests import Digests
from cacheops.download import Transfer
from cacheops.errors import CanceledError
from cacheops.guard import MANIFEST_NAME, shown
from cacheops.manifest_file import Published, read_published
from cacheops.model import FileEntry
from cacheops.page_cache import read_leaving_no_trace

SCRUB_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one file."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.what}"


def quick(tree: Path) -> tuple[Published, list[str]]:
    """Manifest, names, kinds and sizes; what is wrong, one line per file. Reads no weights."""
    published = read_published(tree)
    return published, [str(fault) for fault in damage(published)]


def full(tree: Path, transfer: Transfer) -> list[str]:
    """Every byte against its digest, within the transfer's bandwidth and until its stop."""
    published = read_published(tree)
    faults = {fault.path: fault for fault in damage(published)}
    for entry in published.manifest.files:
        if entry.path not in faults and (what := file_fault(tree / entry.path, entry, transfer)):
            faults[entry.path] = Fault(entry.path, what)
    return [str(fault) for fault in faults.values()]


def damage(tree: Published) -> Iterator[Fault]:
    """What a cheap look finds: names, kinds and sizes."""
    wanted = {entry.path: entry for entry in tree.manifest.files}
    for entry in wanted.values():
        if what := _looks_wrong(tree.path, entry):
            yield Fault(entry.path, what)
    for name in _strangers(tree.path, wanted.keys()):
        yield Fault(name, "not in the manifest")


def file_fault(path: Path, entry: FileEntry, transfer: Transfer) -> str | None:
    """How a whole file differs from its digest, if it does; leaves no trace in the page cache."""
    digests = Digests(entry)
    buffer = memoryview(bytearray(min(SCRUB_BLOCK_BYTES, max(1, entry.size_bytes))))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        return f"cannot be opened: {exc.strerror}"
    try:
        position = 0
        while position < entry.size_bytes:
            if transfer.stop.is_set():
                raise CanceledError(f"{path}: verification was stopped at {position}")
            count = read_leaving_no_trace(fd, buffer, position)
            if count == 0:
                return f"ends at {position}"
            digests.update(buffer[:count])
            position += count
            _throttle(transfer.bandwidth, count, transfer)
    except OSError as exc:
        return f"cannot be read: {exc.strerror}"
    finally:
        os.close(fd)
    return digests.fault()


def _looks_wrong(tree: Path, entry: FileEntry) -> str | None:
    try:
        found = (tree / entry.path).lstat()
    except OSError as exc:
        return exc.strerror
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    return None if found.st_size == entry.size_bytes else f"{found.st_size} bytes, not {entry.size_bytes}"


def _strangers(tree: Path, wanted: Collection[str]) -> Iterator[str]:
    for folder, _, names in os.walk(tree):
        for name in names:
            path = str(Path(folder, name).relative_to(tree))
            if path not in wanted and path != MANIFEST_NAME:
                yield path


def _throttle(bandwidth: Bandwidth | None, count_bytes: int, transfer: Transfer) -> None:
    if bandwidth is not None and (wait_s := bandwidth.wait_s(count_bytes)):
        transfer.stop.wait(wait_s)
