"""A folder on this machine as sources read it: by names below it, out of which no link leads."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cacheops.errors import (
    AccessDeniedError,
    CacheError,
    InvalidRequestError,
    SourceUnavailableError,
)
from cacheops.guard import DEPTH_MAX, FILES_MAX, shown, text_of
from cacheops.sources.beneath import Place, beneath
from cacheops.uri import Scheme, SourceUri

COMPONENT = "manifests/components/claims"
NAMES_MAX = 10 * FILES_MAX  # looked at in a folder, wanted or not: a listing must end
_GONE = (FileNotFoundError, NotADirectoryError)
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_LOST_AND_FOUND = "lost+found"  # only root may look into it


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """`path` below `root`. Where links are followed, they may lead anywhere below `root`."""

    root: Path
    path: str = ""
    follows_links: bool = False

    def inner(self, path: str) -> "Folder":
        """A folder in it."""
        return replace(self, path=f"{self.path}/{path}")

    def look(self, path: str) -> AbstractContextManager[Place]:
        """What lies under a name; errors as of `beneath`."""
        return beneath(self.root, f"{self.path}/{path}", follows_links=self.follows_links)

    def has_folder(self, path: str) -> bool:
        """Whether a name is that of a folder."""
        try:
            with self.look(path) as place:
                return place.is_folder
        except _GONE:
            return False

    def text(self, path: str, limit_bytes: int) -> str | None:
        """A small file; None: there is none. InvalidRequestError: it is larger, or no text."""
        try:
            with self.look(path) as place:
                if not place.is_file:
                    return None
                with open(place.open(), "rb") as file:
                    text = file.read(limit_bytes + 1)
        except _GONE:
            return None
        return text_of(shown(path), text, limit_bytes)

    def files(self, is_ignored: Callable[[str], bool]) -> Iterator[tuple[str, Place]]:
        """Regular files below, each while it is looked at.

        Folders whose names begin with a dot hold nobody's model: file servers keep snapshots of everything in such
        ones, and clients their notes.
        """
        waiting, left = [""], NAMES_MAX
        while waiting:
            here = waiting.pop()
            paths = [f"{here}/{name}" if here else name for name in self._names(here)]
            left -= len(paths)
            if left < 0 or here.count("/") >= DEPTH_MAX:
                words = f"more than {NAMES_MAX} names or {DEPTH_MAX} levels; name the folder of one model"
                raise InvalidRequestError(f"file list: {words}")
            for path in paths:
                if is_ignored(path):
                    continue
                with self._looked(path) as place:
                    if place is not None and place.is_file:
                        yield path, place
                    elif place is not None and place.is_folder and not _is_private(path):
                        waiting.append(path)

    @contextmanager
    def _looked(self, path: str) -> Iterator[Place | None]:
        """None: a link, where none is followed; one into nowhere may have been one to weights."""
        with ExitStack() as stack:
            try:
                place = stack.enter_context(self.look(path))
            except OSError as exc:
                if self.follows_links:
                    raise refused(exc, f"source file {shown(path)}") from exc
                place = None
            yield place

    def _names(self, path: str) -> list[str]:
        with self.look(path) as place:
            fd = place.open()
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)


def folder_of(uri: SourceUri, claims: Path, *, local_files: bool) -> Folder:
    """The folder that a URI means on this machine; `claims` is where claims are mounted, each under its name."""
    if uri.scheme is Scheme.FILE:
        if not local_files:
            raise InvalidRequestError(f"source file://{shown(uri.path)}: local files are not allowed here")
        return Folder(root=Path(uri.path))
    name = f"source pvc://{uri.place}"
    if ".." in uri.path.split("/"):
        raise InvalidRequestError(f"{name}/{shown(uri.path)}: climbs out of the claim")
    if not (claims / uri.place).is_dir():
        # Retried as what is away, not as what is wrong: a node's agent may get the mount minutes after its order.
        words = f"claim {uri.place} is not mounted at {claims / uri.place} here"
        raise SourceUnavailableError(f"{name}: {words}: --claims, and {COMPONENT} in a cluster")
    return Folder(root=claims / uri.place, path=uri.path, follows_links=True)


def _is_private(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(".") or name == _LOST_AND_FOUND


def refused(exc: OSError, what: str) -> CacheError:
    """The class of what a source's file system says, which is not our own disk."""
    text = f"{what}: {exc.strerror or exc}"
    if isinstance(exc, _GONE):
        return InvalidRequestError(text)
    if exc.errno in _DENIED:
        return AccessDeniedError(f"{text}: user {os.geteuid()} may not read it")
    if exc.errno == errno.ELOOP:
        return InvalidRequestError(f"{text}: a link on the way")
    return SourceUnavailableError(text)  # a file server that is away, or gave its files new handles: ESTALE, EIO
