"""One life of a part file on disk: what nobody reads again is written past the page cache, all else through it.

A node that fetches 100 GB must not push its engines' own files out of memory. And what goes past the cache is not
copied once more, dirties no pages that our memory limit counts, and leaves nothing for the last fsync to wait for.
open(2), O_DIRECT: position, length and memory must be aligned; ext4, XFS and NFS can, some overlays cannot.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path

ALIGN_BYTES = 4096  # the largest logical block among disks that are sold


def aligned_buffer(size_bytes: int) -> memoryview:
    """Memory that a disk takes without a copy."""
    return memoryview(mmap.mmap(-1, size_bytes))


class OpenPart:
    """An open file. Safe to use from any thread; closing is for when nobody writes any more."""

    def __init__(self, path: Path, how: int) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | how, 0o600)
        self._direct: int | None = None
        with suppress(OSError):  # a file system that cannot
            # The same file, whatever the path names by now.
            self._direct = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)

    def write(self, data: memoryview, position: int, *, is_read_again: bool) -> None:
        """All of the bytes; OSError as the system says it."""
        direct = None if is_read_again or (position | len(data)) % ALIGN_BYTES else self._direct
        while data:
            try:
                count = os.pwrite(self.fd if direct is None else direct, data, position)
            except OSError:
                if direct is None:
                    raise
                direct = None  # what it has against us it says again without the detour
                continue
            data, position = data[count:], position + count
            if len(data) % ALIGN_BYTES:
                direct = None

    def close(self) -> None:
        os.close(self.fd)
        if self._direct is not None:
            os.close(self._direct)
