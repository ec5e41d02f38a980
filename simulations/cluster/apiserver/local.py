"""The in-process face of the API server: no network, no access rules, the same objects.

Everything that comes in or goes out is copied, so callers may write to what they get.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from metrics.clock import Clock, WallClock
from simulations.cluster.api import ApiError, Object, Resource, WatchEvent
from simulations.cluster.apiserver.gc import DeleteOptions
from simulations.cluster.apiserver.kinds import Registry
from simulations.cluster.apiserver.known import Known
from simulations.cluster.apiserver.objects import Objects, Patch, Target
from simulations.cluster.apiserver.patches import MERGE_PATCH
from simulations.cluster.apiserver.queries import Feed, ListQuery, list_page
from simulations.cluster.apiserver.selectors import labels_of, matcher
from simulations.cluster.apiserver.store import Store, Stored, copy_json


def typed(resource: Resource, obj: Object) -> Object:
    """The object with its type, which a caller that names the resource may leave out."""
    return {"apiVersion": resource.api_version, "kind": resource.kind} | obj


class LocalApi:
    """ObjectApi on the objects themselves."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @classmethod
    def on_new_store(cls, clock: Clock | None = None, seed: int | None = None) -> "LocalApi":
        """A cluster with nothing in it but its first namespaces."""
        clock = clock or WallClock()
        return cls(Objects(Store(), Registry(), clock.now_s, seed))

    def _target(self, resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> Target:
        kind = self._objects.registry.of(resource)
        return Target(kind, namespace if resource.namespaced else "", name, subresource)

    def _named(self, resource: Resource, obj: Object, subresource: str = "") -> Target:
        metadata = obj.get("metadata") or {}
        namespace = metadata.get("namespace") or ("default" if resource.namespaced else "")
        return self._target(resource, namespace, metadata.get("name") or "", subresource)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return copy_json(self._objects.get(self._target(resource, namespace, name)))

    async def list(
        self, resource: Resource, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        kind = self._objects.registry.of(resource)
        query = ListQuery(namespace=namespace, matcher=matcher(labels_of(labels or {}), ()))
        page = list_page(self._objects.store, self._objects.collection(kind), query)
        return [copy_json(self._objects.view(kind, item)) for item in page.items]

    async def create(self, resource: Resource, obj: Object) -> Object:
        return copy_json(self._objects.create(self._named(resource, obj), typed(resource, copy_json(obj))))

    async def update(self, resource: Resource, obj: Object, subresource: str = "") -> Object:
        return copy_json(self._objects.update(self._named(resource, obj, subresource), copy_json(obj)))

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, subresource: str = ""
    ) -> Object:
        target = self._target(resource, namespace, name, subresource)
        return copy_json(self._objects.patch(target, Patch(MERGE_PATCH, copy_json(patch))))

    async def delete(self, resource: Resource, namespace: str, name: str, grace_period_s: int | None = None) -> None:
        self._objects.delete(self._target(resource, namespace, name), DeleteOptions(grace_s=grace_period_s))

    async def watch(self, resources: Sequence[Resource]) -> AsyncIterator[WatchEvent]:
        """All resources in one order: that of their versions. A resource not (or no longer) served has no objects."""
        watched = [_Watched(self._objects, resource) for resource in resources]
        wake = asyncio.Event()
        try:
            for one in watched:
                one.feed.log.listeners.add(wake)
            while True:
                wake.clear()
                batch = sorted((event for one in watched for event in one.take()), key=lambda pair: pair[0])
                for _, event in batch:
                    yield event
                if not batch:
                    await wake.wait()
        finally:
            for one in watched:
                one.feed.log.listeners.discard(wake)


class _Watched:
    """One resource of a watch, with what the watcher knows of it."""

    def __init__(self, objects: Objects, resource: Resource) -> None:
        self._objects = objects
        self._resource = resource
        self._known = Known()
        collection = objects.store.collection(self._collection())
        self.feed = Feed(collection.log, -1)  # before the log's beginning: the first read lists

    def _collection(self) -> tuple[str, str]:
        resource = self._resource
        core = resource.group == "events.k8s.io" and resource.plural == "events"
        return ("", "events") if core else (resource.group, resource.plural)

    def take(self) -> list[tuple[int, WatchEvent]]:
        try:
            seen = self.feed.take()
        except ApiError:
            return self._relist()
        return [(one.version, self._known.note(WatchEvent(one.change, self._view(one.stored)))) for one in seen]

    def _view(self, stored: Stored) -> Object:
        try:
            kind = self._objects.registry.of(self._resource)
        except ApiError:  # its CRD went; the last events still tell that its objects went too
            return copy_json(stored.object)
        return copy_json(self._objects.view(kind, stored))

    def _relist(self) -> list[tuple[int, WatchEvent]]:
        store = self._objects.store
        items = store.collection(self._collection()).all(None)
        self.feed.position = self.feed.log.position_after(max(store.version, self.feed.log.floor))
        listed = [self._view(item) for item in items]
        return [(int(event.object["metadata"]["resourceVersion"]), event) for event in self._known.replace(listed)]
