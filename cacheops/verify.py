"""Is a published tree still what its manifest says? A cheap look at start, a full read in the background.

The full read leaves the page cache as it found it: blocks that were not cached are dropped again, warm ones stay.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from cacheops.bandwidth import Bandwidth
from cacheops.digests import Digests
from cacheops.download import Transfer
from cacheops.errors import CanceledError
from cacheops.guard import MANIFEST_NAME, shown
from cacheops.manifest_file import Published, read_published
from cacheops.model import FileEntry

SCRUB_BLOCK_BYTES = 4 << 20


def quick(tree: Path) -> tuple[Published, list[str]]:
    """Manifest, names, kinds and sizes; what is wrong, one line per file. Reads no weights."""
    published = read_published(tree)
    wanted = {entry.path: entry for entry in published.manifest.files}
    faults = [fault for entry in wanted.values() if (fault := _looks_wrong(tree, entry))]
    return published, faults + [f"{shown(name)}: not in the manifest" for name in _strangers(tree, wanted.keys())]


def full(tree: Path, transfer: Transfer) -> list[str]:
    """Every byte against its digest, within the transfer's bandwidth and until its stop."""
    published, faults = quick(tree)
    broken = {fault.split(": ", 1)[0] for fault in faults}
    buffer = memoryview(bytearray(SCRUB_BLOCK_BYTES))
    for entry in published.manifest.files:
        if shown(entry.path) in broken:
            continue
        if fault := _digest_fault(tree / entry.path, entry, buffer, transfer):
            faults.append(f"{shown(entry.path)}: {fault}")
    return faults


def _looks_wrong(tree: Path, entry: FileEntry) -> str | None:
    try:
        found = (tree / entry.path).lstat()
    except OSError as exc:
        return f"{shown(entry.path)}: {exc.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{shown(entry.path)}: not a regular file"
    if found.st_size != entry.size_bytes:
        return f"{shown(entry.path)}: {found.st_size} bytes, not {entry.size_bytes}"
    return None


def _strangers(tree: Path, wanted: Collection[str]) -> Iterator[str]:
    for folder, _, names in os.walk(tree):
        for name in names:
            path = str(Path(folder, name).relative_to(tree))
            if path not in wanted and path != MANIFEST_NAME:
                yield path


def _digest_fault(path: Path, entry: FileEntry, buffer: memoryview, transfer: Transfer) -> str | None:
    digests = Digests(entry)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead: it would look as if it had been warm
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


def read_leaving_no_trace(fd: int, buffer: memoryview, position: int) -> int:
    """A block; it stays in the page cache only if it was there."""
    try:
        if count := os.preadv(fd, [buffer], position, os.RWF_NOWAIT):
            return count
    except OSError as exc:
        if exc.errno not in {errno.EAGAIN, errno.EOPNOTSUPP}:
            raise
    count = os.preadv(fd, [buffer], position)
    os.posix_fadvise(fd, position, count, os.POSIX_FADV_DONTNEED)
    return count


def _throttle(bandwidth: Bandwidth | None, count_bytes: int, transfer: Transfer) -> None:
    if bandwidth is not None and (wait_s := bandwidth.wait_s(count_bytes)):
        transfer.stop.wait(wait_s)
