"""`file://` and `pvc://`: files of a folder that is mounted here, such as a share that many nodes read.

Digests come from what lies beside the files: `.manifest.json` of a tree that we published, `SHA256SUMS`, what the
hub's client leaves in its cache and beside a download. The first two are the list of files, too. A file without any
is trusted on first use; its size and modification time stand for an ETag.
"""

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from cacheops.errors import IntegrityMismatchError, InvalidRequestError
from cacheops.guard import MANIFEST_NAME, checked_files, shown
from cacheops.manifest_file import MANIFEST_BYTES_MAX, decode
from cacheops.model import FileEntry, ModelManifest, ModelRef
from cacheops.sources.beneath import Place
from cacheops.sources.folder import Folder, refused
from cacheops.sources.sums import (
    HUB_RECORD,
    HUB_RECORD_BYTES_MAX,
    SUMS_BYTES_MAX,
    SUMS_NAME,
    Sum,
    sum_of_blob,
    sum_of_record,
    sums_of,
)
from cacheops.transport import RangeStream

REVISION_BYTES_MAX = 256
_MAIN = "main"  # the hub's name of a repository's default branch
_OURS = '"sourceDigest"'  # in no other program's `.manifest.json`

Listed = tuple[str, Sum, int | None]  # path, digest, and the size where the list tells it


class FolderSource:
    """A model in a folder."""

    def __init__(self, folder: Folder, *, revision: str | None = None) -> None:
        """`revision`: what somebody resolved it to before, who keeps the manifest."""
        self._top = self._folder = folder
        self._entered: str | None = None
        self._revision = revision

    def resolve(self, ref: ModelRef) -> ModelManifest:
        try:
            commit = self._enter(ref.revision)
            files = self._files(ref)
        except OSError as exc:
            raise refused(exc, f"source {ref.uri}") from exc
        manifest = ModelManifest(ref=ref, resolved_revision=commit, files=files)
        return manifest if commit else ModelManifest(ref=ref, resolved_revision=manifest.digest, files=files)

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        what = f"source file {shown(entry.path)}"
        try:
            if self._entered is None:
                self._enter(self._revision)
            with self._folder.look(entry.path) as place:
                # What has a digest is judged by it: a file that was merely touched is still itself.
                is_same = place.found.st_size == entry.size_bytes and (_is_vouched(entry) or place.etag == entry.etag)
                if not (place.is_file and is_same):
                    raise IntegrityMismatchError(f"{what}: changed since it was listed")
                return FileStream(place.open(), start, stop)
        except FileNotFoundError as exc:
            raise IntegrityMismatchError(f"{what}: is gone since it was listed") from exc
        except OSError as exc:
            raise refused(exc, what) from exc

    def close(self) -> None:
        """Nothing stays open."""

    def _enter(self, revision: str | None) -> str:
        """In a repository of the hub's cache go to the commit that is asked for; empty: this is none."""
        commit = _commit_of(self._top, revision or _MAIN)
        self._folder = self._top.inner(f"snapshots/{commit}") if commit else self._top
        self._entered = commit
        return commit

    def _files(self, ref: ModelRef) -> tuple[FileEntry, ...]:
        with self._folder.look("") as place:
            if not place.is_folder:
                raise InvalidRequestError(f"source {ref.uri}: no folder")
        listed = self._listed()
        if listed is None:
            return checked_files(self._found(ref))
        # Names are judged before any is looked up: a hostile list learns nothing of what there is.
        wanted = [each for each in listed if ref.wants(each[0])]
        checked_files(_entry(path, 0, digest, None) for path, digest, _size_bytes in wanted)
        return checked_files(self._sized(wanted))

    def _listed(self) -> list[Listed] | None:
        """What lists the files with their digests; None: nothing does."""
        manifest = self._folder.text(MANIFEST_NAME, MANIFEST_BYTES_MAX)
        if manifest is not None and _OURS in manifest:
            files = decode(manifest.encode(), Path(), name=MANIFEST_NAME).manifest.files
            return [
                (entry.path, Sum(entry.algorithm, entry.digest), entry.size_bytes) for entry in files if entry.digest
            ]
        sums = self._folder.text(SUMS_NAME, SUMS_BYTES_MAX)
        return None if sums is None else [(path, digest, None) for path, digest in sums_of(sums)]

    def _sized(self, listed: Iterable[Listed]) -> Iterator[FileEntry]:
        for path, digest, size_bytes in listed:
            try:
                with self._folder.look(path) as place:
                    entry, is_file = _entry(path, place.found.st_size, digest, place.etag), place.is_file
            except FileNotFoundError as exc:
                raise IntegrityMismatchError(f"source file {shown(path)}: is listed, and not there") from exc
            if not is_file or size_bytes not in (None, entry.size_bytes):
                words = f"{entry.size_bytes} bytes, {size_bytes} are listed" if is_file else "is listed, and no file"
                raise IntegrityMismatchError(f"source file {shown(path)}: {words}")
            yield entry

    def _found(self, ref: ModelRef) -> Iterator[FileEntry]:
        """What lies there, in want of a list."""

        def is_ignored(path: str) -> bool:
            return any(fnmatchcase(path, pattern) for pattern in ref.ignore)

        for path, place in self._folder.files(is_ignored):
            if ref.wants(path) and path != MANIFEST_NAME:
                yield _entry(path, place.found.st_size, self._vouched(path, place), place.etag)

    def _vouched(self, path: str, place: Place) -> Sum | None:
        """By what the hub's client left."""
        if found := sum_of_blob(place.path):
            return found
        record = self._folder.text(HUB_RECORD.format(path=path), HUB_RECORD_BYTES_MAX)
        return None if record is None else sum_of_record(record, modified_at_s=place.found.st_mtime)


def _commit_of(repository: Folder, revision: str) -> str:
    """By a branch, a tag or itself; empty: this is no repository of the hub's cache."""
    if not (repository.has_folder("snapshots") and repository.has_folder("refs")):
        return ""
    what = f"revision {shown(revision)} of {shown(repository.path)}"
    if ".." in revision.split("/"):
        raise InvalidRequestError(f"{what}: climbs")
    commit = (repository.text(f"refs/{revision}", REVISION_BYTES_MAX) or revision).strip()
    if "/" in commit or not repository.has_folder(f"snapshots/{commit}"):
        raise InvalidRequestError(f"{what}: is not in this cache of the hub")
    return commit


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
            raise refused(exc, f"source file: read at {self._position}") from exc
        self._position += count
        return count

    def close(self) -> None:
        os.close(self._fd)


def _entry(path: str, size_bytes: int, digest: Sum | None, etag: str | None) -> FileEntry:
    if digest is None:
        return FileEntry(path=path, size_bytes=size_bytes, etag=etag)
    return FileEntry(path=path, size_bytes=size_bytes, algorithm=digest.algorithm, digest=digest.digest, etag=etag)


def _is_vouched(entry: FileEntry) -> bool:
    return entry.sworn and not entry.first_use
