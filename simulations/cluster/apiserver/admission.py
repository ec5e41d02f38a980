"""Between a request and the store: what an object must look like before it is kept."""

from dataclasses import dataclass, field
from typing import Literal

from simulations.cluster.api import CRDS, Object
from simulations.cluster.apiserver import builtin
from simulations.cluster.apiserver.crds import check_crd, set_crd_defaults
from simulations.cluster.apiserver.errors import bad_request, conflict, invalid, invalid_value
from simulations.cluster.apiserver.kinds import Kind
from simulations.cluster.apiserver.metadata import check_metadata
from simulations.cluster.apiserver.shapes import check_shapes
from simulations.cluster.apiserver.store import Stored

FieldValidation = Literal["Strict", "Warn", "Ignore"]


@dataclass(frozen=True, slots=True)
class UnknownFields:
    """What to do about fields that no schema knows; the pruned ones are collected for the client."""

    validation: FieldValidation = "Ignore"
    pruned: list[str] = field(default_factory=list)


_CONDITIONAL_ONLY = {"Lease"}  # built-in kinds whose PUT must name the version it replaces; so must every custom one


def check_type(kind: Kind, obj: Object) -> None:
    """The body must be of the kind and version that the path names."""
    resource = kind.resource
    if kind.is_custom and not (obj.get("kind") and obj.get("apiVersion")):
        what = f"the object provided is unrecognized (must be of type {resource.kind})"
        raise bad_request(f"{what}: Object 'Kind' or 'apiVersion' is missing")
    found = obj.setdefault("kind", resource.kind), obj.setdefault("apiVersion", resource.api_version)
    if found[0] != resource.kind and kind.is_custom:
        raise invalid(resource, "", [invalid_value("kind", found[0], f"must be {resource.kind}")])
    if found[0] != resource.kind:
        raise bad_request(f"{found[0]} in version {found[1]!r} cannot be handled as a {resource.kind}: unexpected kind")
    if found[1] != resource.api_version:
        message = (
            f"the API version in the data ({found[1]}) does not match the expected API version ({resource.api_version})"
        )
        raise bad_request(message)
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    check_shapes(kind, obj)


def check_preconditions(kind: Kind, old: Stored, metadata: Object, *, is_put: bool) -> None:
    """Optimistic concurrency: the version and the uid, where given, must be those that are stored."""
    version, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if uid and uid != old.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old.uid}"
        raise conflict(kind.resource, old.name, why)
    if version and version != str(old.version):
        raise conflict(kind.resource, old.name)
    if is_put and not version and (kind.is_custom or kind.resource.kind in _CONDITIONAL_ONLY):
        cause = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid(kind.resource, old.name, [cause])


def admit(kind: Kind, obj: Object, old: Object | None, unknown: UnknownFields) -> None:
    """Default, prune and validate in place, or raise the 4xx of the real server."""
    _prune(kind, obj, unknown)
    if kind.custom and kind.custom.schema:
        kind.custom.schema.set_defaults(obj)
    elif kind.resource == CRDS:
        set_crd_defaults(obj)
    else:
        builtin.set_defaults(kind, obj)
    causes = check_metadata(obj["metadata"], kind)
    if kind.custom and kind.custom.schema:
        causes += kind.custom.schema.check(obj, old)
    elif kind.resource == CRDS and not causes:
        causes += check_crd(obj)
    else:
        causes += builtin.check(kind, obj, old)
    if causes:
        raise invalid(kind.resource, obj["metadata"].get("name") or "", causes)


def _prune(kind: Kind, obj: Object, unknown: UnknownFields) -> None:
    gone = kind.custom.schema.prune(obj) if kind.custom and kind.custom.schema else []
    if gone and unknown.validation == "Strict":
        listed = ", ".join(f'unknown field "{path}"' for path in gone)
        resource = kind.resource
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {listed}"
        )
    unknown.pruned.extend(gone)
