"""A placement → the order to each node, and the node's labels, in the sequence that nobody can misread. Pure.

A label promises weights to the scheduler, so it must be gone before the bytes may go:

1. labels of trees that are not wanted, not whole or about to go are taken away;
2. only then the order is written: what it no longer lists, or no longer marks `labelled`, the agent may evict;
3. labels are put on trees that the order marks, once the agent has read that order.

Hence at any moment a node's labels are a subset of what its order marks (tests/autoscaler/caching/test_laws.py).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from autoscaler.caching.claims import Claim
from autoscaler.caching.placing import Plan
from autoscaler.caching.values import ModelUse, NodeSeen, Phase
from cacheops.place import Assignment
from cacheops.provision import MODEL_LABEL_PREFIX
from cacheops.stock import WantedTree
from cacheops.tasks import NodeTask, NodeWish

_LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one node is told."""

    node: str
    task: NodeTask
    labels_off: frozenset[str] = frozenset()  # label keys to take away first
    labels_on: Mapping[str, str] = field(default_factory=dict)  # to put on last
    told_at_s: Mapping[str, float] = field(default_factory=dict)  # by key: since when it is told


def orders_of(
    plan: Plan, claims: Mapping[str, Claim], uses: Sequence[ModelUse], nodes: Sequence[NodeSeen], *, has_labels: bool
) -> tuple[Order, ...]:
    """What each node is told."""
    by_node: dict[str, list[Assignment]] = {node.name: [] for node in nodes}
    for assignment in plan.placement.assignments:
        by_node[assignment.node].append(assignment)
    desk = _Desk(claims, plan, _due(uses, nodes), _fetch_s(claims, nodes), has_labels)
    return tuple(desk.order(node, by_node[node.name]) for node in nodes)


def label_of(key: str) -> str:
    """The label of a node that holds a model."""
    return f"{MODEL_LABEL_PREFIX}{key}"


def label_value(revision: str, digest: str) -> str:
    """The revision where it can be a label's value; else the digest's beginning."""
    return revision if _LABEL_VALUE.match(revision) else digest[:16]


def model_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Those of a node's labels that are ours."""
    return {name: value for name, value in labels.items() if name.startswith(MODEL_LABEL_PREFIX)}


def is_urgent(task: NodeTask, before: NodeTask | None) -> bool:
    """Whether a changed order cannot wait: anything but what the models are worth."""
    return before is None or _without_worth(task) != _without_worth(before)


class _Desk(NamedTuple):
    """What all orders of a pass have in common."""

    claims: Mapping[str, Claim]
    plan: Plan
    due: Mapping[str, frozenset[str]]  # key → nodes on which a replica starts
    fetch_s: Mapping[str, float]  # key → what a fetch takes
    has_labels: bool

    def order(self, node: NodeSeen, assignments: Sequence[Assignment]) -> Order:
        """What one node is told."""
        before = (node.order.task if node.order else None) or NodeTask()
        wishes = [self._wish(node, assignment) for assignment in sorted(assignments, key=lambda each: each.key)]
        kept = {wish.tree.key for wish in wishes}
        trees = node.order.trees if node.order else {}
        task = replace(
            before,
            wishes=tuple(wishes),
            evict=tuple(sorted(key for key in trees if key in self.plan.expired and key not in kept)),
            quota_bytes=before.quota_bytes if node.quota_bytes is None else node.quota_bytes,
            generation=0,
        )
        told_at_s = {assignment.key: assignment.since_s for assignment in assignments}
        return self._labelled(Order(node=node.name, task=task, told_at_s=told_at_s), node)

    def _labelled(self, order: Order, node: NodeSeen) -> Order:
        if not self.has_labels:
            return order
        deserved = {
            label_of(wish.tree.key): self._vouched(node, wish.tree.key)
            for wish in order.task.wishes
            if wish.is_labelled
        }
        there = model_labels(node.labels)
        known = {label_of(key) for key in (node.order.acknowledged if node.order else ())}
        return replace(
            order,
            labels_off=frozenset(name for name, value in there.items() if deserved.get(name) != value),
            labels_on={name: value for name, value in deserved.items() if name in known and there.get(name) != value},
        )

    def _wish(self, node: NodeSeen, assignment: Assignment) -> NodeWish:
        claim = self.claims[assignment.key]
        task, resolved = claim.holder.task, claim.holder.resolved
        tree = node.order.trees.get(assignment.key) if node.order else None
        return NodeWish(
            ref=replace(task.ref, revision=resolved.revision or None),
            tree=WantedTree(
                key=assignment.key,
                digest=resolved.digest,
                size_bytes=resolved.size_bytes,
                need_ratio=self.plan.need_ratio[assignment.key],
                # What a node measured itself its agent knows.
                refetch_s=None if tree and tree.fetch_s is not None else self.fetch_s.get(assignment.key),
                replicas=max(1, assignment.replicas),
                is_pinned=claim.is_pinned,
                is_due=node.name in self.due.get(assignment.key, ()),
            ),
            allow_unverified=any(holding.task.allow_unverified for holding in claim.all),
            content_digest=resolved.content_digest,
            is_labelled=self.has_labels and bool(self._vouched(node, assignment.key)),
        )

    def _vouched(self, node: NodeSeen, key: str) -> str:
        """The value of the label that a node deserves for a model; empty: none."""
        resolved = self.claims[key].holder.resolved
        tree = node.order.trees.get(key) if node.order else None
        if tree is None or tree.phase != Phase.READY or tree.digest != resolved.digest:
            return ""
        return label_value(resolved.revision, resolved.digest)


def _due(uses: Sequence[ModelUse], nodes: Sequence[NodeSeen]) -> dict[str, frozenset[str]]:
    """Where a replica of each model starts, or may start in a moment: its bytes belong into the page cache."""
    found: dict[str, frozenset[str]] = {}
    for use in uses:
        soon = {node.name for node in nodes if node.name in use.nodes and node.free_gpus >= max(1, use.gpus)}
        here = use.starting | (soon if use.is_growing else set())
        found[use.key] = found.get(use.key, frozenset()) | here
    return found


def _fetch_s(claims: Mapping[str, Claim], nodes: Sequence[NodeSeen]) -> dict[str, float]:
    """The median of what nodes measured for the revision in force, in two digits: not each new one is news."""
    found: dict[str, float] = {}
    for key, claim in claims.items():
        trees = [node.order.trees[key] for node in nodes if node.order and key in node.order.trees]
        digest = claim.holder.resolved.digest
        measured_s = sorted(tree.fetch_s for tree in trees if tree.fetch_s is not None and tree.digest == digest)
        if measured_s:
            found[key] = float(f"{measured_s[len(measured_s) // 2]:.2g}")
    return found


def _without_worth(task: NodeTask) -> NodeTask:
    wishes = tuple(
        replace(wish, tree=replace(wish.tree, need_ratio=1.0, replicas=1, refetch_s=None)) for wish in task.wishes
    )
    return replace(task, wishes=wishes, generation=0)
