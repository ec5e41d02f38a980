"""Sources resolved once: URI and revision → commit, digest, size. In threads; failures wait longer and longer.

A listing may hang for as long as its source likes, so the threads are daemons: the process ends without them.
"""

import asyncio
import contextlib
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from autoscaler.caching.values import Resolved
from cacheops.errors import CacheError, FailureReason, InvalidRequestError, SourceUnavailableError, retry_after_s
from cacheops.model import ModelManifest, ModelRef
from cacheops.sources import SourceSettings, open_source
from cacheops.tasks import CacheTask
from cacheops.uri import Scheme, parse_uri
from metrics.clock import Clock

# Listings at a time, in all and of one place (a host, a bucket, a claim): each is a few requests, and a source that
# hangs must not hold up all others. A file server that is away makes who reads it wait for as long as it is.
RESOLVES_MAX = 8
RESOLVES_OF_PLACE_MAX = 4
LISTING_S = 1800.0  # 20,000 questions of 90 ms
MESSAGE_CHARS = 300

_SECRET_PARTS = (
    (re.compile(r"://[^/@\s]+@"), "://…@"),  # user and password before a host
    (re.compile(r"\?[^\s'\"]+"), "?…"),  # signatures and tokens ride in queries
)
_WITH_SUMS = frozenset({Scheme.PVC, Scheme.FILE, Scheme.HTTPS, Scheme.HTTP})
_SECRET_VARIABLES = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

List = Callable[[ModelRef], Awaitable[ModelManifest]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A source that could not be resolved."""

    request: str
    reason: FailureReason
    message: str
    attempts: int
    retry_at_s: float


class Resolver:
    """At most one listing per ModelCache at a time."""

    def __init__(self, list_model: List, clock: Clock) -> None:
        self._list_model = list_model
        self._clock = clock
        self.done: Callable[[], None] = lambda: None  # called when there is something new to `result`
        self._all = asyncio.Semaphore(RESOLVES_MAX)
        self._by_place: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()
        self._running: set[str] = set()
        self._results: dict[str, Resolved | Failed] = {}

    def result(self, uid: str, request: str) -> Resolved | Failed | None:
        """What became of a request; None: nothing yet."""
        found = self._results.get(uid)
        return found if found is not None and found.request == request else None

    def is_due(self, uid: str, request: str) -> bool:
        """Whether to ask the source: it was not asked, or it failed and its time has come."""
        found = self.result(uid, request)
        if uid in self._running or isinstance(found, Resolved):
            return False
        return found is None or found.retry_at_s <= self._clock.now_s()

    def start(self, group: asyncio.TaskGroup, task: CacheTask, request: str) -> None:
        """Ask the source."""
        self._running.add(task.uid)
        group.create_task(self._resolve(task, request), name=f"resolve {task.namespace}/{task.name}")

    def forget_all_but(self, uids: set[str]) -> None:
        """ModelCaches that are gone."""
        for uid in self._results.keys() - uids:
            del self._results[uid]

    async def _resolve(self, task: CacheTask, request: str) -> None:
        before = self.result(task.uid, request)
        attempts = before.attempts + 1 if isinstance(before, Failed) else 1
        try:
            manifest = await self._listed(_ref(task))
            self._results[task.uid] = _accepted(task, manifest, request, self._clock.now_s())
        except CacheError as exc:
            self._results[task.uid] = self._failed(task, request, attempts, exc)
        except Exception as exc:  # a task's top: a bug in one source's client must not stop the others
            log.exception("ModelCache %s/%s: resolving failed", task.namespace, task.name)
            trouble = SourceUnavailableError(f"{task.ref.uri}: {type(exc).__name__}")
            self._results[task.uid] = self._failed(task, request, attempts, trouble)
        finally:
            self._running.discard(task.uid)
            self.done()

    async def _listed(self, ref: ModelRef) -> ModelManifest:
        uri = parse_uri(ref.uri)
        place = self._by_place.setdefault((uri.scheme, uri.place), asyncio.Semaphore(RESOLVES_OF_PLACE_MAX))
        try:
            async with place, self._all, asyncio.timeout(LISTING_S):
                return await self._list_model(ref)
        except TimeoutError as exc:
            raise SourceUnavailableError(f"{ref.uri}: gave no list within {LISTING_S:g} s") from exc

    def _failed(self, task: CacheTask, request: str, attempts: int, exc: CacheError) -> Failed:
        message = without_secrets(str(exc))
        log.warning("ModelCache %s/%s: %s: %s", task.namespace, task.name, exc.reason, message)
        return Failed(
            request=request,
            reason=exc.reason,
            message=message,
            attempts=attempts,
            retry_at_s=self._clock.now_s() + retry_after_s(exc.reason, attempts, wait_s=exc.wait_s),
        )


def listing(settings: SourceSettings, clock: Clock) -> List:
    """Lists a model at its source, in a daemon thread."""

    def blocking(ref: ModelRef) -> ModelManifest:
        source = open_source(ref.uri, settings, clock)
        try:
            return source.resolve(ref)
        finally:
            source.close()

    async def list_model(ref: ModelRef) -> ModelManifest:
        return await _in_daemon_thread(lambda: blocking(ref))

    return list_model


def without_secrets(text: str) -> str:
    """Words fit for status, Events and logs: no credentials of addresses, queries or our environment."""
    for name in _SECRET_VARIABLES:
        if secret := os.environ.get(name):
            text = text.replace(secret, "…")
    for pattern, instead in _SECRET_PARTS:
        text = pattern.sub(instead, text)
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"


def _ref(task: CacheTask) -> ModelRef:
    return replace(task.ref, revision=task.ref.revision or parse_uri(task.ref.uri).revision)


def _accepted(task: CacheTask, manifest: ModelManifest, request: str, now_s: float) -> Resolved:
    unsworn = sum(not entry.sworn for entry in manifest.files)
    if unsworn and not task.allow_unverified:
        words = f"{unsworn} of {len(manifest.files)} files have no digest at {task.ref.uri}"
        beside = ", SHA256SUMS beside them gives them some" if parse_uri(task.ref.uri).scheme in _WITH_SUMS else ""
        raise InvalidRequestError(f"{words}; spec.source.allowUnverified takes them on trust{beside}")
    return Resolved(
        request=request,
        revision=manifest.resolved_revision,
        digest=manifest.digest,
        files=len(manifest.files),
        size_bytes=manifest.bytes,
        unsworn=unsworn,
        at_s=now_s,
    )


async def _in_daemon_thread(work: Callable[[], ModelManifest]) -> ModelManifest:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ModelManifest] = loop.create_future()

    def settle(result: ModelManifest | None, error: BaseException | None) -> None:
        if future.done():  # cancelled meanwhile
            return
        if result is not None:
            future.set_result(result)
        else:
            future.set_exception(error or RuntimeError("no result"))

    def body() -> None:
        try:
            outcome: tuple[ModelManifest | None, BaseException | None] = (work(), None)
        except Exception as exc:  # noqa: BLE001 - a thread's top: it is raised again where it is awaited
            outcome = (None, exc)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=body, name="resolve", daemon=True).start()
    return await future
