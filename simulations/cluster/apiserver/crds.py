"""CustomResourceDefinitions: from the object a user applies to the kinds the server serves."""

from collections.abc import Iterator, Mapping, Sequence

from simulations.cluster.api import Object, Resource
from simulations.cluster.apiserver.errors import Cause, invalid_value, required_value
from simulations.cluster.apiserver.kinds import Column, Kind, ScalePaths, Version
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.apiserver.schema import Schema

_COLUMN_TEXT = "Custom resource definition column (in JSONPath format): "  # the real server's
_LIST_MAP_KEY = "this property is in x-kubernetes-list-map-keys, so it"
_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")


def set_crd_defaults(crd: Object) -> None:
    """Names that may be left out."""
    spec = crd.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind", "")
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})


def check_crd(crd: Object) -> list[Cause]:
    """What the server could not serve."""
    spec = crd["spec"]
    group, plural, versions = spec.get("group"), spec["names"].get("plural"), spec.get("versions") or []
    causes = []
    if not group:
        causes.append(required_value("spec.group"))
    if not plural:
        causes.append(required_value("spec.names.plural"))
    if not spec["names"].get("kind"):
        causes.append(required_value("spec.names.kind"))
    if not causes and crd["metadata"]["name"] != f"{plural}.{group}":
        causes.append(
            invalid_value("metadata.name", crd["metadata"]["name"], 'must be spec.names.plural+"."+spec.group')
        )
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        message = f'Unsupported value: "{spec.get("scope", "")}": supported values: "Cluster", "Namespaced"'
        causes.append(Cause("spec.scope", message, "FieldValueNotSupported"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        shown = [version.get("name") for version in versions]
        causes.append(invalid_value("spec.versions", shown, "must have exactly one version marked as storage version"))
    return causes + [cause for index, version in enumerate(versions) for cause in _check_version(version, index)]


def _check_version(version: Object, index: int) -> list[Cause]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    at = f"spec.versions[{index}].schema.openAPIV3Schema"
    if not isinstance(schema, dict):
        return [required_value(at, "schemas are required")]
    if schema.get("type") != "object":
        message = f'Unsupported value: "{schema.get("type", "")}": supported values: "object"'
        return [Cause(f"{at}.type", message, "FieldValueNotSupported")]
    causes = _check_scale(version, f"spec.versions[{index}].subresources.scale")
    return [*causes, *_check_list_maps(schema, at)]


def _check_list_maps(schema: Object, at: str) -> Iterator[Cause]:
    """Items of a list map are told apart by their keys: each must be there, and not null.

    As validateMapListKeysMapSet of apiextensions-apiserver has it (pkg/apiserver/schema/validation.go).
    """
    items = schema.get("items") or {}
    properties = items.get("properties") or {}
    keys = schema.get("x-kubernetes-list-map-keys") or () if schema.get("x-kubernetes-list-type") == "map" else ()
    for key in (key for key in keys if key in properties):
        field = f"{at}.items.properties[{key}]"
        if key not in (items.get("required") or ()) and properties[key].get("default") is None:
            yield required_value(f"{field}.default", f"{_LIST_MAP_KEY} must have a default or be a required property")
        if properties[key].get("nullable"):
            yield Cause(f"{field}.nullable", f"Forbidden: {_LIST_MAP_KEY} cannot be nullable", "FieldValueForbidden")
    below = [(f"{at}.properties[{name}]", one) for name, one in (schema.get("properties") or {}).items()]
    below += [(f"{at}.{name}", schema[name]) for name in ("items", "additionalProperties") if name in schema]
    for place, one in below:
        if isinstance(one, dict):
            yield from _check_list_maps(one, place)


def _check_scale(version: Object, at: str) -> list[Cause]:
    scale = (version.get("subresources") or {}).get("scale")
    if scale is None:
        return []
    causes = []
    for field, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        path = scale.get(field)
        if not path:
            causes.append(required_value(f"{at}.{field}"))
        elif not path.startswith(root):
            causes.append(invalid_value(f"{at}.{field}", path, f"should be a json path under {root.rstrip('.')}"))
    return causes


def established(crd: Object, now_s: float) -> Object:
    """The status of a CRD whose names were accepted; the server serves it from the same moment."""
    spec, old = crd["spec"], crd.get("status") or {}
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    stored = [name for name in old.get("storedVersions", ()) if name != storage]
    since = timestamp(now_s)
    conditions = [
        _condition("NamesAccepted", "NoConflicts", "no conflicts found", since),
        _condition("Established", "InitialNamesAccepted", "the initial names have been accepted", since),
    ]
    return {
        "acceptedNames": spec["names"],
        "storedVersions": [*stored, storage],
        "conditions": old.get("conditions") or conditions,
    }


def _condition(name: str, reason: str, message: str, since: str) -> Object:
    return {"type": name, "status": "True", "lastTransitionTime": since, "reason": reason, "message": message}


def collection_of(crd: Object) -> tuple[str, str]:
    """Where the objects of a CRD are kept."""
    return (crd["spec"]["group"], crd["spec"]["names"]["plural"])


def kinds_of(crd: Object) -> list[Kind]:
    """One kind per served version, and the one that is stored."""
    spec = crd["spec"]
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    served = (version for version in spec["versions"] if version.get("served") or version["name"] == storage)
    return [_kind(spec, raw, storage) for raw in served]


def _kind(spec: Object, raw: Object, storage: str) -> Kind:
    names, version = spec["names"], _version(raw)
    return Kind(
        resource=Resource(spec["group"], raw["name"], names["plural"], names["kind"], spec["scope"] == "Namespaced"),
        storage_version=storage,
        singular=names["singular"],
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        has_status=version.has_status,
        has_generation=True,
        scale=version.scale,
        custom=version,
    )


def _version(raw: Object) -> Version:
    subresources = raw.get("subresources") or {}
    columns = tuple(_column(column) for column in raw.get("additionalPrinterColumns") or ())
    return Version(
        schema=Schema(raw["schema"]["openAPIV3Schema"]),
        columns=columns or (_AGE,),
        has_status="status" in subresources,
        scale=_scale(subresources["scale"]) if "scale" in subresources else None,
        selectable=_selectable(raw.get("selectableFields") or ()),
    )


def _selectable(fields: Sequence[Object]) -> Mapping[str, tuple[str, ...]]:
    return {field["jsonPath"].lstrip("."): _names(field["jsonPath"]) for field in fields}


def _names(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split(".") if part)


def _scale(raw: Object) -> ScalePaths:
    return ScalePaths(
        spec_replicas=_names(raw["specReplicasPath"]),
        status_replicas=_names(raw["statusReplicasPath"]),
        selector=_names(raw.get("labelSelectorPath", "")),
    )


def _column(raw: Object) -> Column:
    return Column(
        name=raw["name"],
        path=raw["jsonPath"],
        type=raw.get("type", "string"),
        priority=raw.get("priority", 0),
        description=raw.get("description")
        or f"Custom resource definition column (in JSONPath format): {raw['jsonPath']}",
        format=raw.get("format", ""),
    )
