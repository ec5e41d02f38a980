"""The verbs on objects: create, update, patch, delete with all the server's rules, on the store.

Synchronous: each call is one transaction. Objects passed in belong to this module afterwards;
objects returned belong to the store and must not be changed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from simulations.cluster.api import CRDS, NAMESPACES, PODS, ApiError, Object
from simulations.cluster.apiserver import builtin, events
from simulations.cluster.apiserver.admission import UnknownFields, admit, check_preconditions, check_type
from simulations.cluster.apiserver.crds import established, kinds_of
from simulations.cluster.apiserver.errors import (
    Cause,
    already_exists,
    bad_request,
    invalid,
    namespace_terminating,
    no_such_path,
    not_found,
)
from simulations.cluster.apiserver.gc import DeleteOptions, Remover
from simulations.cluster.apiserver.kinds import Kind, Registry, ScalePaths
from simulations.cluster.apiserver.metadata import keep_server_fields, stamp_new, timestamp
from simulations.cluster.apiserver.patches import apply_patch
from simulations.cluster.apiserver.scale import scale_of, with_scale
from simulations.cluster.apiserver.shapes import check_scale_shape
from simulations.cluster.apiserver.store import Store, Stored, copy_json

FIRST_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(frozen=True, slots=True)
class Target:
    """Which object, and which part of it, a request is about."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch as it came."""

    media_type: str
    body: object


