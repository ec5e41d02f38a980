"""Another node's agent as a source of one model. Blocks: use it in a thread.

Nothing it says is believed: its list of files must have the wanted digest, and every byte that of its file.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from cacheops.addresses import AddressRules
from cacheops.errors import (
    AccessDeniedError,
    CacheError,
    FailureReason,
    IntegrityMismatchError,
    InvalidRequestError,
    SourceSilentError,
    SourceUnavailableError,
)
from cacheops.manifest_file import MANIFEST_BYTES_MAX, decode
from cacheops.model import FileEntry, ModelManifest, ModelRef
from cacheops.transport import HttpRanges, RangeStream, Request
from metrics.clock import Clock
from nodeagent.peers.choice import Peer

STALL_S = 5.0  # within one cluster: an origin gets half a minute, a neighbour that is silent so long is not there
PROGRESS_BYTES_MAX = 1024


class PeerLostError(CacheError):
    """The peer does not do what it promised: ask another one, at once. Never a model's final failure."""

    reason = FailureReason.SOURCE_UNAVAILABLE


class PeerSilentError(PeerLostError):
    """The peer is there and says nothing in time: its node may be busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a peer is with a model. By default it has nothing to do with it, or waits for another node itself."""

    is_published: bool = False
    is_deciding: bool = False  # whether it is the one to fetch
    staged_bytes: int = 0  # more than 0 once it has begun
    is_open: bool = False  # it gives what files it has whole while it fetches the others


class PeerSource:
    """One digest at one peer."""

    def __init__(self, peer: Peer, digest: str, authorization: str, clock: Clock) -> None:
        # Plain http: the token opens only what every node may read, and each byte is judged by its digest.
        self._base = f"http://{peer.address}/v1/trees/{digest}"
        self.name = f"peer {peer.node} ({peer.address})"
        self._digest = digest
        self._secret = {"Authorization": authorization}
        self._http = HttpRanges(AddressRules(hosts=frozenset({peer.address})), clock, stall_s=STALL_S)
        self._index: dict[str, int] = {}

    def progress(self) -> Progress:
        """How far it is itself."""
        try:
            text = self._text(f"{self._base}/progress", PROGRESS_BYTES_MAX)
        except InvalidRequestError:
            return Progress()  # 404
        try:
            body = json.loads(text)
            if body["published"]:
                return Progress(is_published=True)
            staged_bytes = int(body["stagedBytes"])
            is_open = bool(body.get("open", False))
            return Progress(is_deciding=staged_bytes == 0, staged_bytes=staged_bytes, is_open=is_open)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise PeerLostError(f"{self.name}: {text[:80]!r} is no progress") from exc

    def manifest(self, ref: ModelRef) -> ModelManifest:
        """The files, sealed, as `ref`'s; only a list that has the wanted digest is taken."""
        try:
            found = decode(self._text(self._base, MANIFEST_BYTES_MAX).encode(), Path(), name=self.name).manifest
        except IntegrityMismatchError as exc:
            raise PeerLostError(str(exc)) from exc
        if (listed := found.as_listed().digest) != self._digest:
            raise PeerLostError(f"{self.name}: lists {listed[:16]}, wanted is {self._digest[:16]}")
        self._index = {entry.path: index for index, entry in enumerate(found.files)}
        return replace(found, ref=ref)

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        url = f"{self._base}/files/{self._index[entry.path]}"
        request = Request(url=url, secret_headers=self._secret, start=start, stop=stop, size_bytes=entry.size_bytes)
        try:
            return _PeerStream(self._http.get(request), self.name)
        except CacheError as exc:
            if exc.wait_s:  # it serves as many as it may: patience, within bounds, is the download's
                raise
            raise _lost(self.name, exc) from exc

    def close(self) -> None:
        self._http.close()

    def _text(self, url: str, limit_bytes: int) -> str:
        try:
            stream = self._http.get(Request(url=url, secret_headers=self._secret))
            try:
                return stream.read_text(limit_bytes)
            finally:
                stream.close()
        except (SourceUnavailableError, AccessDeniedError, IntegrityMismatchError) as exc:
            if exc.wait_s:
                raise
            raise _lost(self.name, exc) from exc


class _PeerStream:
    """Ends for good where an origin's would be asked again: there are others to ask."""

    def __init__(self, stream: RangeStream, name: str) -> None:
        self.start = stream.start
        self._stream = stream
        self._name = name

    def readinto(self, buffer: memoryview) -> int:
        try:
            count = self._stream.readinto(buffer)
        except SourceUnavailableError as exc:
            raise _lost(self._name, exc) from exc
        return count

    def close(self) -> None:
        self._stream.close()


def _lost(name: str, exc: CacheError) -> PeerLostError:
    kind = PeerSilentError if isinstance(exc, SourceSilentError) else PeerLostError
    return kind(f"{name}: {exc}")
