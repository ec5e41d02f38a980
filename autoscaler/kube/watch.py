"""One kind of object kept in memory by list and watch, whatever the API server and the network do.

Every failure ends in one of two ways: watch again from the last version seen (the connection broke) or
list again (410, 504 "Too large resource version", garbage, repeated trouble). A list is compared with
what was held, so that objects deleted meanwhile are reported as deleted.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from autoscaler.errors import ApiFailure, Forbidden, NotFound, Unreachable
from autoscaler.kube.budget import RETRY_AFTER_MAX_S, backoff_s
from autoscaler.kube.resources import STREAM_OPEN, WATCH_SILENT, Object, Resource
from metrics.clock import Clock

# The server ends a watch after this; client-go draws from 5 to 10 minutes, too.
WATCH_TIMEOUT_S = (300.0, 600.0)
BACKOFF_FIRST_S = 0.2
BACKOFF_CAP_S = 15.0
# A kind that is not installed, or not permitted, is looked for again so that installing it needs no restart.
ABSENT_RETRY_S = 60.0
# A server that has just started answers 403 for a moment, until it has read its roles. Only what it says for this
# long, of a kind that was never readable, switches that kind off.
FORBIDDEN_SURE_S = 10.0
# Broken connections in a row before the past is given up for a list.
REWATCHES_MAX = 3
# A stream that ends at once, again and again, is a broken proxy, not a server's timeout.
WATCH_SPACING_S = 0.5

T = TypeVar("T")
OnChange = Callable[[str, T | None, T | None], None]  # key, before, after
log = logging.getLogger(__name__)


class WatchClient(Protocol):
    """What an informer needs of the API."""

    def pages(self, path: str, *, labels: str | None = None) -> AsyncIterator[tuple[list[Object], str]]: ...

    def watch(self, path: str, *, resource_version: str, timeout_s: float) -> AsyncIterator[Object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Generic[T]):
    """What to keep: `keep` turns an object into what we use of it, or None to leave it out."""

    resource: Resource
    keep: Callable[[Object], T | None]
    on_change: OnChange[T]
    namespace: str | None = None  # None: all
    is_optional: bool = False  # may be absent or forbidden: the feature is off


class Informer(Generic[T]):
    """The objects of one kind, by `namespace/name` (or name)."""

    def __init__(self, client: WatchClient, watched: Watched[T], clock: Clock) -> None:
        self._client = client
        self._watched = watched
        self._clock = clock
        self._path = watched.resource.path(watched.namespace)
        self._jitter = random.Random(self._path)
        self._version = ""
        self._failures = 0
        self._is_connected = False
        self._heard_at_s = clock.now_s()
        self._forbidden_since_s: float | None = None
        self.items: dict[str, T] = {}
        self.synced = False
        self.is_available = True
        self.on_relist: Callable[[str], None] = lambda _kind: None  # telemetry's hook
        self.last_failure = ""

    @property
    def kind(self) -> str:
        """The kind kept, for messages."""
        return self._watched.resource.kind

    def stale_for_s(self, now_s: float) -> float:
        """For how long the API server has told us nothing; 0 while a watch is open."""
        return 0.0 if self._is_connected else max(0.0, now_s - self._heard_at_s)

    async def run(self) -> None:
        """Follow the kind for ever."""
        while True:
            try:
                await self._relist()
                await self._follow()
            except NotFound as exc:
                await self._absent(exc)
            except Forbidden as exc:
                await self._forbidden(exc)
            except ApiFailure as exc:
                await self._failed(exc)

    async def _relist(self) -> None:
        if self.synced:
            self.on_relist(self.kind)
        found: dict[str, T] = {}
        async for items, version in self._client.pages(self._path):
            self._version = version
            for item in items:
                if (kept := self._watched.keep(item)) is not None:
                    found[key_of(item)] = kept
        for key in [key for key in self.items if key not in found]:
            self._remove(key)
        for key, kept in found.items():
            self._put(key, kept)
        self.is_available = True
        self._forbidden_since_s = None
        self._heard_at_s = self._clock.now_s()
        if not self.synced:
            log.info("%s: %d objects at version %s", self._path, len(found), self._version)
        self.synced = True

    async def _follow(self) -> None:
        """Watch, and watch again where a connection breaks, until only a new list can help."""
        while True:
            started_at_s = self._clock.now_s()
            try:
                await self._watch_once()
            except Unreachable as exc:
                if exc.reason != WATCH_SILENT:
                    if exc.reason == "WatchGarbled" or self._failures >= REWATCHES_MAX:
                        raise
                    await self._failed(exc)
                    continue
                log.debug("%s: %s", self._path, exc)  # every two minutes where nothing happens: no news for anybody
            finally:
                self._is_connected = False
            if self._clock.now_s() - started_at_s < WATCH_SPACING_S:
                await self._clock.sleep(WATCH_SPACING_S)
            else:
                self._calm()

    async def _watch_once(self) -> None:
        timeout_s = self._jitter.uniform(*WATCH_TIMEOUT_S)
        events = self._client.watch(self._path, resource_version=self._version, timeout_s=timeout_s)
        async for event in events:
            self._is_connected = True
            self._heard_at_s = self._clock.now_s()
            if event["type"] != STREAM_OPEN:
                self._apply(event["type"], event["object"])
                self._calm()

    def _apply(self, kind: str, obj: Object) -> None:
        self._version = str((obj.get("metadata") or {}).get("resourceVersion") or self._version)
        if kind == "BOOKMARK":
            return
        if not (obj.get("metadata") or {}).get("name"):
            raise Unreachable(0, "WatchGarbled", f"watching {self._path}: an object without a name")
        kept = None if kind == "DELETED" else self._watched.keep(obj)
        if kept is None:
            self._remove(key_of(obj))
        else:
            self._put(key_of(obj), kept)

    def _put(self, key: str, kept: T) -> None:
        before = self.items.get(key)
        if before != kept:
            self.items[key] = kept
            self._watched.on_change(key, before, kept)

    def _remove(self, key: str) -> None:
        before = self.items.pop(key, None)
        if before is not None:
            self._watched.on_change(key, before, None)

    def _calm(self) -> None:
        # Only a working stream ends a back-off: where lists work and watches do not, each round must wait longer.
        self._failures = 0
        self.last_failure = ""

    async def _failed(self, failure: ApiFailure) -> None:
        self._is_connected = False
        self._failures += 1
        if self._failures == 1 or str(failure) != self.last_failure:
            log.warning("%s: %s", self._path, failure)
        self.last_failure = str(failure)
        draw = self._jitter.uniform(0.0, 1.0)
        wait_s = backoff_s(self._failures, first_s=BACKOFF_FIRST_S, cap_s=BACKOFF_CAP_S, draw=draw)
        await self._clock.sleep(max(wait_s, min(failure.retry_after_s or 0.0, RETRY_AFTER_MAX_S)))

    async def _forbidden(self, failure: ApiFailure) -> None:
        """What may not be read any more is not gone: what is known of it stays."""
        now_s = self._clock.now_s()
        if self._forbidden_since_s is None:
            self._forbidden_since_s = now_s
        is_known = self.synced and self.is_available
        if is_known or (not self.synced and now_s - self._forbidden_since_s < FORBIDDEN_SURE_S):
            await self._failed(failure)
        else:
            await self._absent(failure)

    async def _absent(self, failure: ApiFailure) -> None:
        if not self._watched.is_optional:
            await self._failed(failure)
            return
        if self.is_available:
            log.info("%s: off (%s)", self._path, failure.reason)
        for key in list(self.items):
            self._remove(key)
        self.is_available = False
        self.synced = True
        self._heard_at_s = self._clock.now_s()
        await self._clock.sleep(ABSENT_RETRY_S)


def key_of(obj: Object) -> str:
    """`namespace/name`, or the name of a cluster-wide object."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
