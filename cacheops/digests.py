"""Digests of a file as its bytes pass: always sha256, and whatever else its source vouches with."""

import hashlib
import zlib

from cacheops.model import Algorithm, FileEntry


class Digests:
    """Running digests over the front of one file. OpenSSL and zlib release the GIL: threads hash side by side."""

    def __init__(self, entry: FileEntry) -> None:
        self._entry = entry
        self._sha256 = hashlib.sha256()
        self._git: hashlib._Hash | None = None
        self._crc: int | None = 0 if entry.algorithm is Algorithm.CRC32 else None
        if entry.algorithm is Algorithm.GIT_SHA1:
            self._git = hashlib.sha1(b"blob %d\0" % entry.size_bytes, usedforsecurity=False)

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the file."""
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)
        if self._crc is not None:
            self._crc = zlib.crc32(data, self._crc)

    def prefix(self) -> str:
        """sha256 of what has passed so far."""
        return self._sha256.copy().hexdigest()

    def fault(self) -> str | None:
        """How the whole file differs from what its source swore, if it does."""
        match self._entry.algorithm:
            case Algorithm.SHA256:
                found = self._sha256.hexdigest()
            case Algorithm.GIT_SHA1:
                found = self._git.hexdigest() if self._git is not None else ""
            case Algorithm.CRC32:
                found = f"{self._crc:08x}"
            case Algorithm.NONE:
                return None
        if found == self._entry.digest:
            return None
        return f"{self._entry.algorithm} is {found}, {self._entry.digest} was promised"
