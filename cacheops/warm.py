"""Read a published tree into the page cache, minutes before a replica does; never at the cost of what runs."""

import os
from collections.abc import Callable
from pathlib import Path

from cacheops.bandwidth import Bandwidth
from cacheops.download import Transfer
from cacheops.errors import from_os
from cacheops.manifest_file import Published

BLOCK_BYTES = 8 << 20
AVAILABLE_RATIO = 0.20  # of memory that must stay available: below, the kernel starts to reclaim from its neighbours
_MEMINFO = Path("/proc/meminfo")


def warm(published: Published, transfer: Transfer, *, may_go_on: Callable[[], bool] | None = None) -> int:
    """Read files in order, the largest first; returns the bytes read. Ends early when stopped or short of memory."""
    go_on = may_go_on or has_memory
    done_bytes = 0
    for entry in sorted(published.manifest.files, key=lambda entry: -entry.size_bytes):
        read_bytes = _read(published.path / entry.path, transfer, go_on)
        done_bytes += read_bytes
        if read_bytes < entry.size_bytes:
            break
    return done_bytes


def has_memory(meminfo: Path = _MEMINFO) -> bool:
    """Whether enough memory is available to fill more of it with files."""
    figures = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
    total, available = (int(figures[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return available >= total * AVAILABLE_RATIO


def _read(path: Path, transfer: Transfer, go_on: Callable[[], bool]) -> int:
    buffer = memoryview(bytearray(BLOCK_BYTES))
    done_bytes = 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while not transfer.stop.is_set() and go_on() and (count := os.preadv(fd, [buffer], done_bytes)):
                done_bytes += count
                _pause(transfer.bandwidth, count, transfer)
        finally:
            os.close(fd)
    except OSError as exc:
        raise from_os(exc, f"reading {path} into the page cache") from exc
    return done_bytes


def _pause(bandwidth: Bandwidth | None, count_bytes: int, transfer: Transfer) -> None:
    if bandwidth is not None and (wait_s := bandwidth.wait_s(count_bytes)):
        transfer.stop.wait(wait_s)
