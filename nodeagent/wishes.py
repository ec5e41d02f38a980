"""What this node should hold, from NodeModelCache and, in companion mode, from KServe's LocalModelNode. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cacheops.config import NodeTask, NodeWish
from cacheops.errors import CacheError
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest, ModelRef, storage_key
from cacheops.stock import WantedTree
from cacheops.uri import model_ref

MODELS_MAX = 1024  # of a LocalModelNode; a list that long is a mistake, and the rest is not read


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """One entry of LocalModelNode.spec.localModels."""

    name: str  # its key in the status: modelName or namespace/modelName
    uri: str

    @property
    def key(self) -> str:
        """The folder: KServe hashes the URI verbatim."""
        return storage_key(self.uri)


def local_models(obj: Mapping[str, Any]) -> tuple[LocalModel, ...]:
    """What KServe's controller wants here; several names may share one URI."""
    entries = (obj.get("spec") or {}).get("localModels") or []
    return tuple(
        LocalModel(
            name=f"{entry['namespace']}/{entry['modelName']}" if entry.get("namespace") else str(entry["modelName"]),
            uri=str(entry["sourceModelUri"]),
        )
        for entry in entries[:MODELS_MAX]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Everything that is wanted: what can be fetched, and what must be resolved first."""

    ready: tuple[NodeWish, ...]
    unresolved: tuple[ModelRef, ...]
    unusable: Mapping[str, str]  # key → why


def wishes_of(
    task: NodeTask,
    local: tuple[LocalModel, ...],
    *,
    published: Mapping[str, Published],
    manifests: Mapping[str, ModelManifest],
    retry_at_s: Mapping[str, float],
) -> Wishes:
    """Join both; for the same model the NodeModelCache counts: it names a revision."""
    ready = {wish.tree.key: _delayed(wish, retry_at_s) for wish in task.wishes}
    unresolved: dict[str, ModelRef] = {}
    unusable: dict[str, str] = {}
    for model in local:
        if model.key in ready or model.key in unresolved or model.key in unusable:
            continue
        try:
            ref = model_ref(model.uri)
        except CacheError as exc:
            unusable[model.key] = str(exc)
            continue
        # What is published was resolved once and stays: a branch that moved on is no reason to fetch again.
        if tree := published.get(model.key):
            ready[model.key] = _companion(ref, tree.source_digest, tree.manifest.bytes, 0.0)
        elif manifest := manifests.get(model.key):
            ready[model.key] = _companion(ref, manifest.digest, manifest.bytes, retry_at_s.get(model.key, 0.0))
        else:
            unresolved[model.key] = ref
    return Wishes(ready=tuple(ready.values()), unresolved=tuple(unresolved.values()), unusable=unusable)


def _delayed(wish: NodeWish, retry_at_s: Mapping[str, float]) -> NodeWish:
    return replace(wish, tree=replace(wish.tree, retry_at_s=retry_at_s.get(wish.tree.key, 0.0)))


def _companion(ref: ModelRef, digest: str, size_bytes: int, retry_at_s: float) -> NodeWish:
    """KServe's wishes say neither what they are worth, so each is sure to be needed, nor how sure bytes must be."""
    tree = WantedTree(key=ref.storage_key, digest=digest, size_bytes=size_bytes, retry_at_s=retry_at_s)
    return NodeWish(ref=ref, tree=tree, allow_unverified=True)