class Objects:
    """The cluster's objects under the server's rules."""

    def __init__(self, store: Store, registry: Registry, now_s: Callable[[], float], seed: int | None = None) -> None:
        self.store = store
        self.registry = registry
        self._now_s = now_s
        self._random = random.Random(seed)
        self._remover = Remover(store, registry, now_s)
        self._events = events.EventBudget(store)
        for name in FIRST_NAMESPACES:
            self.create(Target(registry.of(NAMESPACES)), {"metadata": {"name": name}})

    def view(self, kind: Kind, stored: Stored) -> Object:
        """A stored object as this version of its kind shows it."""
        if kind.collection == events.NEW:
            return events.from_core(stored.object)
        if kind.resource.version != kind.storage_version:
            return stored.object | {"apiVersion": kind.resource.api_version}
        return stored.object

    def get(self, target: Target) -> Object:
        found = self.view(target.kind, self.existing(target))
        return scale_of(target.kind, self._scale_paths(target), found) if target.subresource == "scale" else found

    def existing(self, target: Target) -> Stored:
        """The stored object, or 404."""
        self._check_subresource(target)
        found = self.store.get(self.collection(target.kind), target.namespace, target.name)
        if found is None:
            raise not_found(target.kind.resource, target.name)
        return found

    @staticmethod
    def collection(kind: Kind) -> tuple[str, str]:
        return events.CORE if kind.collection == events.NEW else kind.collection

    def create(self, target: Target, obj: Object, unknown: UnknownFields | None = None) -> Object:
        kind, metadata = target.kind, self._checked_metadata(target, obj)
        self._check_namespace(kind, target.namespace, metadata.get("name", ""))
        if kind.resource.namespaced:
            metadata["namespace"] = target.namespace
        stamp_new(metadata, kind, self._now_s(), self._random)
        if not kind.is_custom and kind.has_status:
            builtin.set_initial_status(kind, obj)
        elif kind.custom and kind.has_status:
            obj.pop("status", None)
        obj = self._for_storage(kind, obj)
        admit(kind, obj, None, unknown or UnknownFields())
        collection = self.collection(kind)
        if self.store.get(collection, target.namespace, metadata["name"]) is not None:
            raise already_exists(kind.resource, metadata["name"])
        stored = self._after_birth(kind, self.store.put(collection, obj))
        return self.view(kind, stored)

    def update(self, target: Target, obj: Object, unknown: UnknownFields | None = None) -> Object:
        old = self.existing(target)
        if target.subresource == "scale":
            return self._rescale(target, old, obj)
        self._checked_metadata(target, obj)
        if obj["metadata"].get("name", target.name) != target.name:
            named = obj["metadata"]["name"]
            raise bad_request(f"the name of the object ({named}) does not match the name on the URL ({target.name})")
        check_preconditions(target.kind, old, obj["metadata"], is_put=True)
        return self._replace(target, old, obj, unknown or UnknownFields())

    def patch(self, target: Target, patch: Patch, unknown: UnknownFields | None = None) -> Object:
        old = self.existing(target)
        is_custom = target.kind.is_custom
        if target.subresource == "scale":
            shown = scale_of(target.kind, self._scale_paths(target), old.object)
            return self._rescale(target, old, apply_patch(patch.media_type, shown, patch.body, is_custom=is_custom))
        shown = self.view(target.kind, old)
        obj = copy_json(apply_patch(patch.media_type, shown, patch.body, is_custom=is_custom))
        self._checked_metadata(target, obj)
        check_preconditions(target.kind, old, obj["metadata"], is_put=False)
        return self._replace(target, old, obj, unknown or UnknownFields())

    def delete(self, target: Target, options: DeleteOptions) -> tuple[Object, bool]:
        """Returns the last version and whether the object is gone at once."""
        last, is_gone = self._remover.delete(self.existing(target), options)
        return self.view(target.kind, last), is_gone

    def bind(self, target: Target, binding: Object) -> None:
        """Put a pod on a node, as a scheduler does."""
        old = self.existing(Target(target.kind, target.namespace, target.name))
        node = (binding.get("target") or {}).get("name")
        if not node:
            raise bad_request(f"binding of pod {target.namespace}/{target.name}: target.name is required")
        if old.object["spec"].get("nodeName"):
            why = f"pod {target.name} is already assigned to node {old.object['spec']['nodeName']!r}"
            raise ApiError(409, "Conflict", f'Operation cannot be fulfilled on pods/binding "{target.name}": {why}')
        pod = copy_json(old.object)
        pod["spec"]["nodeName"] = node
        conditions = [one for one in pod["status"].get("conditions", ()) if one["type"] != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(self._now_s())}
        pod["status"]["conditions"] = [*conditions, scheduled]
        self.store.put(old.collection, pod)

    # --- steps of the above ---

    def _check_subresource(self, target: Target) -> None:
        name, kind = target.subresource, target.kind
        served = {
            "": True,
            "status": kind.has_status,
            "scale": kind.scale is not None,
            "binding": kind.resource == PODS,
            "eviction": kind.resource == PODS,
        }
        if not served.get(name, False):
            raise no_such_path()

    @staticmethod
    def _scale_paths(target: Target) -> ScalePaths:
        if target.kind.scale is None:
            raise no_such_path()
        return target.kind.scale

    @staticmethod
    def _checked_metadata(target: Target, obj: Object) -> Object:
        check_type(target.kind, obj)
        metadata: Object = obj["metadata"]
        if metadata.get("namespace", target.namespace) != target.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        return metadata

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if not kind.resource.namespaced:
            return
        found = self.store.get(("", "namespaces"), "", namespace)
        if found is None:
            raise not_found(NAMESPACES, namespace)
        if "deletionTimestamp" in found.object["metadata"]:
            raise namespace_terminating(kind.resource, name, namespace)

    def _for_storage(self, kind: Kind, obj: Object) -> Object:
        if kind.collection == events.NEW:
            return events.to_core(obj)
        return obj | {"apiVersion": kind.storage_api_version}

    def _after_birth(self, kind: Kind, stored: Stored) -> Stored:
        if kind.resource == CRDS:
            stored = self._establish(stored)
        if stored.collection == events.CORE:
            self._events.admit(stored, self._now_s())
        self._remover.collect_if_ownerless(stored)
        return stored

    def _establish(self, stored: Stored) -> Stored:
        """Serve a CRD's kinds from now on, and say so in its status."""
        self.registry.register(kinds_of(stored.object))
        status = established(stored.object, self._now_s())
        if status == stored.object.get("status"):
            return stored
        return self.store.put(stored.collection, copy_json(stored.object | {"status": status}))

    def _replace(self, target: Target, old: Stored, obj: Object, unknown: UnknownFields) -> Object:
        kind = target.kind
        if target.subresource == "status":
            obj = _with_status(old.object, obj)
        else:
            obj = self._for_storage(kind, obj)
            self._keep_status(kind, obj, old.object)
            self._check_finalizers(kind, obj, old.object)
        keep_server_fields(obj["metadata"], old.object["metadata"])
        admit(kind, obj, old.object, unknown)
        if obj == old.object:
            return self.view(kind, old)  # no change, no new version: as the real server
        if kind.has_generation and _wanted(kind, obj) != _wanted(kind, old.object):
            obj["metadata"]["generation"] = old.object["metadata"].get("generation", 0) + 1
        stored = self.store.put(old.collection, obj)
        if kind.resource == CRDS and not target.subresource:
            stored = self._establish(stored)
        last, _ = self._remover.finish_if_due(stored)
        return self.view(kind, last)

    @staticmethod
    def _keep_status(kind: Kind, obj: Object, old: Object) -> None:
        if not kind.has_status:
            return
        obj.pop("status", None)
        if "status" in old:
            obj["status"] = copy_json(old["status"])

    @staticmethod
    def _check_finalizers(kind: Kind, obj: Object, old: Object) -> None:
        """Once an object is going, finalizers may only leave."""
        if "deletionTimestamp" not in old["metadata"]:
            return
        added = set(obj["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
        if added:
            why = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
            cause = Cause("metadata.finalizers", why + str(sorted(added)), "FieldValueForbidden")
            raise invalid(kind.resource, old["metadata"]["name"], [cause])

    def _rescale(self, target: Target, old: Stored, scale: Object) -> Object:
        kind, paths = target.kind, self._scale_paths(target)
        check_scale_shape(scale)
        check_preconditions(kind, old, scale.get("metadata") or {}, is_put=False)
        changed = with_scale(kind, paths, self.view(kind, old), scale)
        shown = self._replace(Target(kind, target.namespace, target.name), old, changed, UnknownFields())
        return scale_of(kind, paths, shown)


def _with_status(old: Object, obj: Object) -> Object:
    """All of what is stored, but the status of the request."""
    apart = {name: value for name, value in old.items() if name != "status"}
    return copy_json(apart) | ({"status": obj["status"]} if "status" in obj else {})


def _wanted(kind: Kind, obj: Object) -> Object:
    """The part of an object whose changes count as a new generation."""
    apart = {"metadata", "status"} if kind.has_status else {"metadata"}
    return {name: value for name, value in obj.items() if name not in apart}
