"""What of a staged model is on disk, kept so that `kill -9` costs at most one chunk per open range.

One JSON line per 8 MiB chunk: `[file, start, reached, sha256 of bytes 0..reached or null]`. Nothing is synced while
bytes flow: the page cache outlives a killed process, and after a reboot only those bytes count whose prefix digest
still matches what is read back. A line torn by the crash is ignored.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from cacheops.errors import from_os

CHUNK_BYTES = 8 << 20  # lost at most per open range; small beside any model, large beside a line
JOURNAL_BYTES_MAX = 256 << 20  # a 16 TiB model writes about 200 MB of lines; more is not ours
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class FileRecord:
    """What the journal says of one file."""

    ranges: list[tuple[int, int]] = field(default_factory=list)
    prefixes: dict[int, str] = field(default_factory=dict)  # reached → sha256 of everything before it


class Journal:
    """An append-only record of one staging folder. One line is one write: threads need no lock."""

    def __init__(self, path: Path) -> None:
        self.files: dict[int, FileRecord] = {}
        self._boot: str | None = None
        self._read(path)
        self._take(json.dumps({"boot": _boot_id()}).encode())
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._append({"boot": _boot_id()}, before=b"\n")  # the line end closes a torn line

    def reached(self, file: int, start: int, stop: int, prefix: str | None) -> None:
        """Bytes `start..stop` of a file are written; `prefix` is the digest of everything before `stop`."""
        self._append([file, start, stop, prefix])

    def forget(self, file: int) -> None:
        """Start a file again from nothing."""
        self.files.pop(file, None)
        self._append([file, 0, 0, None])

    def _append(self, row: object, *, before: bytes = b"") -> None:
        try:
            os.write(self._fd, before + json.dumps(row).encode() + b"\n")
        except OSError as exc:
            raise from_os(exc, "journal") from exc

    def close(self) -> None:
        os.close(self._fd)

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        if path.stat().st_size > JOURNAL_BYTES_MAX:
            path.unlink()
            return
        with path.open("rb") as lines:
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            return
        match row:
            case {"boot": str(boot)}:
                if boot != self._boot:
                    self._rebooted()
                self._boot = boot
            case [int(file), 0, 0, None]:
                self.files.pop(file, None)
            case [int(file), int(start), int(stop), prefix] if 0 <= start < stop:
                record = self.files.setdefault(file, FileRecord())
                record.ranges.append((start, stop))
                if isinstance(prefix, str):
                    record.prefixes[stop] = prefix

    def _rebooted(self) -> None:
        """What was only in the page cache may be gone: keep what a prefix digest can prove."""
        for record in self.files.values():
            record.ranges = [(0, max(record.prefixes))] if record.prefixes else []


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
