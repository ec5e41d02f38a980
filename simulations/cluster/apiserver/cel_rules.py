"""CEL rules of custom resources (x-kubernetes-validations), transition rules with oldSelf included.

A rule that the CEL library cannot run refuses the object and says so: a rule that silently holds
would hide what a real cluster refuses.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import cel

from simulations.cluster.api import Object
from simulations.cluster.apiserver.errors import Cause

_RULES = "x-kubernetes-validations"
_OLD = re.compile(r"\boldSelf\b")
_ABSENT = object()
_PROGRAMS = 2_000  # compiled rules kept; Gateway API's filters alone bring about 200


def _index_of(text: str, part: str) -> int:
    return text.find(part)


# Of the Kubernetes extension library, the functions that the CRDs in use call.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "lowerAscii": str.lower,
    "upperAscii": str.upper,
    "trim": str.strip,
    "split": str.split,
    "replace": str.replace,
    "indexOf": _index_of,
    "join": lambda items, separator="": separator.join(items),
    "find": lambda text, pattern: found[0] if (found := re.search(pattern, text)) else "",
    "isSorted": lambda items: items == sorted(items),
    "sum": sum,
    "isURL": lambda text: bool(re.match(r"^[a-z][a-z0-9+.-]*://[^/\s]+", text)) or text.startswith("/"),
}


def has_rules(schema: object) -> bool:
    """Whether any level of a schema has rules."""
    if isinstance(schema, dict):
        return _RULES in schema or any(has_rules(below) for below in schema.values())
    return isinstance(schema, list) and any(has_rules(below) for below in schema)


def check_rules(schema: Object, obj: object, old: object | None) -> list[Cause]:
    """Every broken rule, from the root down."""
    return list(_walk(schema, obj, _ABSENT if old is None else old, ""))


def _walk(schema: Object, value: object, old: object, path: str) -> Iterator[Cause]:
    if value is None:
        return
    for rule in schema.get(_RULES) or ():
        yield from _check(rule, schema, value, old, path)
    if isinstance(value, dict):
        yield from _walk_object(schema, value, old, path)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _walk(schema["items"], item, _old_item(schema, item, old), f"{path}[{index}]")


def _walk_object(schema: Object, value: Object, old: object, path: str) -> Iterator[Cause]:
    known = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    for name, item in value.items():
        below = known.get(name, rest)
        if isinstance(below, dict):
            old_item = old.get(name, _ABSENT) if isinstance(old, dict) else _ABSENT
            yield from _walk(below, item, old_item, f"{path}.{name}" if path else name)


def _old_item(schema: Object, item: object, old: object) -> object:
    """The same item before: only lists of type map can tell which that is."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if (
        schema.get("x-kubernetes-list-type") != "map"
        or not keys
        or not isinstance(old, list)
        or not isinstance(item, dict)
    ):
        return _ABSENT
    same = (one for one in old if isinstance(one, dict) and all(one.get(key) == item.get(key) for key in keys))
    return next(same, _ABSENT)


def _check(rule: Object, schema: Object, value: object, old: object, path: str) -> Iterator[Cause]:
    expression = rule["rule"]
    variables = {"self": _typed(schema, value)}
    if _OLD.search(expression):
        if old is _ABSENT:
            return  # a transition rule says nothing about a birth
        variables["oldSelf"] = _typed(schema, old)
    try:
        holds = _run(expression, variables)
    except (ValueError, TypeError, RuntimeError) as exc:
        yield _cause(rule, schema, path, f"{exc} evaluating rule: {rule.get('message') or expression}")
        return
    if holds is not True:
        yield _cause(rule, schema, path, _message(rule, variables))


def _message(rule: Object, variables: dict[str, Any]) -> str:
    expression = rule.get("messageExpression")
    if expression:
        try:
            return str(_run(expression, variables))
        except (ValueError, TypeError, RuntimeError):
            pass  # as the real server: a broken messageExpression falls back to the message
    return str(rule.get("message") or f"failed rule: {' '.join(rule['rule'].split())}")


def _cause(rule: Object, schema: Object, path: str, message: str) -> Cause:
    reason = rule.get("reason", "FieldValueInvalid")
    if reason == "FieldValueRequired":
        text = f"Required value: {message}"
    elif reason == "FieldValueForbidden":
        text = f"Forbidden: {message}"
    else:
        text = f'Invalid value: "{schema.get("type", "object")}": {message}'
    return Cause(path + rule.get("fieldPath", "") if path else rule.get("fieldPath", "").lstrip("."), text, reason)


@lru_cache(maxsize=_PROGRAMS)
def _program(expression: str) -> Any:
    return cel.compile(expression)


def _run(expression: str, variables: dict[str, Any]) -> object:
    return _program(expression).execute(cel.Context(variables=variables, functions=_FUNCTIONS))


def _typed(schema: Object, value: Any) -> Any:
    """JSON knows one kind of number, CEL two: a `number` field is a double even where it holds 1."""
    if isinstance(value, dict):
        known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
        return {
            name: _typed(known.get(name, rest if isinstance(rest, dict) else {}), item) for name, item in value.items()
        }
    if isinstance(value, list):
        below = schema.get("items")
        return [_typed(below if isinstance(below, dict) else {}, item) for item in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
