"""How objects go: grace for pods, finalizers, owner references, namespaces and CRDs with all they hold.

The real cluster does this in controllers a moment later; here it happens within the deleting call,
so that it is the same in every run. Watchers see the same events in the same order of causes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from simulations.cluster.api import CRDS, NAMESPACES, Object
from simulations.cluster.apiserver.crds import collection_of
from simulations.cluster.apiserver.errors import conflict
from simulations.cluster.apiserver.kinds import Registry
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.apiserver.store import Store, Stored, copy_json

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_NAMESPACES = (NAMESPACES.group, NAMESPACES.plural)
_CRDS = (CRDS.group, CRDS.plural)
_PODS = ("", "pods")
_FINALIZERS = {"Orphan": ORPHAN, "Foreground": FOREGROUND}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """How an object is to go."""

    grace_s: int | None = None
    policy: str = "Background"
    uid: str | None = None
    version: str | None = None


def check_preconditions(registry: Registry, stored: Stored, options: DeleteOptions) -> None:
    """Refuse to delete another object, or another version, than the caller meant."""
    resource = registry.stored(stored.collection).resource
    for what, asked, found, why in (
        ("UID", options.uid, stored.uid, "deleted and then recreated"),
        ("ResourceVersion", options.version, str(stored.version), "modified"),
    ):
        if asked is not None and asked != found:
            raise conflict(
                resource,
                stored.name,
                f"the {what} in the precondition ({asked}) does not match the {what} in record ({found}). "
                f"The object might have been {why}",
            )


class Remover:
    """Takes objects out of a store, and all that goes with them."""

    def __init__(self, store: Store, registry: Registry, now_s: Callable[[], float]) -> None:
        self._store = store
        self._registry = registry
        self._now_s = now_s
        self._orphaned: deque[str] = deque()  # uids of owners that went; a worklist instead of recursion

    def delete(self, stored: Stored, options: DeleteOptions) -> tuple[Stored, bool]:
        """Begin to delete; returns the last version and whether the object is gone."""
        check_preconditions(self._registry, stored, options)
        result = self._begin(stored, options)
        self._collect()
        return result

    def finish_if_due(self, stored: Stored) -> tuple[Stored, bool]:
        """After an update: an object that only waited for its finalizers goes now."""
        if "deletionTimestamp" not in stored.object["metadata"] or not self._is_free(stored):
            return stored, False
        last = self._remove(stored)
        self._collect()
        return last, True

    def collect_if_ownerless(self, stored: Stored) -> None:
        """A new object whose owners have all gone already is garbage, as the real collector finds a moment later."""
        owners = stored.object["metadata"].get("ownerReferences")
        if owners and not any(self._store.by_uid(owner["uid"]) for owner in owners):
            self._begin(stored, DeleteOptions())
            self._collect()

    def _begin(self, stored: Stored, options: DeleteOptions) -> tuple[Stored, bool]:
        grace_s = self._grace_s(stored, options)
        finalizer = _FINALIZERS.get(options.policy)
        if finalizer and self._store.dependents(stored.uid):
            stored = self._mark(stored, grace_s, finalizer)
            self._settle_dependents(stored)
        elif grace_s or self._is_held(stored):
            stored = self._mark(stored, grace_s, None)
            self._empty(stored)
        else:
            return self._remove(stored), True
        current = self._store.by_uid(stored.uid)
        if current is not None and self._is_free(current):
            return self._remove(current), True
        return current or stored, current is None

    def _grace_s(self, stored: Stored, options: DeleteOptions) -> int:
        """Pods on a node get time to end; everything else goes at once."""
        obj = stored.object
        if stored.collection != _PODS or not obj["spec"].get("nodeName"):
            return 0
        if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        default: int = obj["spec"].get("terminationGracePeriodSeconds", 30)
        asked = default if options.grace_s is None else max(0, options.grace_s)
        before = obj["metadata"].get("deletionGracePeriodSeconds")
        return asked if before is None else min(asked, before)

    def _mark(self, stored: Stored, grace_s: int, finalizer: str | None) -> Stored:
        metadata = dict(stored.object["metadata"])
        first = "deletionTimestamp" not in metadata
        if first or grace_s < metadata.get("deletionGracePeriodSeconds", 0):
            metadata["deletionTimestamp"] = timestamp(self._now_s() + grace_s)
            metadata["deletionGracePeriodSeconds"] = grace_s
        if first and "generation" in metadata:
            metadata["generation"] += 1
        if finalizer and finalizer not in metadata.get("finalizers", ()):
            metadata["finalizers"] = [*metadata.get("finalizers", ()), finalizer]
        if metadata == stored.object["metadata"]:
            return stored
        changed = stored.object | {"metadata": metadata}
        if stored.collection == _NAMESPACES:
            changed["status"] = changed.get("status", {}) | {"phase": "Terminating"}
        return self._put(stored, changed)

    def _put(self, stored: Stored, changed: Object) -> Stored:
        return self._store.put(stored.collection, copy_json(changed))

    def _is_free(self, stored: Stored) -> bool:
        """Whether an object that is going may go now: nothing holds it and it has no time left."""
        return not self._is_held(stored) and not stored.object["metadata"].get("deletionGracePeriodSeconds")

    def _is_held(self, stored: Stored) -> bool:
        """Whether finalizers, or what a namespace or a CRD holds, keep the object."""
        if stored.object["metadata"].get("finalizers"):
            return True
        if stored.collection == _NAMESPACES:
            return not self._store.is_namespace_empty(stored.name)
        if stored.collection == _CRDS:
            return bool(self._store.collection(collection_of(stored.object)).items)
        return False

    def _empty(self, stored: Stored) -> None:
        """Delete what a namespace or a CRD holds."""
        if stored.collection == _NAMESPACES:
            contents = self._store.in_namespace(stored.name)
        elif stored.collection == _CRDS:
            contents = self._store.collection(collection_of(stored.object)).all(None)
        else:
            return
        for item in contents:
            if self._store.by_uid(item.uid) is item:
                self._begin(item, DeleteOptions())

    def _remove(self, stored: Stored) -> Stored:
        last = self._store.remove(stored)
        if stored.collection == _CRDS:
            self._registry.unregister(collection_of(stored.object))
        self._orphaned.append(stored.uid)
        self._release_holders(stored)
        return last

    def _release_holders(self, stored: Stored) -> None:
        """Owners in foreground deletion, the namespace and the CRD may have waited for just this object."""
        for owner in stored.object["metadata"].get("ownerReferences", ()):
            self._release(self._store.by_uid(owner["uid"]))
        if stored.namespace:
            self._release(self._store.get(_NAMESPACES, "", stored.namespace))
        self._release(self._store.get(_CRDS, "", f"{stored.collection[1]}.{stored.collection[0]}"))

    def _release(self, holder: Stored | None) -> None:
        if holder is None or "deletionTimestamp" not in holder.object["metadata"]:
            return
        if FOREGROUND in holder.object["metadata"].get("finalizers", ()) and not self._blockers(holder):
            holder = self._without_finalizer(holder, FOREGROUND)
        if self._is_free(holder):
            self._remove(holder)

    def _blockers(self, owner: Stored) -> list[Stored]:
        return [
            child
            for child in self._store.dependents(owner.uid)
            if any(
                ref["uid"] == owner.uid and ref.get("blockOwnerDeletion")
                for ref in child.object["metadata"]["ownerReferences"]
            )
        ]

    def _without_finalizer(self, stored: Stored, finalizer: str) -> Stored:
        metadata = dict(stored.object["metadata"])
        metadata["finalizers"] = [name for name in metadata["finalizers"] if name != finalizer]
        if not metadata["finalizers"]:
            del metadata["finalizers"]
        return self._put(stored, stored.object | {"metadata": metadata})

    def _settle_dependents(self, owner: Stored) -> None:
        """What the Orphan and Foreground policies do with the dependents of a marked owner."""
        finalizers = owner.object["metadata"].get("finalizers", ())
        for child in self._store.dependents(owner.uid):
            if ORPHAN in finalizers:
                self._disown(child, owner.uid)
            else:
                self._begin(child, DeleteOptions(policy="Foreground"))
        current = self._store.by_uid(owner.uid)
        if current is not None and ORPHAN in finalizers:
            current = self._without_finalizer(current, ORPHAN)
        self._release(current)

    def _disown(self, child: Stored, uid: str) -> Stored:
        metadata = dict(child.object["metadata"])
        metadata["ownerReferences"] = [ref for ref in metadata["ownerReferences"] if ref["uid"] != uid]
        if not metadata["ownerReferences"]:
            del metadata["ownerReferences"]
        return self._put(child, child.object | {"metadata": metadata})

    def _collect(self) -> None:
        """Dependents of what went: those with another living owner stay, the others go."""
        while self._orphaned:
            uid = self._orphaned.popleft()
            for child in self._store.dependents(uid):
                owners = child.object["metadata"]["ownerReferences"]
                if any(self._store.by_uid(owner["uid"]) for owner in owners):
                    self._disown(child, uid)
                else:
                    self._begin(child, DeleteOptions())
