"""`warmtide cache … --cluster` and `--node NAME`: the same words, read from ModelCache and NodeModelCache objects.

Agents verify and evict; people write ModelCaches. So looking reads both kinds, and changing touches ModelCaches only.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cacheops.commands.nodes import NodeView, node_view
from cacheops.commands.output import rows, say, size
from cacheops.commands.steps import actions
from cacheops.errors import FailureReason, InvalidRequestError
from cacheops.guard import shown
from cacheops.model import ModelRef

Object = dict[str, Any]

MODEL_CACHES = "modelcaches"
NODE_MODEL_CACHES = "nodemodelcaches"


class ClusterApi(Protocol):
    """Warmtide's objects in a cluster; failures are CacheErrors."""

    async def list(self, plural: str) -> Sequence[Object]: ...

    async def create(self, plural: str, body: Object) -> None: ...

    async def patch(self, plural: str, body: Object) -> None: ...

    async def delete(self, plural: str, body: Object) -> None: ...


async def list_models(api: ClusterApi, node: str | None) -> int:
    """ModelCaches of the cluster, or the models of one node."""
    if node:
        (view,) = await _views(api, node)
        lines = [model.row() for model in view.models]
        rows(("KEY", "SIZE", "PHASE", "THERE", "WHY", "SOURCE"), lines) if lines else say(f"node {node}: no model")
        return 0
    caches = await _sorted(api)
    lines = [_cache_row(cache) for cache in caches]
    if lines:
        rows(("NAME", "NODES", "SIZE", "PINNED", "WHY", "SOURCE"), lines)
    else:
        say("no ModelCache yet; `warmtide cache prefetch --cluster URI --name NAMESPACE/NAME` makes one")
    return 0


async def du(api: ClusterApi, node: str | None) -> int:
    """Bytes on nodes' disks, as their agents said last."""
    views = await _views(api, node)
    if node:
        (view,) = views
        lines = [(size(model.there_bytes), model.name) for model in view.models]
        rows(("DISK", "WHAT"), [*lines, (size(view.held_bytes), "(all)")])
        return 0
    rows(
        ("NODE", "HELD", "MAY HOLD", "DISK", "FREE"),
        [(v.name, size(v.held_bytes), size(v.limit_bytes), size(v.capacity_bytes), size(v.free_bytes)) for v in views],
    )
    return 0


async def verify(api: ClusterApi, node: str | None) -> int:
    """What agents found wrong; they verify as they fetch and scrub by themselves. Exit code 1 when something is."""
    wrong = 0
    for view in await _views(api, node):
        bad = [model for model in view.models if model.reason == FailureReason.INTEGRITY_MISMATCH]
        for model in bad:
            say(f"{view.name}: {model.name}: {model.reason}: {model.message}")
        wrong += len(bad)
        if not bad:
            ready = sum(model.is_ready for model in view.models)
            say(f"{view.name}: {ready} models verified and published, none damaged")
    return int(wrong > 0)


async def plan(api: ClusterApi, node: str | None, now_s: float) -> int:
    """What agents do next, and why: the agents' own plan, made from what they said last."""
    for view in await _views(api, node):
        todo = view.plan(now_s)
        say(f"node {view.name}: holds {size(todo.room.held_bytes)} and may hold {size(todo.room.high_bytes)}")
        actions(todo.actions, view.name_of)
    return 0


async def prefetch(api: ClusterApi, ref: ModelRef, name: str, *, nodes: int, dry_run: bool) -> int:
    """Make a ModelCache, or ask an existing one for more nodes; the controller places, the agents fetch."""
    namespace, _, plain = name.rpartition("/")
    owner = f"{namespace or 'default'}/{plain}"
    existing = next((cache for cache in await _sorted(api) if _name(cache) == owner), None)
    if existing is None:
        body = _new_cache(namespace or "default", plain, ref, nodes)
        if dry_run:
            say(f"would create: {json.dumps(body)}")
            return 0
        await api.create(MODEL_CACHES, body)
        say(f"{owner}: created, {nodes} nodes wanted; `warmtide cache ls --cluster` shows how far it is")
        return 0
    held = (existing["spec"].get("source") or {}).get("uri")
    if held != ref.uri:
        raise InvalidRequestError(f"ModelCache {owner}: spec.source.uri: is {held}, not {ref.uri}; choose another name")
    now = int((existing["spec"].get("places") or {}).get("min") or 0)
    return await _changed(
        api, existing, {"places": {"min": nodes}}, f"{nodes} nodes wanted (now {now})", dry_run=dry_run
    )


