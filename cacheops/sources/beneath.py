"""Nothing outside of a folder is opened. Links that stay inside are followed where that is asked for.

The kernel's RESOLVE_BENEATH (openat2(2)) is out of Python's reach, so each name is opened by itself, relative to the
folder it was found in: who swaps a name for a link meanwhile gains nothing.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cacheops.errors import InvalidRequestError
from cacheops.guard import shown

LINKS_MAX = 40  # in one path, as the kernel has it (path_resolution(7))
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class OutsideError(InvalidRequestError):
    """A name that leads out of its folder."""


@dataclass(frozen=True, slots=True)
class Place:
    """What lies under a name."""

    path: str  # from the folder, every link resolved
    found: os.stat_result
    _fd: int

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.found.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.found.st_mode)

    @property
    def etag(self) -> str:
        """What stands for one where there is none: another size or time of change means other bytes."""
        return f"{self.found.st_size:x}-{self.found.st_mtime_ns:x}"

    def open(self) -> int:
        """A descriptor to read from; of a pipe, too, which nobody then waits for."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


@contextmanager
def beneath(folder: Path, path: str, *, follows_links: bool = False) -> Iterator[Place]:
    """What a path below a folder names, while it is looked at.

    OSError as the system says it, ELOOP for a link that is not followed; OutsideError.
    """
    walk = _Walk([os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)], [])
    try:
        walk.go(path, follows_links=follows_links)
        yield Place("/".join(walk.names), os.fstat(walk.fds[-1]), walk.fds[-1])
    finally:
        walk.close()


def open_beneath(folder: Path, path: str, *, follows_links: bool = False) -> int:
    """A descriptor to read a file below a folder from; errors as of `beneath`."""
    with beneath(folder, path, follows_links=follows_links) as place:
        return place.open()


@dataclass(slots=True)
class _Walk:
    """From a folder down to where we are: a descriptor for each step, and the name that led there."""

    fds: list[int]
    names: list[str]

    def go(self, path: str, *, follows_links: bool) -> None:
        todo, links = path.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part == "..":
                self._up(path)
            elif part not in ("", "."):
                self._down(part)
                if stat.S_ISLNK(os.fstat(self.fds[-1]).st_mode):
                    links += 1
                    if not follows_links or links > LINKS_MAX:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    todo += self._target(path).split("/")[::-1]
                    self._up(path)

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def _target(self, path: str) -> str:
        target = os.readlink("", dir_fd=self.fds[-1])
        if target.startswith("/"):
            raise OutsideError(f"{shown(path)}: a link on the way leads to {shown(target)}, an absolute path")
        return target

    def _down(self, part: str) -> None:
        self.fds.append(os.open(part, _LOOK, dir_fd=self.fds[-1]))
        self.names.append(part)

    def _up(self, path: str) -> None:
        if not self.names:
            raise OutsideError(f"{shown(path)}: leads out of the folder")
        os.close(self.fds.pop())
        self.names.pop()
