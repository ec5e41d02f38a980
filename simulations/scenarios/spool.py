"""Requests of a long span, drawn or read once into a temporary file, from which every policy is fed."""

import os
import tempfile
import weakref
from collections.abc import Iterator

import numpy as np

from simulations.compiled.layout import Records
from simulations.compiled.records import requests_of
from simulations.errors import SpoolError
from simulations.traces import Chunk

ROW = np.dtype([("at_s", np.float64), ("prompt_tokens", np.int32), ("output_tokens", np.int32)])
# A thousand million requests: twenty of Azure's weeks, minutes of each policy. More is a mistake in a rate.
SPOOL_BYTES_MAX = 16_000_000_000


class Spool:
    """A file without a name: its room is free again with the last who may read it, also when the process is killed.

    It is read, not mapped: pages of a mapped file count as memory of the process.
    """

    def __init__(self) -> None:
        """Empty; SpoolError where no file can be made."""
        try:
            self._folder = tempfile.gettempdir()
            file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115  # closed with the spool
        except OSError as exc:
            raise SpoolError(f"no temporary file can be made for a long span's requests: {exc}") from exc
        self._descriptor = file.fileno()
        self._close = weakref.finalize(self, file.close)
        self._rows: list[int] = []  # of each chunk: who sums over parts must not see other sums than from the chunks
        self._written_bytes = 0
        self._fault: str | None = None

    def add(self, chunk: Chunk) -> None:
        """Write some more; once that failed, only count, so that the error can say what all of it needs."""
        self._rows.append(len(chunk))
        if self._fault is None:
            rows = np.empty(len(chunk), ROW)
            rows["at_s"] = chunk.at_s
            rows["prompt_tokens"], rows["output_tokens"] = chunk.prompt_tokens, chunk.output_tokens
            self._fault = self._write(rows.view(np.uint8).data)

    def check(self) -> None:
        """SpoolError where not all could be written; names the folder, what all would need, and why not."""
        if self._fault is None:
            return
        self._close()
        requests = sum(self._rows)
        raise SpoolError(
            f"{self._folder}: {requests * ROW.itemsize:,} bytes are needed for {requests:,} requests of a long span: "
            f"{self._fault}; name another folder as TMPDIR, or thin the traffic"
        )

    def parts(self) -> Iterator[Records]:
        """What was added, chunk by chunk, as the engine takes it; each call begins anew."""
        begin_bytes = 0
        for count in filter(None, self._rows):
            rows = np.empty(count, ROW)
            if os.preadv(self._descriptor, [rows.view(np.uint8).data], begin_bytes) < rows.nbytes:
                raise SpoolError(f"{self._folder}: a temporary file ends before its byte {begin_bytes + rows.nbytes:,}")
            begin_bytes += rows.nbytes
            yield requests_of(rows["at_s"], rows["prompt_tokens"], rows["output_tokens"])

    def _write(self, rest: memoryview) -> str | None:
        """Why it does not fit; None: it does."""
        if self._written_bytes + len(rest) > SPOOL_BYTES_MAX:
            return f"expected at most {SPOOL_BYTES_MAX:,}"
        try:
            while rest:  # a disk that fills up takes some of it, and refuses the rest
                taken_bytes = os.write(self._descriptor, rest)
                self._written_bytes += taken_bytes
                rest = rest[taken_bytes:]
        except OSError as exc:
            return f"{exc.strerror} after {self._written_bytes:,}"
        return None