async def pin(api: ClusterApi, words: Sequence[str], *, is_pinned: bool, dry_run: bool) -> int:
    """Set or take spec.pinned of ModelCaches."""
    for cache in _chosen(await _sorted(api), words):
        what = "pinned: agents never evict it" if is_pinned else "not pinned: it goes when its room is needed"
        if bool(cache["spec"].get("pinned")) == is_pinned:
            say(f"{_name(cache)}: {what}, already so")
            continue
        await _changed(api, cache, {"pinned": is_pinned}, what, dry_run=dry_run)
    return 0


async def evict(api: ClusterApi, words: Sequence[str], *, dry_run: bool) -> int:
    """Delete ModelCaches: nodes give the models up, in use ones last. What is pinned stays: exit code 1."""
    views = [node_view(obj) for obj in await api.list(NODE_MODEL_CACHES)]
    refused = 0
    for cache in _chosen(await _sorted(api), words):
        if cache["spec"].get("pinned"):
            say(f"{_name(cache)}: stays: Pinned: `warmtide cache unpin --cluster {_name(cache)}` first")
            refused += 1
            continue
        key = ModelRef(uri=cache["spec"]["source"]["uri"]).storage_key
        there = [(view.name, model) for view in views for model in view.models if model.key == key]
        count_bytes = sum(model.there_bytes for _node, model in there)
        places = ", ".join(node for node, _model in there) or "no node"
        if not dry_run:
            await api.delete(MODEL_CACHES, cache)
        what = f"{size(count_bytes)} on {places} go when room is needed and no pod reads them"
        say(f"{_name(cache)}: {'would be deleted' if dry_run else 'deleted'}; {what}")
    return int(refused > 0)


async def _changed(api: ClusterApi, cache: Object, spec: Object, what: str, *, dry_run: bool) -> int:
    if dry_run:
        say(f"{_name(cache)}: would be patched: {what}")
        return 0
    version = cache["metadata"].get("resourceVersion")  # what was read is what is changed, or nothing is
    metadata = {"name": cache["metadata"]["name"], "namespace": cache["metadata"]["namespace"]}
    await api.patch(MODEL_CACHES, {"metadata": metadata | {"resourceVersion": version}, "spec": spec})
    say(f"{_name(cache)}: {what}")
    return 0


async def _views(api: ClusterApi, node: str | None) -> list[NodeView]:
    views = sorted((node_view(obj) for obj in await api.list(NODE_MODEL_CACHES)), key=lambda view: view.name)
    if node is None:
        if not views:
            say("no NodeModelCache yet: no node has an agent, or no model was placed")
        return views
    chosen = [view for view in views if view.name == node]
    if not chosen:
        there = ", ".join(view.name for view in views[:10]) or "none"
        raise InvalidRequestError(f"node {shown(node)}: has no NodeModelCache; there are: {there}")
    return chosen


async def _sorted(api: ClusterApi) -> list[Object]:
    return sorted(await api.list(MODEL_CACHES), key=_name)


def _chosen(caches: Sequence[Object], words: Sequence[str]) -> list[Object]:
    """The ModelCaches that words mean: NAMESPACE/NAME, NAME in namespace default, or their URI."""
    if not words:
        raise InvalidRequestError("no model is named: give NAMESPACE/NAME of a ModelCache, or its URI")
    return [cache for word in words for cache in _meant(caches, word)]


def _meant(caches: Sequence[Object], word: str) -> list[Object]:
    if "://" in word:
        found = [cache for cache in caches if cache["spec"]["source"]["uri"] == word]
    else:
        owner = word if "/" in word else f"default/{word}"
        found = [cache for cache in caches if _name(cache) == owner]
    if not found:
        there = ", ".join(_name(cache) for cache in caches[:10]) or "none"
        raise InvalidRequestError(f"ModelCache {shown(word)}: there is none; there are: {there}")
    return found


def _name(cache: Mapping[str, Any]) -> str:
    return f"{cache['metadata'].get('namespace', 'default')}/{cache['metadata']['name']}"


def _cache_row(cache: Object) -> tuple[str, ...]:
    spec, status = cache["spec"], cache.get("status") or {}
    pinned = "yes" if spec.get("pinned") else "no"
    why = status.get("reason") or "not seen by a controller yet"
    return (_name(cache), status.get("summary") or "-", status.get("size") or "-", pinned, why, spec["source"]["uri"])


def _new_cache(namespace: str, name: str, ref: ModelRef, nodes: int) -> Object:
    source: Object = {"uri": ref.uri}
    if ref.allow != ModelRef(uri=ref.uri).allow:
        source["allowPatterns"] = list(ref.allow)
    if ref.ignore:
        source["ignorePatterns"] = list(ref.ignore)
    return {
        "apiVersion": "warmtide.dev/v1alpha1",
        "kind": "ModelCache",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": source, "places": {"min": nodes}},
    }
