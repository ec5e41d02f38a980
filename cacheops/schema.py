"""CustomResourceDefinitions from pydantic models: structural schemas, rules in CEL, columns, and the files.

Shared by the CRDs of the controller (`autoscaler.crds`) and of the caches (`cacheops.crds`).
"""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml

Schema = dict[str, Any]
Column = tuple[str, str, str, str]  # name, type, JSON path, description

GROUP = "warmtide.dev"
VERSION = "v1alpha1"
# Keyword → the same in the subset of OpenAPI v3 that a structural schema may use.
_KEPT = (
    "type",
    "description",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "x-kubernetes-preserve-unknown-fields",
)


class SchemaRule(Protocol):
    """A rule between fields, as an API server checks it."""

    @property
    def at(self) -> tuple[str, ...]:
        """The place in spec that carries the rule."""
        ...

    @property
    def cel(self) -> str:
        """What must hold; empty: nothing that CEL would have to say."""
        ...

    @property
    def message(self) -> str:
        """What is said when it does not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How a kind is called, and where its objects live."""

    kind: str
    plural: str
    short: str
    scope: Literal["Namespaced", "Cluster"] = "Namespaced"


def structural(schema: Mapping[str, Any], *, stored: Collection[tuple[str, ...]] = ()) -> Schema:
    """A JSON schema of pydantic's as a structural schema: no $ref, no null, one type per place.

    Defaults are told in descriptions; only those of the `stored` places become part of objects.
    """
    return _Walk(schema.get("$defs", {}), frozenset(stored)).node(schema, ())


@dataclass(frozen=True, slots=True)
class _Walk:
    """One pass over a JSON schema."""

    definitions: Mapping[str, Any]
    stored: frozenset[tuple[str, ...]]

    def node(self, schema: Mapping[str, Any], place: tuple[str, ...]) -> Schema:
        """One place of the schema and all below it."""
        described = {key: schema[key] for key in ("description", "default") if key in schema}
        schema = self._resolved(schema) | described
        node: Schema = {key: schema[key] for key in _KEPT if key in schema}
        if "enum" in node:
            node["enum"] = list(node["enum"])  # one list per place, or YAML would tie them together with anchors
        if "const" in schema:
            node["enum"] = [schema["const"]]
        for bound, flag in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if bound in schema:
                node |= {flag: schema[bound], bound: True}
        if node.get("type") == "array":
            node["items"] = self.node(schema["items"], (*place, "[]"))
        if node.get("type") == "object":
            node |= self._object(schema, place)
        self._tell_default(node, schema.get("default"), place)
        return node

    def _object(self, schema: Mapping[str, Any], place: tuple[str, ...]) -> Schema:
        properties = schema.get("properties")
        if properties is None:
            return {"additionalProperties": self.node(schema["additionalProperties"], (*place, "{}"))}
        node: Schema = {"properties": {name: self.node(part, (*place, name)) for name, part in properties.items()}}
        return node | ({"required": list(schema["required"])} if schema.get("required") else {})

    def _resolved(self, schema: Mapping[str, Any]) -> Schema:
        """Follow $ref; of `X or null` take X: an API server treats a null field as absent."""
        if "$ref" in schema:
            return self._resolved(self.definitions[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            (only,) = (option for option in schema["anyOf"] if option.get("type") != "null")
            return self._resolved(only)
        return dict(schema)

    def _tell_default(self, node: Schema, default: object, place: tuple[str, ...]) -> None:
        if default is None or isinstance(default, dict | list):
            return
        if place in self.stored:
            node["default"] = default
        shown = str(default).lower() if isinstance(default, bool) else default
        shown = f"{shown:g}" if isinstance(shown, float) else shown
        node["description"] = f"{node['description']} Default: {shown}."


def add_rules(spec: Schema, rules: Iterable[SchemaRule]) -> None:
    """Attach each rule's CEL where it belongs."""
    for rule in rules:
        if not rule.cel:
            continue
        node = spec
        for part in rule.at:
            node = node["items"] if part == "[]" else node["properties"][part]
        node.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": rule.message})


def crd(names: Names, parts: Mapping[str, Schema], description: str, columns: Sequence[Column]) -> Schema:
    """A whole CustomResourceDefinition; with a status it has the subresource, and its spec is required."""
    kind = names.kind
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root(parts, description)},
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path, "description": text} for name, type_, path, text in columns
        ],
    }
    if "status" in parts:
        version["subresources"] = {"status": {}}
    called = {"kind": kind, "listKind": f"{kind}List", "plural": names.plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": called | {"shortNames": [names.short], "categories": ["warmtide"]},
            "scope": names.scope,
            "versions": [version],
        },
    }


def _root(parts: Mapping[str, Schema], description: str) -> Schema:
    about = {
        "apiVersion": {"type": "string", "description": "Version of this schema."},
        "kind": {"type": "string", "description": "Kind of this object."},
        "metadata": {"type": "object"},
    }
    schema: Schema = {"type": "object", "description": description, "properties": about | dict(parts)}
    # A policy that says nothing is a good policy; what has a status must say what it is about.
    return schema | ({"required": ["spec"]} if "status" in parts else {})


def as_yaml(definition: Schema, *, command: str, source: str) -> str:
    """The text of a CRD's file."""
    head = f"# Written by `{command}` from {source}; change it there.\n"
    return head + yaml.safe_dump(definition, sort_keys=False, width=120, allow_unicode=True)


def write(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write files by name into a folder; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in texts.items():
        file = folder / name
        file.write_text(text, encoding="utf-8")
        files.append(file)
    return files


def write_crds(texts: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Write CRDs by name beside this checkout, or into the folder that the arguments name; print the files."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parents[1] / "manifests" / "crds"
    for file in write({f"{name}.yaml": text for name, text in texts.items()}, folder):
        sys.stdout.write(f"{file}\n")
