"""One node, brought towards what it should hold: read wishes and disk → plan → report → act. Safe to repeat, to kill.

Events only wake. What is evicted is said first: `Evicting` is written before a tree goes, so that nobody counts on it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cacheops.config import NodeTask, NodeWish, parse_node_model_cache
from cacheops.errors import CacheError, InvalidRequestError
from cacheops.manifest_file import Published
from cacheops.plan import Limits, Plan, plan
from cacheops.stock import Verb
from metrics.clock import Clock
from nodeagent.errors import ApiError, NotThereError
from nodeagent.facts import facts_of
from nodeagent.fetches import Fetches
from nodeagent.kube import LOCAL_MODEL_NODES, NODE_MODEL_CACHES
from nodeagent.peers.underway import Underway
from nodeagent.report import ModelFact, NodeFacts, is_worth_writing, kserve_status, node_status, rfc3339
from nodeagent.store import Store, View
from nodeagent.wishes import LocalModel, Wishes, local_models, wishes_of

Object = dict[str, Any]

LOOK_S = 1.0  # between passes while something is fetched: progress and speed
IDLE_S = 30.0  # between passes otherwise: mounts come and go without an event
RETRY_S = 5.0  # after a pass or a watch that failed: an API server that restarts, a kind that is not served yet

log = logging.getLogger(__name__)


class Api(Protocol):
    """The Kubernetes API as the agent needs it."""

    async def get(self, collection: str, name: str) -> Object: ...

    async def patch_status(self, collection: str, name: str, status: Object) -> None: ...

    def changes(self, collection: str, name: str) -> AsyncIterator[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """How one agent runs."""

    node: str
    version: str
    is_companion: bool = True  # serve LocalModelNode too, in the place of KServe's own agent
    look_s: float = LOOK_S
    idle_s: float = IDLE_S
    has_own_disk: bool = False  # no kubelet acts on how full it is


@dataclass(slots=True)
class _Written:
    """What the API was told last."""

    status: Object | None = None
    at_s: float = 0.0


class Agent:
    """The agent of one node."""

    def __init__(self, store: Store, api: Api, fetches: Fetches, options: AgentOptions, clock: Clock) -> None:
        self._store = store
        self._api = api
        self._options = options
        self._clock = clock
        self._fetches = fetches
        self._wake = asyncio.Event()
        self._task = NodeTask()
        self._problem = ""
        self._has_cache = False
        self._local: tuple[LocalModel, ...] = ()
        self._kserve_before: Mapping[str, Any] = {}
        self._written = _Written()
        self._shared: Mapping[str, Published] = {}  # by digest
        self.address = ""  # where other agents fetch from us; empty: nowhere
        self.facts: NodeFacts | None = None  # of the last pass: /progress and /metrics show them
        fetches.on_done(self._wake.set)

    async def run(self, stop: asyncio.Event) -> None:
        """Passes until stopped; then fetches end, and what they have stays for the next start."""
        async with asyncio.TaskGroup() as group:
            watches = [group.create_task(self._watch(collection)) for collection in self._collections()]
            stopping = group.create_task(self._wake_at(stop))
            while not stop.is_set():
                went_well = await self._pass_or_complain(group)
                await self._rest(went_well=went_well)
            self._fetches.stop_all()
            for task in (*watches, stopping):
                task.cancel()

    def shared(self, digest: str) -> Published | None:
        """The sound tree of a digest, for other nodes."""
        return self._shared.get(digest)

    def staged_bytes(self, digest: str) -> int | None:
        """How far a fetch is, for other nodes."""
        return self._fetches.staged_bytes(digest)

    def underway(self, digest: str) -> Underway | None:
        """What of it may be given before it is published."""
        return self._fetches.underway(digest)

    async def _pass_or_complain(self, group: asyncio.TaskGroup) -> bool:
        try:
            await self.reconcile(group)
        except ApiError as exc:
            log.warning("the API: %s", exc)
        except CacheError as exc:
            log.warning("%s: %s", exc.reason, exc)
            await self._report_trouble(exc)
        else:
            return True
        return False

    async def reconcile(self, group: asyncio.TaskGroup) -> None:
        """One pass."""
        await self._read()
        now_s = self._clock.now_s()
        self._fetches.look()
        view = await asyncio.to_thread(self._store.look)
        self._shared = {tree.source_digest: tree for key, tree in view.published.items() if not view.faults(key)}
        wishes = wishes_of(
            self._task,
            self._local,
            published=view.published,
            manifests=self._fetches.manifests,
            retry_at_s={key: failure.retry_at_s for key, failure in view.failures.items()},
        )
        view = view.bound_to(wishes.ready)
        wanted = [self._fetches.timed(wish.tree) for wish in wishes.ready]
        todo = plan(wanted, view.inventory, self._limits(view), now_s=now_s)
        await self._report(wishes, view, todo, now_s)
        await self._act(group, wishes, view, todo)

    async def _read(self) -> None:
        """The wishes as they stand; those that cannot be used leave the last good ones in force."""
        node = self._options.node
        try:
            found = await self._api.get(NODE_MODEL_CACHES, node)
            self._has_cache = True
            self._task, self._problem = parse_node_model_cache(found), ""
        except NotThereError:
            self._task, self._has_cache, self._problem = NodeTask(), False, ""
        except InvalidRequestError as exc:
            self._problem = str(exc)
            log.warning("%s", exc)
        if not self._options.is_companion:
            return
        try:
            found = await self._api.get(LOCAL_MODEL_NODES, node)
            self._local = local_models(found)
            self._kserve_before = (found.get("status") or {}).get("modelStatus") or {}
        except NotThereError:
            self._local, self._kserve_before = (), {}

    def _limits(self, view: View) -> Limits:
        task = self._task
        self._fetches.limit(task.bytes_per_s)
        disk = view.disk(quota_bytes=task.quota_bytes, high_ratio=task.high_ratio, low_ratio=task.low_ratio)
        disk = disk.unshared() if self._options.has_own_disk else disk
        return Limits(disk=disk, warm_bytes=task.warm_bytes, given_up=frozenset(task.evict))

    async def _act(self, group: asyncio.TaskGroup, wishes: Wishes, view: View, todo: Plan) -> None:
        """In the plan's order; a fetch that must wait for its turn holds up nothing but other fetches."""
        by_key = {wish.tree.key: wish for wish in wishes.ready}
        self._fetches.stop_others({wish.tree.digest for wish in wishes.ready})
        has_room = await self._make_room(by_key, view, todo)
        for action in todo.actions:
            if action.verb is Verb.FETCH and has_room:
                self._fetches.start(group, by_key[action.key])
            elif action.verb is Verb.WARM:
                self._fetches.warm(group, view.published[action.key])
        self._care(group, by_key, view)
        for ref in wishes.unresolved:
            failure = view.failures.get(ref.storage_key)
            if failure is None or failure.retry_at_s <= self._clock.now_s():
                self._fetches.resolve(group, ref)

    def _care(self, group: asyncio.TaskGroup, by_key: Mapping[str, NodeWish], view: View) -> None:
        """Mend what is wanted and damaged; else read again what nobody read for long."""
        now_s = self._clock.now_s()
        for key, wish in by_key.items():
            failure = view.failures.get(key)
            is_time = failure is None or failure.retry_at_s <= now_s
            if is_time and view.faults(key) and view.published[key].source_digest == wish.tree.digest:
                self._fetches.mend(group, wish, view.published[key])
        if due := view.scrub_due(now_s):
            self._fetches.scrub(group, due)

    async def _make_room(self, by_key: Mapping[str, NodeWish], view: View, todo: Plan) -> bool:
        """Evict and discard; whether all of it could be done: what is fetched next counts on it.

        A tree that the node's label vouches for stays until the controller, which read `Evicting` in our status,
        took the label away and says so.
        """
        is_done = True
        for action in todo.actions:
            wish = by_key.get(action.key)
            is_labelled = wish is not None and wish.is_labelled
            if action.verb is Verb.EVICT and (is_labelled or self._fetches.is_outdated(action.key)):
                is_done = False
            elif action.verb is Verb.EVICT:
                log.info("%s: evicted: %s: %s", action.key, action.cause, action.detail)
                await asyncio.to_thread(self._store.evict, view.published[action.key])
                self._wake.set()  # the disk is another one now
            elif action.verb is Verb.DISCARD and not view.unclaimed and not self._fetches.is_staging(action.digest):
                await asyncio.to_thread(self._store.discard, action.digest)
                self._wake.set()
        return is_done

    async def _report(self, wishes: Wishes, view: View, todo: Plan, now_s: float) -> None:
        for fetch in (*self._fetches.running.values(), *self._fetches.mending.values()):
            fetch.sample(now_s)
        models = facts_of(wishes, view, todo, self._fetches)
        self.facts = NodeFacts(
            models=models,
            room=todo.room,
            capacity_bytes=view.capacity_bytes,
            free_bytes=view.free_bytes,
            generation=self._task.generation,
            agent=self._options.version,
            address=self.address,
            problem=self._problem,
        )
        await self._report_own(self.facts, now_s)
        await self._report_kserve({fact.key: fact for fact in models})

    async def _report_trouble(self, trouble: CacheError) -> None:
        """The disk itself cannot be looked at: say so at once, and that we live; what it held is not known now."""
        now_s = self._clock.now_s()
        self._shared = {}
        self._written = _Written()
        if self._has_cache:
            with contextlib.suppress(ApiError):  # the next pass tells it
                words = {"reason": trouble.reason.value, "time": rfc3339(now_s)}
                await self._api.patch_status(NODE_MODEL_CACHES, self._options.node, words)

    async def _report_own(self, facts: NodeFacts, now_s: float) -> None:
        status, written = node_status(facts, now_s), self._written
        if not self._has_cache or not is_worth_writing(status, written.status, since_s=now_s - written.at_s):
            return
        await self._api.patch_status(NODE_MODEL_CACHES, self._options.node, status)
        written.status, written.at_s = status, now_s

    async def _report_kserve(self, facts: Mapping[str, ModelFact]) -> None:
        status = kserve_status(self._local, facts, self._kserve_before)
        names = status["modelStatus"]
        if any(self._kserve_before.get(name) != state for name, state in names.items()):
            await self._api.patch_status(LOCAL_MODEL_NODES, self._options.node, status)

    async def _watch(self, collection: str) -> None:
        """Wake the passes at every change of our object; anything that goes wrong is tried again."""
        while True:
            with contextlib.suppress(ApiError):  # the passes meet the same trouble, and tell it
                async for _change in self._api.changes(collection, self._options.node):
                    self._wake.set()
            await self._clock.sleep(RETRY_S)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _rest(self, *, went_well: bool) -> None:
        """Until something happens, or it is time to look again."""
        period_s = self._options.look_s if self._fetches.running or self._fetches.mending else self._options.idle_s
        period_s = period_s if went_well else min(period_s, RETRY_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(period_s):
                await self._wake.wait()
        self._wake.clear()

    def _collections(self) -> tuple[str, ...]:
        return (NODE_MODEL_CACHES, LOCAL_MODEL_NODES) if self._options.is_companion else (NODE_MODEL_CACHES,)
