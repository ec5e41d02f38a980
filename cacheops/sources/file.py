"""`file://` and `pvc://`: a folder that is mounted here. Regular files only; no symlink is followed below it."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from cacheops.errors import IntegrityMismatchError, InvalidRequestError, from_os
from cacheops.guard import FILES_MAX, MANIFEST_NAME, checked_files, shown
from cacheops.model import FileEntry, ModelManifest, ModelRef
from cacheops.transport import RangeStream
from cacheops.uri import Scheme, SourceUri

FOLDERS_MAX = FILES_MAX  # a tree of empty folders must end, too


def folder_of(uri: SourceUri, claims: Mapping[str, Path], *, local_files: bool) -> Path:
    """The folder that a URI means on this machine."""
    if uri.scheme is Scheme.FILE:
        if not local_files:
            raise InvalidRequestError(f"source file://{shown(uri.path)}: local files are not allowed here")
        return Path(uri.path)
    if uri.place not in claims:
        words = "the claim is not mounted here, and only who mounts it can read it"
        raise InvalidRequestError(f"source pvc://{uri.place}: {words}")
    base = claims[uri.place]
    if ".." in uri.path.split("/"):
        raise InvalidRequestError(f"source pvc://{uri.place}/{shown(uri.path)}: climbs out of the claim")
    folder = base / uri.path
    if folder.resolve() != base.resolve() / uri.path:
        raise InvalidRequestError(f"source pvc://{uri.place}/{shown(uri.path)}: a symlink on the way")
    return folder


class FolderSource:
    """Files of a folder. Their size and modification time stand for an ETag: trust on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def resolve(self, ref: ModelRef) -> ModelManifest:
        if not self._folder.is_dir():
            raise InvalidRequestError(f"source {ref.uri}: no such folder")
        files = checked_files(entry for entry in self._listed() if ref.wants(entry.path))
        manifest = ModelManifest(ref=ref, resolved_revision="", files=files)
        return ModelManifest(ref=ref, resolved_revision=manifest.digest, files=files)

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        try:
            fd = open_beneath(self._folder, entry.path)
        except OSError as exc:
            raise from_os(exc, f"source file {shown(entry.path)}") from exc
        if _etag(os.fstat(fd)) != entry.etag:
            os.close(fd)
            raise IntegrityMismatchError(f"source file {shown(entry.path)}: changed since it was listed")
        return FileStream(fd, start, stop)

    def close(self) -> None:
        """Nothing stays open."""

    def _listed(self) -> Iterator[FileEntry]:
        for count, (folder, folders, names) in enumerate(os.walk(self._folder)):
            if count > FOLDERS_MAX:
                raise InvalidRequestError(f"file list: more than {FOLDERS_MAX} folders")
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                found = path.lstat()
                if name == MANIFEST_NAME or not stat.S_ISREG(found.st_mode):
                    continue  # our own manifest of a published tree; links and devices are not model files
                yield FileEntry(path=str(path.relative_to(self._folder)), size_bytes=found.st_size, etag=_etag(found))


class FileStream:
    """A range of a local file."""

    def __init__(self, fd: int, start: int, stop: int) -> None:
        self.start = start
        self._fd = fd
        self._position = start
        self._stop = stop

    def readinto(self, buffer: memoryview) -> int:
        try:
            count = os.preadv(self._fd, [buffer[: self._stop - self._position]], self._position)
        except OSError as exc:
            raise from_os(exc, f"source file: read at {self._position}") from exc
        self._position += count
        return count

    def close(self) -> None:
        os.close(self._fd)


def _etag(found: os.stat_result) -> str:
    return f"{found.st_size:x}-{found.st_mtime_ns:x}"


def open_beneath(folder: Path, path: str) -> int:
    """Open a file below a folder without following any link on the way."""
    *parents, name = path.split("/")
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)
