"""Label and field selectors, as they stand in a query."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from simulations.cluster.api import Object
from simulations.cluster.apiserver.errors import bad_request
from simulations.cluster.apiserver.kinds import Kind

Operator = Literal["=", "!=", "in", "notin", "exists", "!"]
_KEY = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s*\(([^()]*)\)$")
_EQUAL = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")
_COMMA = re.compile(r",(?![^(]*\))")  # not inside brackets


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.operator == "exists":
            return self.key in labels
        if self.operator == "!":
            return self.key not in labels
        if self.operator in ("=", "in"):
            return labels.get(self.key) in self.values
        return labels.get(self.key) not in self.values


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """`a=b,c!=d,e in (x,y),f notin (z),g,!h`."""
    return tuple(_requirement(term.strip(), text) for term in _COMMA.split(text)) if text.strip() else ()


def _requirement(term: str, text: str) -> Requirement:
    if found := _SET.match(term):
        values = frozenset(value.strip() for value in found[4].split(","))
        return Requirement(found[1], "in" if found[3] == "in" else "notin", values)
    if found := _EQUAL.match(term):
        return Requirement(found[1], "!=" if found[3] == "!=" else "=", frozenset([found[4]]))
    if found := _EXISTS.match(term):
        return Requirement(found[2], "!" if found[1] else "exists")
    raise bad_request(f'unable to parse requirement: invalid label selector "{text}" at "{term}"')


def labels_of(selector: Mapping[str, str]) -> tuple[Requirement, ...]:
    """Requirements of a plain map of equal labels."""
    return tuple(Requirement(key, "=", frozenset([value])) for key, value in selector.items())


def selector_text(selector: Object | None) -> str:
    """A LabelSelector object as query text: what a Scale's `status.selector` holds."""
    if not selector:
        return ""
    equal = [f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items())]
    return ",".join(equal + [_expression_text(item) for item in selector.get("matchExpressions", ())])


def _expression_text(item: Object) -> str:
    key, values = item["key"], ",".join(sorted(item.get("values") or ()))
    texts: dict[str, str] = {
        "In": f"{key} in ({values})",
        "NotIn": f"{key} notin ({values})",
        "Exists": key,
        "DoesNotExist": f"!{key}",
    }
    return texts[item["operator"]]


_COMMON = {"metadata.name": ("metadata", "name"), "metadata.namespace": ("metadata", "namespace")}
_EVENT_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_POD_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase",
    "status.podIP", "status.nominatedNodeName",
)  # fmt: skip


def _paths(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: tuple(name.split(".")) for name in names}


_FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Pod": _paths(*_POD_FIELDS),
    "Event": _paths("reason", "type", "reportingComponent", *(f"involvedObject.{name}" for name in _EVENT_FIELDS))
    | {"source": ("source", "component")},
    "Node": _paths("spec.unschedulable"),
    "Namespace": _paths("status.phase"),
    "ReplicaSet": _paths("status.replicas"),
    "Secret": _paths("type"),
}


def value_at(obj: object, path: tuple[str, ...]) -> object:
    """What lies at a path of field names; None where it ends early."""
    for name in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(name)
    return obj


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _unsupported(kind: Kind, name: str) -> Exception:
    if kind.resource.kind not in _FIELDS and not kind.is_custom:  # kinds without fields of their own say it differently
        return bad_request(f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"')
    return bad_request(f"field label not supported: {name}")


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One term of a field selector."""

    path: tuple[str, ...]
    value: str
    equal: bool

    def matches(self, obj: Object) -> bool:
        found = _text(value_at(obj, self.path))
        if self.path == ("spec", "unschedulable"):
            found = found or "false"
        return (found == self.value) == self.equal


def parse_fields(text: str, kind: Kind) -> tuple[FieldRequirement, ...]:
    """`metadata.name=x,status.phase!=Running`; each kind knows few fields, as the real server does."""
    extra = kind.custom.selectable if kind.custom else _FIELDS.get(kind.resource.kind, {})
    known: dict[str, tuple[str, ...]] = {**_COMMON, **extra}
    terms = []
    for term in filter(None, text.split(",")):
        found = re.match(r"^([^=!]+)(==|=|!=)(.*)$", term)
        if found is None:
            raise bad_request(f"invalid field selector {text!r}: {term!r} is neither name=value nor name!=value")
        if found[1] not in known:
            raise _unsupported(kind, found[1])
        terms.append(FieldRequirement(known[found[1]], found[3], found[2] != "!="))
    return tuple(terms)


Matcher = Callable[[Object], bool]


def matcher(labels: tuple[Requirement, ...], fields: tuple[FieldRequirement, ...]) -> Matcher | None:
    """One predicate of both selectors; None where everything matches."""
    if not labels and not fields:
        return None

    def matches(obj: Object) -> bool:
        have = obj["metadata"].get("labels") or {}
        return all(term.matches(have) for term in labels) and all(term.matches(obj) for term in fields)

    return matches
