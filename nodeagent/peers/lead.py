"""The node that fetches a model for all, as a source of the files it has whole already. Blocks: use it in a thread.

A file that it has not yet is waited for as long as it gets on. What it gives is judged like any peer's: each file by
the digest that the origin swore.
"""

import threading
from dataclasses import dataclass

from cacheops.errors import CanceledError, SourceUnavailableError
from cacheops.model import FileEntry
from cacheops.transport import RangeStream
from metrics.clock import Clock
from nodeagent.peers.choice import Peer
from nodeagent.peers.client import PeerLostError, PeerSilentError, PeerSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a lead is waited for."""

    poll_s: float = 1.0  # of each file that a worker waits for
    still_s: float = 30.0  # no byte more for so long: it will not come from there
    gone_s: float = 10.0  # neither fetching nor published: the moment of publication is shorter


class LeadSource(PeerSource):
    """One digest at the node that fetches it."""

    def __init__(
        self, peer: Peer, digest: str, authorization: str, clock: Clock, *, stop: threading.Event, patience: Patience
    ) -> None:
        super().__init__(peer, digest, authorization, clock)
        self._clock = clock
        self._stop = stop
        self._patience = patience
        self._lock = threading.Lock()
        self._asked_at_s = self._grew_at_s = self._seen_at_s = clock.now_s()
        self._staged_bytes = 0

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        """The bytes of a file, once they are there."""
        while True:
            try:
                return super().open(entry, start, stop)
            except PeerSilentError:
                raise
            except (SourceUnavailableError, PeerLostError):
                self._check()  # not whole yet, or too many ask; or it is being moved to its place just now
            if self._stop.wait(self._patience.poll_s):
                raise CanceledError(f"{entry.path}: stopped while {self.name} fetched it")

    def _check(self) -> None:
        """Whether it gets on; asked once by whichever worker comes first."""
        with self._lock:
            now_s = self._clock.now_s()
            if now_s - self._asked_at_s < self._patience.poll_s:
                return
            self._asked_at_s = now_s
            seen = self.progress()
            if seen.is_published or seen.staged_bytes > self._staged_bytes:
                self._staged_bytes, self._grew_at_s = seen.staged_bytes, now_s
            if seen.is_published or seen.staged_bytes:
                self._seen_at_s = now_s
            if now_s - self._grew_at_s > self._patience.still_s:
                raise PeerLostError(f"{self.name}: {self._staged_bytes} bytes, and no more of them")
            if now_s - self._seen_at_s > self._patience.gone_s:
                raise PeerLostError(f"{self.name}: fetches it no more")
