"""One file on its way: its part file, which ranges are there, and the digest that follows behind them.

Ranges may finish in any order; digests need the bytes in theirs. Whoever fetches the range at the frontier hashes
while the bytes are still in the CPU's cache; a range that came early is read back when the frontier reaches it.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from cacheops.digests import Digests
from cacheops.errors import IntegrityMismatchError, from_os
from cacheops.journal import Journal
from cacheops.model import FileEntry
from cacheops.open_part import OpenPart

RANGE_BYTES = 64 << 20  # one request each: rare enough to cost nothing, small enough to share a file among workers


@dataclass(frozen=True, slots=True)
class PartStore:
    """Where the parts of one model gather."""

    folder: Path
    journal: Journal
    range_bytes: int = RANGE_BYTES


@dataclass(slots=True, eq=False)
class Range:
    """A stretch of a file that one worker fetches; it belongs to one life of the part file."""

    start: int
    stop: int
    disk: OpenPart
    reached: int
    digests: Digests | None = None  # held while this range is fetched at the frontier


class PartFile:
    """State of one file; every method is safe to call from any worker."""

    def __init__(self, index: int, entry: FileEntry, store: PartStore) -> None:
        self.entry = entry
        self.index = index
        self.path = store.folder / part_name(index)
        self.kept_bytes = 0  # there before this session
        self.fetched_bytes = 0
        self.sha256: str | None = None
        self._lives: list[OpenPart] = []  # the last one counts; a late writer may still hold an earlier one
        self._journal = store.journal
        self._range_bytes = store.range_bytes
        self._lock = threading.Lock()
        self._unclaimed: list[Range] = []  # last first
        self._early: dict[int, int] = {}  # fetched beyond the frontier: start → stop
        self._frontier = 0
        self._digests: Digests | None = Digests(entry)  # None while somebody hashes

    def open(self, buffer: memoryview) -> None:
        """Make or take up the part file: what an earlier session left counts as far as it can be proven."""
        try:
            _make_writable(self.path)
            self._open(os.O_CREAT)
            if os.fstat(self._fd).st_size != self.entry.size_bytes:
                self._journal.forget(self.index)
                os.ftruncate(self._fd, 0)
            self._reserve()
            self._resume(buffer)
        except OSError as exc:
            raise from_os(exc, f"{self.entry.path}: part file {self.path.name}") from exc

    @property
    def unclaimed_bytes(self) -> int:
        return sum(piece.stop - piece.start for piece in self._unclaimed)

    def claim(self) -> Range | None:
        """The next range that nobody fetches; at the frontier it comes with the digests."""
        with self._lock:
            if not self._unclaimed:
                return None
            piece = self._unclaimed.pop()
            if piece.start == self._frontier and self._digests is not None:
                piece.digests, self._digests = self._digests, None
            return piece

    def is_current(self, piece: Range) -> bool:
        """Whether a range still belongs to the file, or the file was started again."""
        return piece.disk is self._lives[-1]

    def write(self, piece: Range, data: memoryview) -> None:
        """The next bytes of a range to disk, and through the digests when it is at the frontier."""
        try:
            piece.disk.write(data, piece.reached, is_read_again=piece.digests is None)
        except OSError as exc:
            raise from_os(exc, f"{self.entry.path}: write at {piece.reached}") from exc
        if piece.digests is not None:
            piece.digests.update(data)
        piece.reached += len(data)

    def note(self, piece: Range, start: int) -> None:
        """A range is written from `start` to where it is."""
        with self._lock:
            if self.is_current(piece) and piece.reached > start:
                self.fetched_bytes += piece.reached - start
                prefix = piece.digests.prefix() if piece.digests else None
                self._journal.reached(self.index, start, piece.reached, prefix)

    def done(self, piece: Range) -> None:
        """A range is whole."""
        with self._lock:
            if not self.is_current(piece):
                return
            if piece.digests is not None:
                self._digests, self._frontier = piece.digests, piece.stop
            else:
                self._early[piece.start] = piece.stop

    def settle(self, buffer: memoryview) -> None:
        """Follow with the digest as far as bytes are there; judge and protect the file once it is whole."""
        while True:
            with self._lock:
                stop = self._early.pop(self._frontier, None) if self._digests is not None else None
                if stop is None:
                    break
                start, life = self._frontier, self._lives[-1]
                digests, self._digests = self._digests, None
            assert digests is not None
            self._read_back(digests, start, stop, buffer)
            with self._lock:
                if life is self._lives[-1]:
                    self._digests, self._frontier = digests, stop
        with self._lock:
            if self._frontier < self.entry.size_bytes or self._digests is None or self.sha256 is not None:
                return
            digests, self._digests = self._digests, None
        self._seal(digests)

    def restart(self, *, whole: bool) -> None:
        """Forget every byte; `whole`: as one range, for a source that cannot do ranges."""
        with self._lock:
            self._journal.forget(self.index)
            try:
                self.path.unlink(missing_ok=True)
                self._open(os.O_CREAT | os.O_EXCL)  # a late writer of the old life cannot touch the new file
                self._reserve()
            except OSError as exc:
                raise from_os(exc, f"{self.entry.path}: part file {self.path.name}") from exc
            self._early.clear()
            self.kept_bytes = self.fetched_bytes = self._frontier = 0
            self._digests = Digests(self.entry)
            self._unclaimed = self._pieces(
                0, self.entry.size_bytes, self.entry.size_bytes if whole else self._range_bytes
            )

    def close(self) -> None:
        while self._lives:
            self._lives.pop().close()

    def _open(self, how: int) -> None:
        self._lives.append(OpenPart(self.path, how))

    @property
    def _fd(self) -> int:
        return self._lives[-1].fd

    def _reserve(self) -> None:
        """A full disk says so now, not at 90 %."""
        if self.entry.size_bytes:
            os.posix_fallocate(self._fd, 0, self.entry.size_bytes)

    def _resume(self, buffer: memoryview) -> None:
        record = self._journal.files.get(self.index)
        held = _merged(record.ranges, self.entry.size_bytes) if record else []
        proven = 0
        if record and held and held[0][0] == 0:
            proven = self._proven(held[0][1], record.prefixes, buffer)
            held[0] = (0, proven)
        self._frontier = proven
        self._early = {start: stop for start, stop in held if start > 0}
        gaps, position = [], 0
        for start, stop in [*held, (self.entry.size_bytes, self.entry.size_bytes)]:
            gaps += self._pieces(position, start, self._range_bytes)[::-1]
            position = stop
        self._unclaimed = gaps[::-1]
        self.kept_bytes = sum(stop - start for start, stop in held)

    def _proven(self, stop: int, prefixes: dict[int, str], buffer: memoryview) -> int:
        """Hash what is on disk from 0 to `stop`; where a remembered prefix differs, the last one that agreed counts."""
        digests, position, agreed = Digests(self.entry), 0, 0
        for mark in sorted({*(mark for mark in prefixes if mark <= stop), stop}):
            self._read_back(digests, position, mark, buffer)
            position = mark
            if prefixes.get(mark, digests.prefix()) != digests.prefix():
                digests = Digests(self.entry)
                self._read_back(digests, 0, agreed, buffer)
                break
            agreed = mark
        self._digests = digests
        return agreed

    def _read_back(self, digests: Digests, start: int, stop: int, buffer: memoryview) -> None:
        while start < stop:
            try:
                count = os.preadv(self._fd, [buffer[: stop - start]], start)
            except OSError as exc:
                raise from_os(exc, f"{self.entry.path}: read back at {start}") from exc
            if count == 0:
                raise IntegrityMismatchError(f"{self.entry.path}: part file {self.path.name} ends at {start}")
            digests.update(buffer[:count])
            start += count

    def _seal(self, digests: Digests) -> None:
        """Every byte is there: judge, sync, protect."""
        if fault := digests.fault():
            raise IntegrityMismatchError(f"{self.entry.path}: {fault}")
        try:
            os.fsync(self._fd)
            os.fchmod(self._fd, 0o444)
        except OSError as exc:
            raise from_os(exc, f"{self.entry.path}: sync of part file {self.path.name}") from exc
        self.sha256 = digests.prefix()

    def _pieces(self, start: int, stop: int, step: int) -> list[Range]:
        """Ranges over a stretch, last first."""
        starts = range(start, stop, max(step, 1))
        return [Range(at, min(at + step, stop), self._lives[-1], at) for at in reversed(starts)]


def _make_writable(path: Path) -> None:
    """A part that was whole is read-only; a link in its place is not followed, not even for its mode."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def part_name(index: int) -> str:
    """Names on disk come from the position in the manifest, never from the source."""
    return f"{index:06d}"


def _merged(ranges: list[tuple[int, int]], size_bytes: int) -> list[tuple[int, int]]:
    """Sorted, disjoint ranges within a file."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if stop > size_bytes:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
