"""Which file names a source may give us. Every source's list goes through `checked_files`, and nothing else does.

A hub, a bucket and a checksum file are untrusted text: a name that climbs out, hides, collides or explodes refuses
the whole model, before a byte is written. Part files are numbered, so names meet the disk only in `publish`.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

from cacheops.errors import InvalidRequestError
from cacheops.model import FileEntry

FILES_MAX = 20_000  # the largest model repositories hold some thousand files; a listing stops here, not at its end
PATH_BYTES_MAX = 1024  # below PATH_MAX (4,096) with any root before it
NAME_BYTES_MAX = 255  # NAME_MAX of every Linux file system
DEPTH_MAX = 32
MODEL_BYTES_MAX = 1 << 44  # 16 TiB: past any model; a listed size beyond it is a lie that would starve the node
MANIFEST_NAME = ".manifest.json"  # ours; a source may not bring its own

_DRIVE = re.compile(r"^[A-Za-z]:")


def checked_files(entries: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """The files of a model, or InvalidRequestError naming the first entry that no tree of ours may hold."""
    files: list[FileEntry] = []
    names = _Names()
    total_bytes = 0
    for entry in islice(entries, FILES_MAX + 1):
        if len(files) == FILES_MAX:
            raise InvalidRequestError(f"file list: more than {FILES_MAX} files")
        if what := _fault(entry.path) or names.clash(entry.path):
            raise InvalidRequestError(f"file list: {shown(entry.path)}: {what}")
        total_bytes += entry.size_bytes
        if total_bytes > MODEL_BYTES_MAX:
            raise InvalidRequestError(f"file list: {shown(entry.path)}: the model exceeds {MODEL_BYTES_MAX} bytes")
        files.append(entry)
    if not files:
        raise InvalidRequestError("file list: no file matches what is wanted")
    return tuple(files)


def shown(path: str) -> str:
    """A name fit for a message: escaped and cut."""
    return ascii(path[:120]) + ("…" if len(path) > 120 else "")


def text_of(name: str, data: bytes | bytearray, limit_bytes: int) -> str:
    """A list that a source gave; InvalidRequestError names it where it is larger, or no text."""
    if len(data) > limit_bytes:
        raise InvalidRequestError(f"{name}: a list of more than {limit_bytes} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequestError(f"{name}: a list that is not UTF-8") from exc


def _fault(path: str) -> str | None:
    """What is wrong with one name, if anything."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "not UTF-8"
    if size > PATH_BYTES_MAX:
        return f"{size} bytes long, {PATH_BYTES_MAX} are allowed"
    if path.startswith("/") or _DRIVE.match(path):
        return "an absolute path"
    if "\\" in path:
        return "a backslash"
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for char in path):
        return "a control or format character"
    parts = path.split("/")
    if len(parts) > DEPTH_MAX:
        return f"{len(parts)} levels deep, {DEPTH_MAX} are allowed"
    return next((fault for part in parts if (fault := _part_fault(part))), None)


def _part_fault(part: str) -> str | None:
    if part in {"", ".", ".."}:
        return f"a path component {part!r}"
    if part != part.strip():
        return "a component with white space at its edge"
    if part.casefold() == MANIFEST_NAME:
        return f"the name {MANIFEST_NAME} is taken"
    return f"a component longer than {NAME_BYTES_MAX} bytes" if len(part.encode()) > NAME_BYTES_MAX else None


class _Names:
    """Names that would be one file on some disk: other case, other Unicode form, file here and folder there."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: dict[str, str] = {}

    def clash(self, path: str) -> str | None:
        folded = unicodedata.normalize("NFKC", path).casefold()
        if folded in self._files:
            return "collides with another name (but for case or Unicode form)"
        if folded in self._folders:
            return "is a file and a folder"
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            key = unicodedata.normalize("NFKC", folder).casefold()
            if key in self._files:
                return "is a file and a folder"
            if self._folders.setdefault(key, folder) != folder:
                return "collides with another folder (but for case or Unicode form)"
        self._files.add(folded)
        return None
