"""What the server serves, as clients discover it: groups, versions, resources, OpenAPI."""

from collections.abc import Iterable

from simulations.cluster.api import Object
from simulations.cluster.apiserver import reviews
from simulations.cluster.apiserver.errors import no_such_path
from simulations.cluster.apiserver.kinds import Kind, Registry

VERSION: Object = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+warmtide",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def document(registry: Registry, path: str) -> Object:
    """The discovery document at a path, or 404."""
    parts = [part for part in path.split("/") if part]
    if parts == ["version"]:
        return VERSION
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(registry, g) for g in _groups(registry)]}
    if len(parts) == 2 and parts[0] == "apis" and parts[1] in _groups(registry):
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(registry, parts[1])}
    if parts == ["api", "v1"]:
        return _resources(registry, "", "v1")
    if len(parts) == 3 and parts[0] == "apis":
        return _resources(registry, parts[1], parts[2])
    if parts[:2] == ["openapi", "v3"]:
        return _openapi(registry, "/".join(parts[2:]))
    raise no_such_path()


def _groups(registry: Registry) -> list[str]:
    found = {kind.resource.group for kind in registry.all() if kind.resource.group}
    return sorted(found | set(reviews.GROUPS))


def _group(registry: Registry, group: str) -> Object:
    kinds = [kind for kind in registry.all() if kind.resource.group == group]
    versions = sorted({kind.resource.version for kind in kinds}, key=_priority) or ["v1"]
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _priority(version: str) -> tuple[int, str]:
    """Stable before beta before alpha, as kubectl prefers them."""
    rank = 1 if "beta" in version else 2 if "alpha" in version else 0
    return rank, version


def _resources(registry: Registry, group: str, version: str) -> Object:
    served = [kind for kind in registry.all() if (kind.resource.group, kind.resource.version) == (group, version)]
    asked = [review for review in reviews.KINDS if review[2] == group and version == "v1"]
    if not served and not asked:
        raise no_such_path()
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [entry for kind in served for entry in _entries(kind)]
        + [_entry(plural, name, namespaced=False, verbs=["create"]) for plural, name, _ in asked],
    }


def _entry(name: str, kind: str, *, namespaced: bool, verbs: list[str]) -> Object:
    singular = "" if "/" in name else kind.lower()
    return {"name": name, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": verbs}


def _entries(kind: Kind) -> Iterable[Object]:
    resource = kind.resource
    main = _entry(resource.plural, resource.kind, namespaced=resource.namespaced, verbs=_VERBS)
    main["singularName"] = kind.singular
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    yield main
    changes = ["get", "patch", "update"]
    if kind.has_status:
        yield _entry(f"{resource.plural}/status", resource.kind, namespaced=resource.namespaced, verbs=changes)
    if kind.scale:
        scale = _entry(f"{resource.plural}/scale", "Scale", namespaced=resource.namespaced, verbs=changes)
        yield scale | {"group": "autoscaling", "version": "v1"}


def _openapi(registry: Registry, path: str) -> Object:
    """Enough for kubectl: that PATCH knows fieldValidation, and the schemas of custom kinds for `kubectl explain`."""
    if not path:
        roots = {kind.resource.api_version: _root(kind) for kind in registry.all()}
        return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in roots.values()}}
    kinds = [kind for kind in registry.all() if _root(kind) == path]
    if not kinds:
        raise no_such_path()
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {_path(kind): {"patch": _patch_operation(kind)} for kind in kinds},
        "components": {"schemas": {f"{k.resource.api_version}.{k.resource.kind}": _component(k) for k in kinds}},
    }


def _root(kind: Kind) -> str:
    return f"apis/{kind.resource.api_version}" if kind.resource.group else f"api/{kind.resource.version}"


def _path(kind: Kind) -> str:
    space = "/namespaces/{namespace}" if kind.resource.namespaced else ""
    return f"/{_root(kind)}{space}/{kind.resource.plural}/{{name}}"


def _named(kind: Kind) -> Object:
    return {"group": kind.resource.group, "version": kind.resource.version, "kind": kind.resource.kind}


def _patch_operation(kind: Kind) -> Object:
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("fieldValidation", "dryRun")]
    return {
        "operationId": f"patch{kind.resource.kind}",
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": _named(kind),
    }


def _component(kind: Kind) -> Object:
    schema = kind.custom.schema.root if kind.custom and kind.custom.schema else {"type": "object"}
    return schema | {"x-kubernetes-group-version-kind": [_named(kind)]}
