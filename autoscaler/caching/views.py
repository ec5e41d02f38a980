"""What the controller keeps of ModelCaches, NodeModelCaches and LocalModelNodeGroups that it watches."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.caching.values import NodeOrder, Resolved, TreeSeen
from autoscaler.kube.resources import Object
from autoscaler.kube.views import Meta, at_s, meta_of
from autoscaler.timestamps import unix_s
from cacheops.config import parse_model_cache, parse_node_model_cache
from cacheops.errors import InvalidRequestError
from cacheops.provision import size_bytes
from cacheops.tasks import CacheTask

# Any new value of this annotation has the source resolved again: a branch that moved on, and should.
RESOLVE_ANNOTATION = "warmtide.dev/resolve"
# On a NodeModelCache: since when, by key in JSON, the node is told what it is told. A new leader holds on to what the
# old one placed a moment ago for as long as that one would have.
TOLD_ANNOTATION = "warmtide.dev/told"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheView:
    """A ModelCache. `task` is None when its spec cannot be used; `problem` says why."""

    meta: Meta
    created_at_s: float
    task: CacheTask | None
    problem: str
    status: Object

    @property
    def request(self) -> str:
        """Hash of what is to be resolved: it changes with the source, not with places or pins."""
        if self.task is None:
            return ""
        ref, again = self.task.ref, self.meta.annotations.get(RESOLVE_ANNOTATION)
        asked = [ref.uri, ref.revision, ref.allow, ref.ignore, self.task.allow_unverified, again]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    @property
    def digest(self) -> str:
        """Of what it was resolved to; empty: it was not."""
        return str((self.status.get("resolved") or {}).get("digest") or "")

    @property
    def resolved(self) -> Resolved | None:
        """What it was resolved to, by its status."""
        found = self.status.get("resolved")
        return _resolved(found) if isinstance(found, Mapping) and found.get("digest") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A LocalModelNodeGroup: which nodes are in it, and how much its models may take on each."""

    name: str
    terms: tuple[Mapping[str, Any], ...]  # of the volume's required node affinity; any of them
    limit_bytes: int


def cache_view(obj: Object) -> CacheView:
    """A ModelCache's view."""
    task, problem = None, ""
    try:
        task = parse_model_cache(obj)
    except InvalidRequestError as exc:
        problem = str(exc)
    return CacheView(
        meta=meta_of(obj),
        created_at_s=at_s(obj["metadata"].get("creationTimestamp")) or 0.0,
        task=task,
        problem=problem,
        status=obj.get("status") or {},
    )


def order_view(obj: Object) -> NodeOrder:
    """A NodeModelCache's view."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    try:
        task = parse_node_model_cache(obj)
    except InvalidRequestError:
        task = None
    trees = [_tree(model) for model in status.get("models") or ()]
    owners = [ref.get("uid", "") for ref in metadata.get("ownerReferences") or () if ref.get("kind") == "Node"]
    return NodeOrder(
        name=metadata["name"],
        version=metadata.get("resourceVersion", ""),
        task=task,
        owner_uid=owners[0] if owners else "",
        observed_generation=int(status.get("observedGeneration") or 0),
        heard_at_s=at_s(status.get("time")),
        limit_bytes=int((status.get("disk") or {}).get("limitBytes") or 0),
        trees={tree.key: tree for tree in trees},
        told_at_s=_told_at_s((metadata.get("annotations") or {}).get(TOLD_ANNOTATION)),
    )


def group_view(obj: Object) -> GroupView:
    """A LocalModelNodeGroup's view."""
    spec = obj.get("spec") or {}
    affinity = (spec.get("persistentVolumeSpec") or {}).get("nodeAffinity") or {}
    return GroupView(
        name=obj["metadata"]["name"],
        terms=tuple((affinity.get("required") or {}).get("nodeSelectorTerms") or ()),
        limit_bytes=size_bytes(str(spec.get("storageLimit") or "0")),
    )


def _told_at_s(text: object) -> Mapping[str, float] | None:
    """The annotation; what cannot be read was not written down."""
    try:
        found = json.loads(str(text))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    times = {key: unix_s(value) for key, value in found.items()}
    return None if None in times.values() else {key: time for key, time in times.items() if time is not None}


def _resolved(found: Mapping[str, Any]) -> Resolved:
    return Resolved(
        request=str(found.get("request", "")),
        revision=str(found.get("revision", "")),
        digest=str(found["digest"]),
        files=int(found.get("files", 0)),
        size_bytes=int(found.get("bytes", 0)),
        unsworn=int(found.get("unsworn", 0)),
        at_s=at_s(found.get("time")) or 0.0,
        content_digest=str(found.get("contentDigest", "")),
    )


def _tree(model: Mapping[str, Any]) -> TreeSeen:
    return TreeSeen(
        key=str(model.get("key", "")),
        phase=str(model.get("phase", "")),
        digest=str(model.get("digest", "")),
        reason=str(model.get("reason", "")),
        message=str(model.get("message", "")),
        size_bytes=int(model.get("bytes", 0)),
        fetched_bytes=int(model.get("fetchedBytes", 0)),
        fetch_s=model.get("fetchSeconds"),
        remaining_s=model.get("remainingSeconds"),
        used_at_s=at_s(model.get("lastUsed")),
        leases=int(model.get("leases", 0)),
        content_digest=str(model.get("contentDigest", "")),
    )
