"""NodeModelCaches as they are written, and patches of node labels."""

import json
from collections.abc import Mapping
from typing import Any

from autoscaler.caching.orders import Order
from autoscaler.caching.values import NodeSeen
from autoscaler.caching.views import TOLD_ANNOTATION
from autoscaler.enrol import MANAGED_BY, MANAGED_BY_LABEL
from autoscaler.kube.resources import NODE_MODEL_CACHES, NODES, Object
from autoscaler.timestamps import rfc3339
from cacheops.model import ALLOW_DEFAULT
from cacheops.place import HOLD_S
from cacheops.tasks import NodeTask, NodeWish


def node_model_cache(order: Order, node: NodeSeen, now_s: float) -> Object:
    """The object of a node; it goes when the node goes."""
    return {
        "apiVersion": NODE_MODEL_CACHES.api_version,
        "kind": NODE_MODEL_CACHES.kind,
        "metadata": {
            "name": node.name,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": told_annotation(order, now_s),
            "ownerReferences": owners(node),
        },
        "spec": spec_of(order.task),
    }


def told_annotation(order: Order, now_s: float) -> dict[str, str]:
    """Since when the node is told what it is told, for the next leader; what is told for long is left out."""
    lately = {key: rfc3339(at_s) for key, at_s in sorted(order.told_at_s.items()) if now_s - at_s < HOLD_S}
    return {TOLD_ANNOTATION: json.dumps(lately)}


def owners(node: NodeSeen) -> list[Object]:
    """The node itself. `blockOwnerDeletion` would ask for a permission on nodes."""
    return [
        {
            "apiVersion": NODES.api_version,
            "kind": NODES.kind,
            "name": node.name,
            "uid": node.uid,
            "controller": False,
            "blockOwnerDeletion": False,
        }
    ]


def spec_of(task: NodeTask) -> Object:
    """A task as `cacheops.config` reads it back."""
    return {
        "models": [_model(wish) for wish in task.wishes],
        "evict": list(task.evict),
        "limits": {
            "quotaBytes": task.quota_bytes,
            "highWatermark": task.high_ratio,
            "lowWatermark": task.low_ratio,
            "bytesPerSecond": int(task.bytes_per_s),
            "warmBytes": task.warm_bytes,
        },
    }


def label_patch(off: frozenset[str] = frozenset(), on: Mapping[str, str] | None = None) -> Object:
    """The merge patch of a node's labels."""
    return {"metadata": {"labels": {name: None for name in sorted(off)} | dict(on or {})}}


def _model(wish: NodeWish) -> Object:
    """Fields at their defaults are left out: an order of 256 models must stay small."""
    tree, ref = wish.tree, wish.ref
    needed = {
        "key": tree.key,
        "uri": ref.uri,
        "revision": ref.revision or "",
        "digest": tree.digest,
        "bytes": tree.size_bytes,
        "need": round(tree.need_ratio, 2),
        "replicas": tree.replicas,
    }
    optional: dict[str, tuple[Any, Any]] = {
        "allowPatterns": (list(ref.allow), list(ALLOW_DEFAULT)),
        "ignorePatterns": (list(ref.ignore), []),
        "refetchSeconds": (tree.refetch_s, None),
        "pinned": (tree.is_pinned, False),
        "due": (tree.is_due, False),
        "allowUnverified": (wish.allow_unverified, False),
        "contentDigest": (wish.content_digest, ""),
        "labelled": (wish.is_labelled, False),
    }
    return needed | {name: value for name, (value, default) in optional.items() if value != default}
