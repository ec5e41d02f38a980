"""Keeps the model caches of a cluster: resolve each source once, place models, tell the nodes, say what became of it.

Level-based: events only wake; each pass reads everything that is known and writes what differs. Only the leader's
writes go out.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoscaler.caching.claims import Claim, claims_of, folders_of
from autoscaler.caching.first_use import bound, kept
from autoscaler.caching.gather import Decided, nodes_seen, uses_of
from autoscaler.caching.orders import Order, orders_of
from autoscaler.caching.placing import Plan, assigned_since, plan_places
from autoscaler.caching.report import CacheReport
from autoscaler.caching.resolve import Failed, Resolver
from autoscaler.caching.tell import Teller
from autoscaler.caching.values import Holding, ModelUse, NodeSeen, Resolved
from autoscaler.caching.views import CacheView
from autoscaler.caching.volumes import Volumes, served_tree
from autoscaler.cluster import Cluster
from autoscaler.conditions import Condition
from autoscaler.errors import ApiFailure, NotLeadingError, RetryLaterError
from autoscaler.kube.budget import backoff_s
from cacheops.place import Assignment
from metrics.clock import Clock

# Demand moves with the services' own passes; an event of a cache or a node wakes earlier.
PERIOD_S = 5.0
# Two passes start at least this far apart, and a pass that takes long is followed by a longer rest: at most a tenth
# of the time is spent here, however many models and nodes there are.
SPACING_S = 0.5
REST_RATIO = 9.0
PASS_DEADLINE_S = 60.0
RETRY_FIRST_S = 1.0
RETRY_CAP_S = 60.0
# Nodes and ModelCaches written at once.
WRITES_MAX = 16
# Models times nodes that are placed within some ten milliseconds; more is done in a thread.
INLINE_MAX = 5000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one pass sees and decides."""

    views: Mapping[str, CacheView]  # by namespace/name
    resolved: Mapping[str, Resolved]  # likewise
    claims: Mapping[str, Claim]  # by key
    decided_by: Mapping[str, str]  # ModelCache → the one that decides
    plan: Plan
    nodes: Mapping[str, NodeSeen]
    orders: Sequence[Order]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a keeper works with."""

    resolver: Resolver
    teller: Teller
    volumes: Volumes
    quota_bytes: int | None
    root: str  # the agents' folder on the nodes


class Keeper:
    """The loop over all model caches."""

    def __init__(self, cluster: Cluster, tools: Tools, decided: Decided, clock: Clock) -> None:
        self._cluster = cluster
        self._tools = tools
        self._resolver, self._teller = tools.resolver, tools.teller
        self._decided = decided
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(WRITES_MAX)

    def wake(self) -> None:
        """Something changed: a pass soon."""
        self._changed.set()

    def lead(self) -> None:
        """Leadership came or went: what was believed is old."""
        self._since.clear()
        self._teller.start_over()
        self._tools.volumes.start_over()
        self.wake()

    async def run(self) -> None:
        """Pass after pass, for ever."""
        failures = 0
        async with asyncio.TaskGroup() as resolving:
            while True:
                started_s = self._clock.now_s()
                failures = 0 if await self._went_well(resolving) else failures + 1
                rest_s = max(SPACING_S, REST_RATIO * (self._clock.now_s() - started_s))
                if failures:
                    rest_s = max(rest_s, backoff_s(failures, first_s=RETRY_FIRST_S, cap_s=RETRY_CAP_S, draw=0.5))
                await self._rest(rest_s)

    async def _rest(self, least_s: float) -> None:
        await self._clock.sleep(least_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, PERIOD_S - least_s)):
                await self._changed.wait()
        self._changed.clear()

    async def _went_well(self, resolving: asyncio.TaskGroup) -> bool:
        if not self._teller.may_write():
            return True
        try:
            async with asyncio.timeout(PASS_DEADLINE_S):
                return await self._pass(resolving)
        except NotLeadingError:
            return True
        except (RetryLaterError, TimeoutError) as exc:
            log.warning("model caches: %s", exc or type(exc).__name__)
        except Exception:  # a task's top: scaling must not stop for the caches
            log.exception("model caches: pass failed")
        return False

    async def _pass(self, resolving: asyncio.TaskGroup) -> bool:
        """One pass; whether all writes went well."""
        views = self._teller.newest_caches(self._cluster.model_caches)
        self._ask_sources(views, resolving)
        if not views and not self._cluster.node_orders:
            self._cluster.folders = {}
            return True
        await self._teller.rights.learn()
        found = await self._decide(views)
        went_well = await self._all(self._tell_node(order, found.nodes[order.node]) for order in found.orders)
        volumes = await self._volumes(found)
        reports = await self._all(self._tell_cache(each) for each in self._reports(found, volumes))
        return went_well and reports

    async def _volumes(self, found: Found) -> Mapping[str, Condition]:
        """One claim for each ModelCache that asks for one and whose size is known."""
        trees = [
            served_tree(holding, self._tools.root)
            for claim in found.claims.values()
            for holding in claim.all
            if holding.task.has_volume
        ]
        rights = self._teller.rights
        try:
            return await self._tools.volumes.keep(trees, is_allowed=rights.volumes, has_labels=rights.labels)
        except ApiFailure as exc:
            log.warning("volumes: %s", exc)
            words = f"the API server does not do it: {exc}"
            failed = Condition(type="Volume", status="False", reason="VolumeFailed", message=words)
            return {f"{tree.namespace}/{tree.cache}": failed for tree in trees}

    async def _all(self, writes: Iterable[Coroutine[Any, Any, bool]]) -> bool:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write) for write in writes]
        return all(task.result() for task in tasks)

    async def _tell_node(self, order: Order, node: NodeSeen) -> bool:
        """One node that cannot be written holds up no other."""
        async with self._places:
            try:
                await self._teller.order(order, node)
            except RetryLaterError as exc:
                log.warning("node %s: not told: %s", node.name, exc)
                return False
            return True

    async def _tell_cache(self, report: CacheReport) -> bool:
        async with self._places:
            try:
                await self._teller.status(report, self._clock.now_s())
            except RetryLaterError as exc:
                log.warning("ModelCache %s: status not written: %s", report.view.meta.key, exc)
                return False
            return True

    async def _decide(self, views: Mapping[str, CacheView]) -> Found:
        now_s, cluster = self._clock.now_s(), self._cluster
        nodes = self._teller.newest_nodes(nodes_seen(cluster, views.values(), self._tools.quota_bytes))
        nodes = [node for node in nodes if node.order is not None or views]
        held = [holding for view in views.values() if (holding := self._holding(view)) is not None]
        holdings = [bound(holding, nodes) for holding in held]
        claims, decided_by = claims_of(holdings)
        uses = uses_of(cluster, self._decided)
        cluster.folders = folders_of(claims, decided_by, uses)
        self._since = assigned_since(nodes, self._since, now_s=now_s)
        plan = await self._placed(claims, uses, nodes, now_s)
        orders = orders_of(plan, claims, uses, nodes, has_labels=self._teller.rights.labels)
        return Found(
            views=views,
            resolved={holding.name: holding.resolved for holding in holdings},
            claims=claims,
            decided_by=decided_by,
            plan=plan,
            nodes={node.name: node for node in nodes},
            orders=orders,
        )

    async def _placed(
        self, claims: Mapping[str, Claim], uses: Sequence[ModelUse], nodes: Sequence[NodeSeen], now_s: float
    ) -> Plan:
        """Placing hundreds of models over a thousand nodes takes most of a second: services must not wait for that."""
        if len(claims) * len(nodes) <= INLINE_MAX:
            return plan_places(claims, uses, nodes, self._since, now_s=now_s)
        return await asyncio.to_thread(plan_places, claims, uses, nodes, self._since, now_s=now_s)

    def _ask_sources(self, views: Mapping[str, CacheView], group: asyncio.TaskGroup) -> None:
        self._resolver.forget_all_but({view.meta.uid for view in views.values()})
        for view in views.values():
            is_known = view.resolved is not None and view.resolved.request == view.request
            if view.task is not None and not is_known and self._resolver.is_due(view.meta.uid, view.request):
                self._resolver.start(group, view.task, view.request)

    def _resolved(self, view: CacheView) -> Resolved | None:
        """What is in force: by its status, or what the source has just said."""
        result = self._resolver.result(view.meta.uid, view.request)
        return kept(result, view.resolved) if isinstance(result, Resolved) else view.resolved

    def _holding(self, view: CacheView) -> Holding | None:
        resolved = self._resolved(view)
        if view.task is None or resolved is None:
            return None
        return Holding(task=view.task, created_at_s=view.created_at_s, resolved=resolved)

    def _reports(self, found: Found, volumes: Mapping[str, Condition]) -> Iterator[CacheReport]:
        placement = found.plan.placement
        shortfalls = {shortfall.key: shortfall for shortfall in placement.shortfalls}
        assignments: dict[str, list[Assignment]] = defaultdict(list)
        for assignment in placement.assignments:
            assignments[assignment.key].append(assignment)
        for name, view in found.views.items():
            key = view.task.ref.storage_key if view.task else ""
            result = self._resolver.result(view.meta.uid, view.request)
            is_placed = name not in found.decided_by and key in found.claims
            yield CacheReport(
                view=view,
                resolved=found.resolved.get(name, view.resolved),
                failure=result if isinstance(result, Failed) else None,
                decided_by=found.decided_by.get(name, ""),
                assignments=assignments[key] if is_placed else (),
                shortfall=shortfalls.get(key) if is_placed else None,
                is_expired=key in found.plan.expired,
                nodes=found.nodes,
                labels=self._teller.rights.condition() if is_placed else None,
                volume=volumes.get(name),
            )
