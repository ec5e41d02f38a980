"""Structural schemas of custom resources: defaulting, pruning and validation, in this order, as the real server."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from simulations.cluster.api import Object
from simulations.cluster.apiserver.cel_rules import check_rules, has_rules
from simulations.cluster.apiserver.errors import Cause, required_value
from simulations.cluster.apiserver.store import copy_json

_ROOT_FIELDS = ("apiVersion", "kind", "metadata")
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_RULES_UNCHECKED = Cause(
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation",
)
_INT_OR_STRING = "x-kubernetes-int-or-string"


class Schema:
    """The schema of one version of a custom kind; compiled when first used."""

    def __init__(self, root: Object) -> None:
        self.root = root
        self._validator: Validator | None = None
        self._has_rules = has_rules(root)

    def set_defaults(self, obj: Object) -> None:
        """Fill in defaults below the root, in place."""
        for name, below in (self.root.get("properties") or {}).items():
            if name not in _ROOT_FIELDS:
                _default_member(obj, name, below)

    def prune(self, obj: Object) -> list[str]:
        """Remove unknown fields in place; returns their paths."""
        gone: list[str] = []
        if self.root.get(_PRESERVE):
            return gone
        known = self.root.get("properties") or {}
        for name in list(obj):
            if name in _ROOT_FIELDS:
                continue
            if name in known:
                _prune(obj[name], known[name], name, gone)
            else:
                gone.append(name)
                del obj[name]
        return gone

    def check(self, obj: Object, old: Object | None) -> list[Cause]:
        """Everything the schema finds wrong; CEL rules only run on objects of the right shape."""
        if self._validator is None:
            self._validator = jsonschema.Draft4Validator(_json_schema(self.root))
        causes = [cause for error in self._validator.iter_errors(obj) for cause in _causes(error)]
        if not self._has_rules:
            return causes
        return [*causes, _RULES_UNCHECKED] if causes else check_rules(self.root, obj, old)


# --- defaulting ---


def _default_member(obj: Object, name: str, schema: Object) -> None:
    is_null = name in obj and obj[name] is None and not schema.get("nullable")
    if "default" in schema and (name not in obj or is_null):
        obj[name] = copy_json({"": schema["default"]})[""]
    elif is_null:
        del obj[name]  # as if it had not been given
    if name in obj:
        _default(obj[name], schema)


def _default(value: object, schema: Object) -> None:
    if isinstance(value, dict):
        for name, below in (schema.get("properties") or {}).items():
            _default_member(value, name, below)
        rest = schema.get("additionalProperties")
        if isinstance(rest, dict):
            for item in value.values():
                _default(item, rest)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            _default(item, schema["items"])


# --- pruning ---


def _prune(value: object, schema: Object, path: str, gone: list[str]) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _prune(item, schema.get("items") or {_PRESERVE: True}, f"{path}[{index}]", gone)
    elif isinstance(value, dict):
        _prune_object(value, schema, path, gone)


def _prune_object(value: Object, schema: Object, path: str, gone: list[str]) -> None:
    known = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    for name in list(value):
        if name in known:
            _prune(value[name], known[name], f"{path}.{name}", gone)
        elif isinstance(rest, dict):
            _prune(value[name], rest, f"{path}.{name}", gone)
        elif rest is not True and not schema.get(_PRESERVE) and not (schema.get(_EMBEDDED) and name in _ROOT_FIELDS):
            gone.append(f"{path}.{name}")
            del value[name]


# --- validation ---


_BELOW_BY_NAME = ("properties", "patternProperties")
_BELOW = ("items", "not", "additionalProperties")
_BELOW_LISTS = ("allOf", "anyOf", "oneOf")


def _json_schema(schema: Object) -> Object:
    """The same rules for jsonschema, which knows neither `nullable` nor the Kubernetes extensions."""
    plain: Object = {}
    for name, value in schema.items():
        if name in _BELOW_BY_NAME:
            plain[name] = {key: _json_schema(below) for key, below in value.items()}
        elif name in _BELOW and isinstance(value, dict):
            plain[name] = _json_schema(value)
        elif name in _BELOW_LISTS:
            plain[name] = [_json_schema(below) for below in value]
        elif name not in ("default", "format", "nullable") and not name.startswith("x-kubernetes-"):
            plain[name] = value
    if schema.get(_INT_OR_STRING):
        plain["type"] = ["integer", "string"]
        plain.pop("anyOf", None)
    if schema.get("nullable") and "type" in plain:
        return {"anyOf": [{"type": "null"}, plain]}
    return plain


def _path(error: jsonschema.ValidationError) -> str:
    text = ""
    for part in error.absolute_path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _shown(value: object) -> str:
    """Values in messages: whole when short, their type when not."""
    if isinstance(value, dict):
        return '"object"'
    return '"array"' if isinstance(value, list) else json.dumps(value)


def _causes(error: jsonschema.ValidationError) -> Iterator[Cause]:
    field = _path(error)
    value: Any = error.instance
    limit: Any = error.validator_value
    if error.validator == "required":
        missing = next(name for name in limit if name not in value and f"'{name}'" in error.message)
        yield required_value(f"{field}.{missing}" if field else missing)
    elif error.validator == "anyOf" and limit and limit[0] == {"type": "null"}:
        for below in error.context or ():  # a nullable field: what is wrong with it when it is not null
            if below.schema_path[0] == 1:
                yield from _causes(below)
    else:
        yield _cause(error, field, value, limit)


def _cause(error: jsonschema.ValidationError, field: str, value: Any, limit: Any) -> Cause:
    if error.validator == "enum":
        allowed = ", ".join(json.dumps(item) for item in limit)
        message = f"Unsupported value: {_shown(value)}: supported values: {allowed}"
        return Cause(field, message, "FieldValueNotSupported")
    if error.validator == "maxItems":
        return Cause(field, f"Too many: {len(value)}: must have at most {limit} items", "FieldValueTooMany")
    if error.validator == "maxLength":
        return Cause(field, f"Too long: may not be more than {limit} bytes", "FieldValueTooLong")
    if error.validator == "type":
        found = _type_name(value)
        message = f"Invalid value: {found}: {field} in body must be of type {_types(limit)}: {found}"
        return Cause(field, message, "FieldValueTypeInvalid")
    return Cause(field, f"Invalid value: {_shown(value)}: {field} in body {_sentence(error)}")


def _types(limit: object) -> str:
    return ",".join(limit) if isinstance(limit, list) else str(limit)


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}
    return json.dumps(names.get(type(value), "null"))


def _sentence(error: jsonschema.ValidationError) -> str:
    limit, schema = error.validator_value, error.schema
    name = f"exclusive{str(error.validator).capitalize()}"
    exclusive = isinstance(schema, dict) and schema.get(name)
    sentences = {
        "minimum": f"should be greater than {'' if exclusive else 'or equal to '}{limit}",
        "maximum": f"should be less than {'' if exclusive else 'or equal to '}{limit}",
        "minLength": f"should be at least {limit} chars long",
        "minItems": f"should have at least {limit} items",
        "minProperties": f"should have at least {limit} properties",
        "maxProperties": f"should have at most {limit} properties",
        "pattern": f"should match '{limit}'",
        "multipleOf": f"should be a multiple of {limit}",
        "uniqueItems": "shouldn't contain duplicates",
        "oneOf": "must validate one and only one schema (oneOf)",
        "anyOf": "must validate at least one schema (anyOf)",
        "not": "must not validate the schema (not)",
    }
    return sentences.get(str(error.validator), error.message)
