"""Bytes that nobody vouches for: what the first node found counts for every other. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from autoscaler.caching.values import Holding, NodeSeen, Resolved


def bound(holding: Holding, nodes: Sequence[NodeSeen]) -> Holding:
    """With the digest of the bytes of the first node, by name, of those that have them; until then, without."""
    resolved = holding.resolved
    if not resolved.unsworn or resolved.content_digest:
        return holding
    trees = (node.order.trees.get(holding.key) for node in sorted(nodes, key=lambda node: node.name) if node.order)
    found = (tree.content_digest for tree in trees if tree and tree.is_published and tree.digest == resolved.digest)
    return replace(holding, resolved=replace(resolved, content_digest=next(filter(None, found), "")))


def kept(resolved: Resolved, before: Resolved | None) -> Resolved:
    """A source's list with what nodes were bound to under the same request."""
    is_same = before is not None and (before.request, before.digest) == (resolved.request, resolved.digest)
    return replace(resolved, content_digest=before.content_digest) if before and is_same else resolved
