"""Bring every byte of a manifest into staging: ranged, parallel, resumable, hashed as it streams.

Worker threads take ranges of files: each stays with its file as long as it can (one connection, digest in the CPU's
cache) and helps with the largest rest when its own is done. The bytes go socket → buffer → disk and digest; every
step releases the GIL. The first error that patience does not mend stops all.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cacheops.bandwidth import Bandwidth
from cacheops.errors import CanceledError, IntegrityMismatchError, SourceUnavailableError, from_os
from cacheops.journal import CHUNK_BYTES, Journal
from cacheops.model import FileEntry, ModelManifest
from cacheops.open_part import ALIGN_BYTES, aligned_buffer
from cacheops.parts import RANGE_BYTES, PartFile, PartStore, Range
from cacheops.transport import RangeStream

BUFFER_BYTES = 1 << 20  # one write: few enough for the disk, and the digest finds the bytes in the CPU's cache
WORKERS_MAX = 64  # as the largest setting among peers; more connections than that is an attack on the origin
RETRIES = 5  # of one range without progress: 0.5 + 1 + 2 + 4 + 8 s
RETRY_FIRST_S = 0.5
PATIENCE_S = 30.0  # a source that asks for a longer pause gets it, but not inside a worker
PROGRESS_BYTES = 1 << 20  # so much between two failures counts as progress
RESTARTS_MAX = 3  # of one file, be it for wrong digests or for a source that cannot do ranges
LOOK_S = 0.2  # how soon a waiting worker sees that it shall stop


class RangeSource(Protocol):
    """Where bytes come from."""

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        """The bytes of a file from `start` (or from 0, where ranges are beyond the source) on."""
        ...


@dataclass(slots=True, kw_only=True)
class Transfer:
    """How one download runs, and how far it is. `bandwidth` is shared by all downloads of a node."""

    workers: int = 8
    bandwidth: Bandwidth | None = None
    stop: threading.Event = field(default_factory=threading.Event)  # set by the caller: end soon, keep what is there
    retry_first_s: float = RETRY_FIRST_S
    range_bytes: int = RANGE_BYTES
    chunk_bytes: int = CHUNK_BYTES
    files: tuple[PartFile, ...] = ()
    manifest: ModelManifest | None = None  # what `files` are of

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= WORKERS_MAX:
            raise ValueError(f"workers {self.workers} is not within 1 to {WORKERS_MAX}")

    @property
    def fetched_bytes(self) -> int:
        """Fetched by this session."""
        return sum(file.fetched_bytes for file in self.files)

    @property
    def staged_bytes(self) -> int:
        """On disk: fetched now, or kept from an earlier session."""
        return sum(file.fetched_bytes + file.kept_bytes for file in self.files)


def download(manifest: ModelManifest, source: RangeSource, staging: Path, transfer: Transfer) -> Mapping[str, str]:
    """Stage every file of a manifest whole and verified; the sha256 of each by path."""
    parts = staging / "parts"
    try:
        parts.mkdir(mode=0o700, parents=True, exist_ok=True)
        journal = Journal(staging / "journal")
    except OSError as exc:
        raise from_os(exc, f"staging {staging.name}") from exc
    files = tuple(
        PartFile(index, entry, PartStore(parts, journal, transfer.range_bytes))
        for index, entry in enumerate(manifest.files)
    )
    transfer.files, transfer.manifest = files, manifest
    crew = _Crew(files, source, transfer)
    useful = sum(
        1 + entry.size_bytes // transfer.range_bytes for entry in manifest.files
    )  # more workers would only wait
    try:
        with ThreadPoolExecutor(min(transfer.workers, useful), thread_name_prefix="fetch") as pool:
            jobs = [pool.submit(crew.work) for _ in range(min(transfer.workers, useful))]
            try:
                for job in jobs:
                    job.result()
            finally:  # a bug or Ctrl-C here must not leave the others running for hours
                crew.halt.set()
    finally:
        for file in files:
            file.close()
        journal.close()
    return {file.entry.path: file.sha256 for file in files if file.sha256 is not None}


class _Crew:
    """The workers of one download and what they share."""

    def __init__(self, files: tuple[PartFile, ...], source: RangeSource, transfer: Transfer) -> None:
        self.halt = threading.Event()
        self._source = source
        self._transfer = transfer
        self._changed = threading.Condition()
        self._unopened = sorted(files, key=lambda file: file.entry.size_bytes)  # the largest is popped first
        self._opening = 0
        self._opened: list[PartFile] = []
        self._restarts: Counter[int] = Counter()

    def work(self) -> None:
        """Fetch ranges until none is left; an error stops everybody."""
        buffer = aligned_buffer(BUFFER_BYTES)
        file: PartFile | None = None
        try:
            while claimed := self._claim(file, buffer):
                file, piece = claimed
                self._fetch(file, piece, buffer)
                self._settle(file, buffer)
        except BaseException:
            if self.halt.is_set() and not self._transfer.stop.is_set():
                return  # somebody else failed first and says why
            self.halt.set()
            raise

    def _claim(self, own: PartFile | None, buffer: memoryview) -> tuple[PartFile, Range] | None:
        """A range of one's own file, else of a file nobody has begun, else of the one with the most left."""
        while True:
            self._check_stop()
            if own is not None and (piece := own.claim()):
                return own, piece
            with self._changed:
                fresh = self._unopened.pop() if self._unopened else None
                if fresh is None:
                    own = max(self._opened, key=lambda file: file.unclaimed_bytes, default=None)
                    if own is None or own.unclaimed_bytes == 0:
                        if not self._opening:
                            return None
                        self._changed.wait(LOOK_S)
                    continue
                self._opening += 1
            own = self._begin(fresh, buffer)

    def _begin(self, file: PartFile, buffer: memoryview) -> PartFile:
        """Open a file, with what earlier sessions left of it."""
        try:
            file.open(buffer)
            self._settle(file, buffer)
        finally:
            with self._changed:
                self._opening -= 1
                self._opened.append(file)
                self._changed.notify_all()
        return file

    def _settle(self, file: PartFile, buffer: memoryview) -> None:
        """Follow up with the digest; wrong bytes are fetched once more, then the source is blamed."""
        try:
            file.settle(buffer)
        except IntegrityMismatchError:
            kept = file.kept_bytes > 0
            self._restarts[file.index] += 1
            file.restart(whole=False)
            if self._restarts[file.index] > 1 + kept:  # what was kept may be our own disk's fault
                raise

    def _fetch(self, file: PartFile, piece: Range, buffer: memoryview) -> None:
        """One range, taken up again from its last byte while the source lets us."""
        failures = 0
        while piece.reached < piece.stop:
            mark = piece.reached
            try:
                self._pump(file, piece, buffer)
            except SourceUnavailableError as exc:
                failures = 1 if piece.reached - mark >= PROGRESS_BYTES else failures + 1
                if failures > RETRIES or exc.wait_s > PATIENCE_S:
                    raise
                self._pause(max(exc.wait_s, self._transfer.retry_first_s * 2.0 ** (failures - 1)))
            if not file.is_current(piece):
                return
        file.done(piece)

    def _pump(self, file: PartFile, piece: Range, buffer: memoryview) -> None:
        """Bytes of a range from where it is, until its end or the stream's."""
        noted = piece.reached
        stream = self._source.open(file.entry, piece.reached, piece.stop)
        try:
            if stream.start != piece.reached:
                return self._restart_whole(file)
            while piece.reached < piece.stop and file.is_current(piece):
                self._block(file, piece, stream, buffer[: self._window_bytes(piece)])
                if piece.reached - noted + BUFFER_BYTES > self._transfer.chunk_bytes:  # another one might be lost
                    file.note(piece, noted)
                    noted = piece.reached
        finally:
            stream.close()
            file.note(piece, noted)

    def _window_bytes(self, piece: Range) -> int:
        """How much to gather for one write: it ends where a block of the disk does, and a kill costs no more."""
        return min(BUFFER_BYTES - piece.reached % ALIGN_BYTES, self._transfer.chunk_bytes, piece.stop - piece.reached)

    def _block(self, file: PartFile, piece: Range, stream: RangeStream, window: memoryview) -> None:
        """Gather and write; what came before a failure is written, too."""
        filled = 0
        try:
            while filled < len(window):
                self._check_stop()
                count = stream.readinto(window[filled:])
                if count == 0:
                    ends = piece.reached + filled
                    raise SourceUnavailableError(f"{file.entry.path}: ends at {ends}, not at {piece.stop}")
                filled += count
                self._throttle(count)
        finally:
            file.write(piece, window[:filled])

    def _restart_whole(self, file: PartFile) -> None:
        """The source answers with the whole file: take it so, from the start."""
        self._restarts[file.index] += 1
        if self._restarts[file.index] > RESTARTS_MAX:
            raise SourceUnavailableError(f"{file.entry.path}: the source cannot do ranges and breaks off again")
        file.restart(whole=True)

    def _throttle(self, count_bytes: int) -> None:
        if self._transfer.bandwidth and (wait_s := self._transfer.bandwidth.wait_s(count_bytes)):
            self._pause(wait_s)

    def _pause(self, duration_s: float) -> None:
        """Wait, but not past a stop."""
        while duration_s > 0 and not self.halt.wait(min(duration_s, LOOK_S)):
            self._check_stop()
            duration_s -= LOOK_S

    def _check_stop(self) -> None:
        if self._transfer.stop.is_set() or self.halt.is_set():
            raise CanceledError("the download was stopped; what is staged is kept")
