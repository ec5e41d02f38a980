"""Digests of a file as its bytes pass: always sha256, and whatever else its source vouches with."""

import hashlib
import zlib
from collections.abc import Callable
from typing import Protocol

from cacheops.model import Algorithm, FileEntry


class Running(Protocol):
    """A digest under way, as hashlib has them."""

    def update(self, data: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class Digests:
    """Running digests over the front of one file. All of them release the GIL: threads hash side by side."""

    def __init__(self, entry: FileEntry) -> None:
        self._entry = entry
        self._sha256 = hashlib.sha256()
        self._theirs: Running = _running(entry) or self._sha256

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the file."""
        self._sha256.update(data)
        if self._theirs is not self._sha256:
            self._theirs.update(data)

    def prefix(self) -> str:
        """sha256 of what has passed so far."""
        return self._sha256.copy().hexdigest()

    def fault(self) -> str | None:
        """How the whole file differs from what its source swore, if it does."""
        if self._entry.algorithm is Algorithm.NONE:
            return None
        found = self._theirs.hexdigest()
        if found == self._entry.digest:
            return None
        return f"{self._entry.algorithm} is {found}, {self._entry.digest} was promised"


class _Crc:
    """A checksum as a running digest."""

    def __init__(self, step: Callable[[memoryview, int], int], hex_digits: int) -> None:
        self._step = step
        self._hex_digits = hex_digits
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        self._value = self._step(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{self._hex_digits}x}"


def _running(entry: FileEntry) -> Running | None:
    """What the source vouches with beside sha256, begun."""
    match entry.algorithm:
        case Algorithm.GIT_SHA1:
            return hashlib.sha1(b"blob %d\0" % entry.size_bytes, usedforsecurity=False)
        case Algorithm.CRC32:
            return _Crc(zlib.crc32, 8)
        case Algorithm.CRC32C:
            from awscrt.checksums import crc32c  # 12 MB, needed for such buckets only

            return _Crc(crc32c, 8)  # type: ignore[arg-type]  # takes any buffer, hints say bytes
        case Algorithm.CRC64NVME:
            from awscrt.checksums import crc64nvme

            return _Crc(crc64nvme, 16)  # type: ignore[arg-type]  # takes any buffer, hints say bytes
        case Algorithm.SHA256 | Algorithm.NONE:
            return None
