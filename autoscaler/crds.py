"""CustomResourceDefinitions of ScalingPolicy and ScaledService, from the models in `autoscaler.config`.

`python -m autoscaler.crds` writes them to manifests/crds. Defaults are told in the descriptions but not stored in
objects, so that a better default reaches existing policies too; `mode` alone is stored, because it is a promise.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autoscaler.config import POLICY_RULES, ScaledServiceModel, ScalingPolicyModel, json_schema
from autoscaler.rules import SCALED_SERVICE_RULES, Rule

Schema = dict[str, Any]

GROUP = "warmtide.dev"
VERSION = "v1alpha1"
STORED_DEFAULTS = {("mode",)}
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
_POLICY_COLUMNS = (
    ("Mode", "string", ".spec.mode", "observe, advise or direct"),
    ("Min", "integer", ".spec.replicas.min", "Never fewer"),
    ("Max", "integer", ".spec.replicas.max", "Never more"),
    ("TTFT", "number", ".spec.objectives.ttftSeconds", "Objective for the time to first token, in seconds"),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists"),
)
_SERVICE_COLUMNS = (
    ("Mode", "string", ".status.mode", "observe, advise or direct"),
    ("Ready", "integer", ".status.replicas.ready", "Replicas that serve"),
    ("Desired", "integer", ".status.replicas.desired", "Replicas that Warmtide wants"),
    ("Forecast", "string", ".status.summary.forecast", "Replicas that the forecast asks for"),
    ("Lead", "string", ".status.summary.lead", "Time until one more replica would be ready"),
    ("Reason", "string", ".status.reason", "Why the number is what it is"),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists"),
)


def scaling_policy() -> Schema:
    """CRD of ScalingPolicy."""
    spec = structural(json_schema(ScalingPolicyModel))
    spec["properties"]["schedules"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    add_rules(spec, POLICY_RULES)
    description = "How services that name this policy are scaled: annotation warmtide.dev/policy, or a ScaledService."
    return _crd("ScalingPolicy", ("sp",), {"spec": spec}, description, _POLICY_COLUMNS)


def scaled_service() -> Schema:
    """CRD of ScaledService."""
    parts = structural(json_schema(ScaledServiceModel))["properties"]
    add_rules(parts["spec"], SCALED_SERVICE_RULES)
    parts["status"]["properties"]["conditions"] |= {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    description = "One service that Warmtide scales, or advises on: what it sees, decided and why."
    return _crd("ScaledService", ("scs",), parts, description, _SERVICE_COLUMNS)


def all_crds() -> tuple[Schema, ...]:
    """Every CRD of the autoscaler."""
    return scaling_policy(), scaled_service()


def structural(schema: Mapping[str, Any]) -> Schema:
    """A JSON schema of pydantic's as a structural schema: no $ref, no null, one type per place."""
    return _node(schema, schema.get("$defs", {}), place=())


def _node(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, place: tuple[str, ...]) -> Schema:
    described = {key: schema[key] for key in ("description", "default") if key in schema}
    schema = _resolved(schema, definitions) | described
    node: Schema = {key: schema[key] for key in _KEPT if key in schema}
    if "enum" in node:
        node["enum"] = list(node["enum"])  # one list per place, or YAML would tie them together with anchors
    if "const" in schema:
        node["enum"] = [schema["const"]]
    for bound, flag in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in schema:
            node |= {flag: schema[bound], bound: True}
    if node.get("type") == "array":
        node["items"] = _node(schema["items"], definitions, place=(*place, "[]"))
    if node.get("type") == "object":
        node |= _object(schema, definitions, place)
    _tell_default(node, schema.get("default"), place)
    return node


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], place: tuple[str, ...]) -> Schema:
    properties = schema.get("properties")
    if properties is None:
        return {"additionalProperties": _node(schema["additionalProperties"], definitions, place=(*place, "{}"))}
    node: Schema = {
        "properties": {name: _node(part, definitions, place=(*place, name)) for name, part in properties.items()}
    }
    return node | ({"required": list(schema["required"])} if schema.get("required") else {})


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Follow $ref; of `X or null` take X: an API server treats a null field as absent."""
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        (only,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        return _resolved(only, definitions)
    return dict(schema)


def _tell_default(node: Schema, default: object, place: tuple[str, ...]) -> None:
    if default is None or isinstance(default, dict | list):
        return
    if place in STORED_DEFAULTS:
        node["default"] = default
    shown = str(default).lower() if isinstance(default, bool) else default
    shown = f"{shown:g}" if isinstance(shown, float) else shown
    node["description"] = f"{node['description']} Default: {shown}."


def add_rules(spec: Schema, rules: Sequence[Rule]) -> None:
    """Attach each rule's CEL where it belongs."""
    for rule in rules:
        if not rule.cel:
            continue
        node = spec
        for part in rule.at:
            node = node["items"] if part == "[]" else node["properties"][part]
        node.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": rule.message})


def _crd(
    kind: str,
    short_names: Sequence[str],
    parts: Mapping[str, Schema],
    description: str,
    columns: Sequence[tuple[str, str, str, str]],
) -> Schema:
    plural = {"ScalingPolicy": "scalingpolicies", "ScaledService": "scaledservices"}[kind]
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
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
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names | {"shortNames": list(short_names), "categories": ["warmtide"]},
            "scope": "Namespaced",
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
    # A policy that says nothing is a good policy; a ScaledService must name what it scales.
    return schema | ({"required": ["spec"]} if "status" in parts else {})


def as_yaml(crd: Schema) -> str:
    """The text of a CRD's file."""
    head = "# Written by `python -m autoscaler.crds` from autoscaler/config.py; change it there.\n"
    return head + yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)


def write(folder: Path) -> list[Path]:
    """Write every CRD into a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for crd in all_crds():
        file = folder / f"{crd['metadata']['name']}.yaml"
        file.write_text(as_yaml(crd), encoding="utf-8")
        files.append(file)
    return files


def main() -> None:
    """Write the CRDs beside this checkout, or into the folder given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "manifests" / "crds"
    for file in write(folder):
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
