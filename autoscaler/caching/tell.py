"""Orders and statuses written to the API, each only when it differs from what is there.

What we wrote ourselves counts until the watch shows something newer; else each pass before the watch's answer would
write again.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from autoscaler.caching.documents import label_patch, node_model_cache, owners, spec_of, told_annotation
from autoscaler.caching.orders import Order, is_urgent
from autoscaler.caching.report import CacheReport, events_for, render
from autoscaler.caching.rights import Rights
from autoscaler.caching.values import NodeOrder, NodeSeen
from autoscaler.caching.views import CacheView, cache_view, order_view
from autoscaler.enrol import Subject, Target
from autoscaler.errors import Conflict, Forbidden, NotFound
from autoscaler.kube.publish import Publisher
from autoscaler.kube.resources import MODEL_CACHES, NODE_MODEL_CACHES, NODES, Object
from autoscaler.kube.writer import Writer
from autoscaler.service import is_newer
from autoscaler.status_changes import status_patch
from metrics.clock import Clock

# What a model is worth on a node moves all the time, and the agent only weighs it when room gets short.
WORTH_SPACING_S = 300.0

log = logging.getLogger(__name__)


class Teller:
    """Writes NodeModelCaches, node labels, ModelCache statuses and Events."""

    def __init__(self, writer: Writer, publisher: Publisher, clock: Clock) -> None:
        self.clock = clock
        self.rights = Rights(writer, clock)
        self._writer = writer
        self._publisher = publisher
        self._caches: dict[str, CacheView] = {}
        self._orders: dict[str, NodeOrder] = {}
        self._labels: dict[str, tuple[Mapping[str, str], dict[str, str]]] = {}  # as watched → as we left them
        self._worth_at_s: dict[str, float] = {}

    def may_write(self) -> bool:
        """Whether this replica leads."""
        return self._writer.may_write()

    def start_over(self) -> None:
        """Another replica may have written meanwhile."""
        for table in (self._caches, self._orders, self._labels, self._worth_at_s):
            table.clear()
        self.rights.start_over()

    def newest_caches(self, watched: Mapping[str, CacheView]) -> dict[str, CacheView]:
        """ModelCaches as they stand, our own status writes included."""
        return {key: self._newest_cache(key, view) for key, view in watched.items() if not view.meta.is_deleted}

    def newest_nodes(self, nodes: Iterable[NodeSeen]) -> list[NodeSeen]:
        """Nodes with the orders and labels that stand, our own writes included."""
        return [replace(node, order=self._newest_order(node), labels=self._newest_labels(node)) for node in nodes]

    async def order(self, order: Order, node: NodeSeen) -> None:
        """Labels off, then the order, then labels on."""
        if order.labels_off:
            await self._label(node, label_patch(off=order.labels_off))
        if self._is_due(order, node):
            now_s = self.clock.now_s()
            self._orders[node.name] = order_view(await self._write(order, node, now_s))
            self._worth_at_s[node.name] = now_s
        if order.labels_on:
            await self._label(node, label_patch(on=order.labels_on))

    async def status(self, report: CacheReport, now_s: float) -> None:
        """Write a ModelCache's status, and the Events that the change is worth."""
        view = report.view
        before = view.status
        status: Mapping[str, Any] = render(report, before, now_s)
        if status == before:
            return
        path = MODEL_CACHES.path(view.meta.namespace, view.meta.name, "status")
        try:
            written = await self._writer.patch(path, {"status": status_patch(before, status)})
        except NotFound:
            return  # deleted meanwhile
        self._caches[view.meta.key] = cache_view(written)
        for notice in events_for(before, status):
            await self._publisher.send(_target(view), notice, now_s)

    def _is_due(self, order: Order, node: NodeSeen) -> bool:
        known = node.order
        if known is None or known.owner_uid != node.uid:
            return True
        before = replace(known.task, generation=0) if known.task else None
        if before == order.task:
            return False
        now_s = self.clock.now_s()
        # A new leader does not know when the last was written: as if just now, not all nodes at once.
        is_old = now_s - self._worth_at_s.setdefault(node.name, now_s) >= WORTH_SPACING_S
        return is_old or is_urgent(order.task, before)

    async def _write(self, order: Order, node: NodeSeen, now_s: float) -> Object:
        path = NODE_MODEL_CACHES.path(name=node.name)
        owned: Object = {"metadata": {"ownerReferences": owners(node)}}
        try:
            if node.order is not None:
                metadata = {"annotations": told_annotation(order, now_s)}
                is_orphan = node.order.owner_uid != node.uid
                metadata |= owned["metadata"] if is_orphan else {}
                return await self._writer.patch(path, {"metadata": metadata, "spec": spec_of(order.task)})
        except NotFound:
            log.info("NodeModelCache %s is gone: it is made anew", node.name)
        try:
            return await self._writer.create(NODE_MODEL_CACHES.path(), node_model_cache(order, node, now_s))
        except Conflict:
            # The watch has not told us yet. What it says is what the node was told: an order made without knowing
            # that would take it all away. The next pass knows it.
            return await self._writer.patch(path, owned)

    async def _label(self, node: NodeSeen, patch: Object) -> None:
        try:
            written = await self._writer.patch(NODES.path(name=node.name), patch)
        except Forbidden as exc:
            self.rights.deny_labels()
            log.info("node %s: labels are off: %s", node.name, exc)
            raise
        watched = self._labels.get(node.name, (node.labels, {}))[0]
        self._labels[node.name] = (watched, dict(written["metadata"].get("labels") or {}))

    def _newest_cache(self, key: str, watched: CacheView) -> CacheView:
        ours = self._caches.get(key)
        if ours is None or ours.meta.uid != watched.meta.uid or not is_newer(ours.meta.version, watched.meta.version):
            self._caches.pop(key, None)
            return watched
        return ours

    def _newest_order(self, node: NodeSeen) -> NodeOrder | None:
        ours, watched = self._orders.get(node.name), node.order
        if ours is None or (watched is not None and not is_newer(ours.version, watched.version)):
            self._orders.pop(node.name, None)
            return watched
        return ours

    def _newest_labels(self, node: NodeSeen) -> Mapping[str, str]:
        watched, ours = self._labels.get(node.name, (node.labels, node.labels))
        if watched is not node.labels:  # the watch has told something since
            del self._labels[node.name]
            return node.labels
        return ours


def _target(view: CacheView) -> Target:
    """The ModelCache as the object of an Event."""
    meta = view.meta
    subject = Subject(
        api_version=MODEL_CACHES.api_version,
        kind=MODEL_CACHES.kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
    )
    return Target(key=f"{MODEL_CACHES.kind} {meta.key}", subject=subject)
