"""What the checker of a spec found, in words for the person who wrote it."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.errors import BadSpecError

_EXPECTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "missing": "is required",
    "finite_number": "must be a finite number",
}
_LIMITS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "too_short": ("min_length", "must have at least {} items"),
    "too_long": ("max_length", "must have at most {} items"),
    "string_too_short": ("min_length", "must have at least {} characters"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "string_pattern_mismatch": ("pattern", "must match {}"),
    "value_error": ("error", "{}"),
}


def explain_first(
    object_name: str, errors: Sequence[Mapping[str, Any]], known: Mapping[tuple[str, ...], Sequence[str]]
) -> BadSpecError:
    """The first finding, named by field and value, and how many more there are.

    `known` lists the fields of each object of the spec by its place (list items as `[]`).
    """
    # A misspelt field is the cause of the missing one beside it.
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    value = "" if first["type"] == "missing" else shown(first["input"])
    return BadSpecError(object_name, field_path(first["loc"]), value, _in_words(first, known) + more)


def field_path(location: Sequence[str | int]) -> str:
    """('schedules', 0, 'start') → spec.schedules[0].start"""
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def shown(value: object) -> str:
    """A value as it would stand in JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def value_at(spec: Mapping[str, Any], path: str) -> object:
    """The value at `spec.a.b`."""
    value: Any = spec
    for part in path.split(".")[1:]:
        value = value[part]
    return value


def without_nulls(spec: object) -> object:
    """A null field is an absent field, as the API server sees it."""
    if isinstance(spec, Mapping):
        return {key: without_nulls(value) for key, value in spec.items() if value is not None}
    return [without_nulls(item) for item in spec] if isinstance(spec, list) else spec


def largest_field(spec: object) -> tuple[tuple[str | int, ...], object]:
    """Place and value of the part that makes a spec too large."""
    place: tuple[str | int, ...] = ()
    while isinstance(spec, (Mapping, list)) and spec:
        parts: list[tuple[str | int, object]] = list(spec.items() if isinstance(spec, Mapping) else enumerate(spec))
        key, spec = max(parts, key=lambda part: len(shown(part[1])))
        place += (key,)
    return place, spec


def _in_words(error: Mapping[str, Any], known: Mapping[tuple[str, ...], Sequence[str]]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "extra_forbidden":
        return _unknown_field(error["loc"], known)
    if kind in _LIMITS:
        limit, words = _LIMITS[kind]
        shape = context[limit]
        return words.format(f"{shape:g}" if isinstance(shape, float) else shape)
    if kind in ("enum", "literal_error"):
        return f"must be one of {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
    return str(error["msg"])


def _unknown_field(location: Sequence[str | int], known: Mapping[tuple[str, ...], Sequence[str]]) -> str:
    place = tuple("[]" if isinstance(part, int) else part for part in location)
    fields = known.get(place[:-1], ())
    close = difflib.get_close_matches(str(place[-1])[:64], fields, n=1)
    if close:
        return f"is in a field that does not exist; did you mean {close[0]}?"
    return f"is in a field that does not exist; there are: {', '.join(fields)}" if fields else "is no known field"
