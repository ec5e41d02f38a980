"""Read files without a trace in the page cache: what was not there is dropped again, what was there stays.

Checking or giving away 100 GB must not push a running engine's own files out of memory.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator

_PROT_NONE, _MAP_SHARED = 0, 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_FAILED = ctypes.c_void_p(-1).value


def read_leaving_no_trace(fd: int, buffer: memoryview, position: int) -> int:
    """A block into the buffer; of its pages only those stay cached that were. 0 at the end of the file."""
    try:
        if count := os.preadv(fd, [buffer], position, os.RWF_NOWAIT):
            return count
    except OSError as exc:
        if exc.errno not in {errno.EAGAIN, errno.EOPNOTSUPP}:
            raise
    absent = absent_ranges(fd, position, len(buffer))
    os.posix_fadvise(fd, position, len(buffer), os.POSIX_FADV_RANDOM)  # read-ahead would bring pages nobody counts
    count = os.preadv(fd, [buffer], position)
    for start, stop in absent:
        os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_DONTNEED)
    return count


def absent_ranges(fd: int, position: int, size: int) -> list[tuple[int, int]]:
    """Stretches of whole pages that are not cached now, as far as the kernel tells: the owner of a file it does."""
    return list(_absent(fd, position, size))


def _absent(fd: int, position: int, size: int) -> Iterator[tuple[int, int]]:
    first = position - position % mmap.PAGESIZE
    pages = -(-(position + size - first) // mmap.PAGESIZE)
    residence = _residence(fd, first, pages)
    start = None
    for page in range(pages + 1):
        is_absent = page < pages and not residence[page] & 1
        if is_absent and start is None:
            start = page
        elif not is_absent and start is not None:
            yield first + start * mmap.PAGESIZE, first + page * mmap.PAGESIZE
            start = None


def _residence(fd: int, first: int, pages: int) -> bytes:
    """One byte per page, bit 0: cached. All absent where that cannot be seen: rather too little kept than too much."""
    size = pages * mmap.PAGESIZE
    address = _libc.mmap(None, size, _PROT_NONE, _MAP_SHARED, fd, first)
    if address == _FAILED:
        return bytes(pages)
    try:
        found = ctypes.create_string_buffer(pages)
        return found.raw if _libc.mincore(address, size, found) == 0 else bytes(pages)
    finally:
        _libc.munmap(address, size)
