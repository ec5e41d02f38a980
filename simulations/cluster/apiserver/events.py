"""Events have two faces, core/v1 and events.k8s.io/v1, and one store; and there must not be too many of them."""

from collections import deque

from simulations.cluster.api import Object
from simulations.cluster.apiserver.store import Store, Stored

CORE = ("", "events")
NEW = ("events.k8s.io", "events")
MAX_EVENTS = 10_000  # the oldest go first; a real cluster lets them live one hour whatever their number
TTL_S = 3_600.0  # --event-ttl of the real server

_NEW_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_CORE_NAMES = {new: core for core, new in _NEW_NAMES.items()}


def to_core(event: Object) -> Object:
    """An events.k8s.io/v1 Event as the core one that is stored."""
    return {_CORE_NAMES.get(name, name): value for name, value in event.items()} | {"apiVersion": "v1"}


def from_core(event: Object) -> Object:
    """A stored Event as events.k8s.io/v1 shows it."""
    return {_NEW_NAMES.get(name, name): value for name, value in event.items()} | {"apiVersion": "events.k8s.io/v1"}


class EventBudget:
    """Removes Events that are too old or too many."""

    def __init__(self, store: Store, limit: int = MAX_EVENTS) -> None:
        self._store = store
        self._limit = limit
        self._births: deque[tuple[float, str]] = deque()

    def admit(self, event: Stored, now_s: float) -> None:
        """Count a new Event and drop what no longer fits."""
        self._births.append((now_s, event.uid))
        while len(self._births) > self._limit or self._births[0][0] < now_s - TTL_S:
            stored = self._store.by_uid(self._births.popleft()[1])
            if stored is not None:
                self._store.remove(stored)
