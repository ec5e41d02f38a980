"""What the API holds, as last seen: objects by key and by index, kept fresh by one watch.

Writes go through the mirror, so a controller always sees what it has just done: a created object is
there at once, a deleted one is marked as going until its event arrives. Objects are never changed
in place; treat what you get as read-only.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from simulations.cluster.api import ApiError, Object, ObjectApi, Resource

Key = tuple[str, str]  # namespace, name
Keys = Callable[[Object], Iterable[object]]
Listener = Callable[[Object | None, Object | None], None]  # before, after; None: was not there, is gone

_REMEMBERED_DELETIONS = 20_000  # as many as the embedded server's event log holds: later echoes cannot come


def key_of(obj: Object) -> Key:
    """Namespace and name."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def owner_of(obj: Object) -> str | None:
    """The uid of the controlling owner."""
    for reference in obj["metadata"].get("ownerReferences", ()):
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def is_going(obj: Object) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def by_owner(obj: Object) -> Iterable[object]:
    """Index: the controlling owner's uid."""
    uid = owner_of(obj)
    return () if uid is None else (uid,)


def by_label(obj: Object) -> Iterable[object]:
    """Index: (namespace, label, value) for every label."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "")
    return [(namespace, label, value) for label, value in (metadata.get("labels") or {}).items()]


class _Shelf:
    """All objects of one resource."""

    def __init__(self, indexes: Mapping[str, Keys]) -> None:
        self.objects: dict[Key, Object] = {}
        self.listeners: list[Listener] = []
        self._indexes = indexes
        self._entries: dict[str, dict[object, dict[Key, None]]] = {name: {} for name in indexes}

    def find(self, index: str, key: object) -> list[Object]:
        return [self.objects[found] for found in self._entries[index].get(key, ())]

    def replace(self, key: Key, after: Object | None) -> None:
        """Put or remove, index, and tell the listeners."""
        before = self.objects.pop(key, None)
        for name, keys in self._indexes.items():
            self._reindex(self._entries[name], key, keys(before) if before else (), keys(after) if after else ())
        if after is not None:
            self.objects[key] = after
        for listener in self.listeners:
            listener(before, after)

    @staticmethod
    def _reindex(
        entries: dict[object, dict[Key, None]], key: Key, before: Iterable[object], after: Iterable[object]
    ) -> None:
        old, new = list(before), list(after)
        if old == new:
            return
        for value in old:
            bucket = entries[value]
            bucket.pop(key, None)
            if not bucket:
                del entries[value]
        for value in new:
            entries.setdefault(value, {})[key] = None


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Mirror:
    """A local view of some resources, and the way to write to them."""

    def __init__(self, api: ObjectApi, resources: Mapping[Resource, Mapping[str, Keys]]) -> None:
        self.api = api
        self._shelves = {resource: _Shelf(indexes) for resource, indexes in resources.items()}
        self._kinds = {(resource.api_version, resource.kind): resource for resource in resources}
        self._gone: OrderedDict[str, None] = OrderedDict()  # uids

    @property
    def resources(self) -> Sequence[Resource]:
        return tuple(self._shelves)

    def listen(self, resource: Resource, listener: Listener) -> None:
        """Hear of every change, in order. Listeners only wake others; they never wait."""
        self._shelves[resource].listeners.append(listener)

    # --- reading

    def get(self, resource: Resource, key: Key) -> Object | None:
        return self._shelves[resource].objects.get(key)

    def all(self, resource: Resource) -> list[Object]:
        return list(self._shelves[resource].objects.values())

    def find(self, resource: Resource, index: str, key: object) -> list[Object]:
        """Objects by an index given at the start."""
        return self._shelves[resource].find(index, key)

    # --- following

    async def load(self) -> None:
        """Read everything once, before anybody decides anything; also forget what is there no more."""
        for resource, shelf in self._shelves.items():
            known = {key: obj["metadata"]["uid"] for key, obj in shelf.objects.items()}
            listed = await self.api.list(resource)
            for obj in listed:
                self._put(resource, obj)
            there = {key_of(obj) for obj in listed}
            for key, uid in known.items():
                obj_now = shelf.objects.get(key)
                if key not in there and obj_now is not None and obj_now["metadata"]["uid"] == uid:
                    self._drop(resource, obj_now)

    async def follow(self) -> None:
        """Apply every change, for ever. Reads everything again once the watch stands: nothing falls in between."""
        events: AsyncIterator[Any] = self.api.watch(self.resources)
        is_first = True
        async for event in events:
            resource = self._kinds.get((event.object.get("apiVersion"), event.object.get("kind")))
            if resource is None:
                continue
            if event.type == "DELETED":
                self._drop(resource, event.object)
            else:
                self._put(resource, event.object)
            if is_first:
                is_first = False
                await self.load()

    async def lag(self) -> int:
        """How many objects differ from the API's: 0 when the mirror has seen everything."""
        behind = 0
        for resource, shelf in self._shelves.items():
            listed = {key_of(obj): obj["metadata"]["resourceVersion"] for obj in await self.api.list(resource)}
            seen = {key: obj["metadata"]["resourceVersion"] for key, obj in shelf.objects.items()}
            behind += len(dict(listed.items() ^ seen.items()))
        return behind

    # --- writing

    async def create(self, resource: Resource, obj: Object) -> Object:
        return self._put(resource, await self.api.create(resource, obj))

    async def update(self, resource: Resource, obj: Object, subresource: str = "") -> Object:
        return self._written(resource, await self.api.update(resource, obj, subresource))

    async def patch(self, resource: Resource, key: Key, patch: Object, subresource: str = "") -> Object:
        """JSON merge patch."""
        return self._written(resource, await self.api.patch(resource, *key, patch, subresource))

    async def delete(self, resource: Resource, obj: Object, grace_period_s: int | None = None) -> None:
        """Delete; an object that is not there any more counts as deleted."""
        try:
            await self.api.delete(resource, *key_of(obj), grace_period_s)
        except ApiError as error:
            if error.code != 404:
                raise
            self._drop(resource, obj)
            return
        self._mark_going(resource, obj, grace_period_s)

    def _mark_going(self, resource: Resource, obj: Object, grace_period_s: int | None) -> None:
        key = key_of(obj)
        now = self.get(resource, key)
        if now is None or now["metadata"]["uid"] != obj["metadata"]["uid"] or is_going(now):
            return
        if grace_period_s is None:
            grace_period_s = now.get("spec", {}).get("terminationGracePeriodSeconds", 0)
        # The time is the server's to say; its event brings it within moments.
        going = {"deletionTimestamp": "1970-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_period_s}
        self._shelves[resource].replace(key, {**now, "metadata": {**now["metadata"], **going}})

    def _written(self, resource: Resource, obj: Object) -> Object:
        """Keep an answer, unless it is another kind's (`Scale`)."""
        return self._put(resource, obj) if obj.get("kind", resource.kind) == resource.kind else obj

    def _put(self, resource: Resource, obj: Object) -> Object:
        shelf, key = self._shelves[resource], key_of(obj)
        if obj["metadata"]["uid"] in self._gone:
            return obj
        known = shelf.objects.get(key)
        if known is None or _version(known) < _version(obj):
            shelf.replace(key, obj)
        return obj

    def _drop(self, resource: Resource, obj: Object) -> None:
        key, uid = key_of(obj), obj["metadata"]["uid"]
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED_DELETIONS:
            self._gone.popitem(last=False)
        known = self.get(resource, key)
        if known is not None and known["metadata"]["uid"] == uid:
            self._shelves[resource].replace(key, None)
