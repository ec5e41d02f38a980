"""Claims, services and nodes → which node should hold what. Pure: `cacheops.place` decides, this says what it is told.

A node is a place when its agent has spoken; one whose agent fell silent keeps what it was told.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.caching.claims import Claim
from autoscaler.caching.values import ModelUse, NodeSeen
from cacheops.place import Placement, place
from cacheops.seats import ModelDemand, NodeSeat

# A service that sleeps at zero comes back, nobody knows when: half as sure as one that runs.
NEED_AT_ZERO = 0.5

Since = Mapping[tuple[str, str], float]  # (node, key) → when the node was told to hold it


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One placement, and the models whose time is over."""

    placement: Placement
    expired: frozenset[str]
    need_ratio: Mapping[str, float]  # key → chance that it is needed before long


def plan_places(
    claims: Mapping[str, Claim], uses: Sequence[ModelUse], nodes: Sequence[NodeSeen], since: Since, *, now_s: float
) -> Plan:
    """Place every claim whose time is not over."""
    by_key = _by_key(uses)
    expired = frozenset(key for key, claim in claims.items() if _is_expired(claim, by_key.get(key, ()), nodes, now_s))
    models = [_demand(claim, by_key.get(key, ()), nodes) for key, claim in claims.items() if key not in expired]
    seats = [_seat(node, claims, by_key, since, now_s) for node in nodes if node.order is not None]
    return Plan(
        placement=place(models, seats, now_s=now_s),
        expired=expired,
        need_ratio={model.key: model.need_ratio for model in models},
    )


def assigned_since(nodes: Iterable[NodeSeen], before: Since, *, now_s: float) -> dict[tuple[str, str], float]:
    """What the nodes are told now, and since when; of what an earlier leader told them, as it wrote it down."""
    found = {}
    for node in nodes:
        for key in _told(node):
            written_s = node.order.told_since_s(key) if node.order else None
            since_s = before.get((node.name, key), now_s if written_s is None else written_s)
            found[node.name, key] = min(since_s, now_s)
    return found


def _told(node: NodeSeen) -> tuple[str, ...]:
    task = node.order.task if node.order else None
    return tuple(wish.tree.key for wish in task.wishes) if task else ()


def _by_key(uses: Iterable[ModelUse]) -> dict[str, list[ModelUse]]:
    found: dict[str, list[ModelUse]] = {}
    for use in uses:
        found.setdefault(use.key, []).append(use)
    return found


def _demand(claim: Claim, uses: Sequence[ModelUse], nodes: Sequence[NodeSeen]) -> ModelDemand:
    allowed = _selected(claim, nodes)
    if uses:
        allowed &= frozenset().union(*(use.nodes for use in uses)) | _minimum_places(claim, allowed)
    is_needed = any(use.replicas > 0 or use.is_growing for use in uses)
    return ModelDemand(
        key=claim.holder.key,
        size_bytes=claim.holder.resolved.size_bytes,
        gpus=max((use.gpus for use in uses), default=0),
        nodes=allowed,
        replicas=sum(use.expected for use in uses),
        need_ratio=1.0 if is_needed or not uses else NEED_AT_ZERO,
        copies_min=claim.copies_min,
        copies_max=claim.copies_max,
        is_pinned=claim.is_pinned,
    )


def _minimum_places(claim: Claim, allowed: frozenset[str]) -> frozenset[str]:
    """A service that could run nowhere does not take away the copies that the ModelCache itself asks for."""
    return allowed if claim.copies_min else frozenset()


def _selected(claim: Claim, nodes: Sequence[NodeSeen]) -> frozenset[str]:
    """Nodes that one of the ModelCaches allows."""
    selectors = [holding.task.node_selector for holding in claim.all]
    return frozenset(node.name for node in nodes if any(selects(selector, node) for selector in selectors))


def selects(selector: Mapping[str, str], node: NodeSeen) -> bool:
    """Whether a node has all labels of a selector."""
    return all(node.labels.get(key) == value for key, value in selector.items())


def _is_expired(claim: Claim, uses: Sequence[ModelUse], nodes: Sequence[NodeSeen], now_s: float) -> bool:
    """Nobody runs it or is about to, and its time since the last use is over. What is pinned has no such time."""
    if claim.ttl_s is None or claim.is_pinned or any(use.replicas or use.is_growing or use.running for use in uses):
        return False
    trees = [
        node.order.trees[claim.holder.key] for node in nodes if node.order and claim.holder.key in node.order.trees
    ]
    if any(tree.leases for tree in trees):
        return False
    used_at_s = max([tree.used_at_s for tree in trees if tree.used_at_s is not None], default=0.0)
    return now_s - max(used_at_s, claim.holder.resolved.at_s) > claim.ttl_s


def _seat(
    node: NodeSeen, claims: Mapping[str, Claim], uses: Mapping[str, Sequence[ModelUse]], since: Since, now_s: float
) -> NodeSeat:
    order = node.order
    if order is None:
        raise ValueError(f"node {node.name} has no order")
    cached = {
        key: tree.size_bytes
        for key, tree in order.trees.items()
        if tree.is_published and key in claims and tree.digest == claims[key].holder.resolved.digest
    }
    told = {key: since[node.name, key] for key in _told(node)}
    running = {
        key: count for key, found in uses.items() if (count := sum(use.running.get(node.name, 0) for use in found))
    }
    # What lies there fits, whatever others write to the disk meanwhile; the agent itself makes room when it must.
    held_bytes = sum(size_bytes for key, size_bytes in cached.items() if key in told)
    return NodeSeat(
        name=node.name,
        node_class=node.node_class,
        zone=node.zone,
        gpus=node.gpus,
        free_gpus=node.free_gpus,
        room_bytes=max(order.limit_bytes, held_bytes),
        cached=frozenset(cached),
        assigned=told,
        running=running,
        is_usable=node.is_usable and order.is_heard(now_s),
    )
