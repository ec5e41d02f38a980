"""The patch formats: JSON merge patch (RFC 7386), JSON patch (RFC 6902), strategic merge patch.

Server-side apply is refused with 415: field ownership is a subsystem of its own, and a half-right
one would hide conflicts that a real cluster reports.
"""

from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.apiserver.errors import bad_request, unprocessable, unsupported_media_type
from simulations.cluster.apiserver.store import copy_json

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_MAX_OPERATIONS = 10_000  # the real server's limit (maxJSONPatchOperations)


def apply_patch(media_type: str, obj: Object, patch: object, *, is_custom: bool) -> Object:
    """The object with the patch applied; the object itself stays as it was."""
    if media_type == JSON_PATCH:
        return json_patch(obj, patch)
    if media_type == MERGE_PATCH or (media_type == STRATEGIC_PATCH and not is_custom):
        if not isinstance(patch, dict):
            raise bad_request(f"a {media_type} must be an object, not {type(patch).__name__}")
        return merge_patch(obj, patch) if media_type == MERGE_PATCH else strategic_patch(obj, patch)
    accepted = [JSON_PATCH, MERGE_PATCH] if is_custom else [JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH]
    extra = "; this API server does not serve server-side apply" if media_type == APPLY_PATCH else ""
    raise unsupported_media_type(accepted, extra)


def merge_patch(target: Object, patch: Object) -> Object:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = merge_patch(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = value
    return merged


# --- RFC 6902 ---


def json_patch(obj: Object, operations: object) -> Object:
    """All operations in order, or none."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise bad_request("a JSON patch must be a list of operations")
    if len(operations) > _MAX_OPERATIONS:
        raise bad_request(f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}")
    root: Object = {"": copy_json(obj)}  # the empty name makes the whole document a member
    for operation in operations:
        _operate(root, operation)
    if not isinstance(root[""], dict):
        raise unprocessable("the patched document is not an object")
    return dict(root[""])


def _operate(root: Object, operation: Object) -> None:
    name, path = operation.get("op"), _pointer(operation, "path")
    if name in ("add", "replace", "test") and "value" not in operation:
        raise unprocessable(f"{name} operation on {operation.get('path')!r} has no value")
    if name == "add":
        _add(root, path, _fresh(operation["value"]))
    elif name == "remove":
        _remove(root, path)
    elif name == "replace":
        _remove(root, path)
        _add(root, path, _fresh(operation["value"]))
    elif name == "move":
        _add(root, path, _remove(root, _pointer(operation, "from")))
    elif name == "copy":
        _add(root, path, _fresh(_find(root, _pointer(operation, "from"))))
    elif name == "test":
        _test(root, path, operation)
    else:
        raise unprocessable(f"unknown operation {name!r}")


def _test(root: Object, path: list[str], operation: Object) -> None:
    if _find(root, path, absent_is_none=True) != operation["value"]:
        raise unprocessable(f"testing value {operation['path']} failed: test failed")


def _fresh(value: object) -> object:
    return copy_json({"": value})[""]


def _pointer(operation: Object, field: str) -> list[str]:
    text = operation.get(field)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise unprocessable(f"{field} {text!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _find(root: Object, path: list[str], *, absent_is_none: bool = False) -> Any:
    node: Any = root
    for part in path:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif absent_is_none:
            return None
        else:
            raise unprocessable(f"path {'/'.join(path)!r} is missing: doc is missing key {part!r}")
    return node


def _add(root: Object, path: list[str], value: object) -> None:
    parent, last = _find(root, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last == "-":
        parent.append(value)
    elif isinstance(parent, list) and last.isdigit() and int(last) <= len(parent):
        parent.insert(int(last), value)
    else:
        raise unprocessable(f"cannot add at {'/'.join(path)!r}")


def _remove(root: Object, path: list[str]) -> object:
    parent, last = _find(root, path[:-1]), path[-1]
    if isinstance(parent, dict) and last in parent:
        return parent.pop(last)
    if isinstance(parent, list) and last.isdigit() and int(last) < len(parent):
        return parent.pop(int(last))
    raise unprocessable(f"cannot remove {'/'.join(path)!r}: it is not there")


# --- strategic merge ---

_MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
    "conditions": ("type",),
    "addresses": ("type",),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "port"),  # of a container, of a Service: whichever the items have
}
_MERGED_SETS = {"finalizers"}


def strategic_patch(target: Object, patch: Object) -> Object:
    """Merge patch with lists merged by key, and the directives kubectl sends."""
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if not name.startswith("$")}
    if patch.get("$patch") == "delete":
        return {}
    _check_directives(patch)
    merged = _retained(target, patch)
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            merged[field] = [item for item in merged.get(field) or () if item not in value]
        elif not name.startswith("$"):
            _merge_field(merged, name, value)
    return _ordered(merged, patch)


def _check_directives(patch: Object) -> None:
    for name, value in patch.items():
        if name.startswith("$") and name != "$patch" and not isinstance(value, list):
            raise bad_request(f"strategic merge patch: {name} must be a list, not {type(value).__name__}")


def _retained(target: Object, patch: Object) -> Object:
    keep = patch.get("$retainKeys")
    return {name: value for name, value in target.items() if keep is None or name in keep}


def _merge_field(merged: Object, name: str, value: object) -> None:
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict):
        below = merged.get(name)
        merged[name] = strategic_patch(below if isinstance(below, dict) else {}, value)
    elif isinstance(value, list) and name in _MERGED_SETS:
        old = merged.get(name) or []
        merged[name] = old + [item for item in value if item not in old]
    elif isinstance(value, list) and (key := _merge_key(name, value, merged.get(name))):
        merged[name] = _merge_list(merged.get(name) or [], value, key)
    else:
        merged[name] = value


def _merge_key(name: str, patch: list[Any], target: object) -> str:
    """The field that identifies the items of this list; empty where the list is replaced whole."""
    items = [item for item in [*patch, *(target if isinstance(target, list) else ())] if isinstance(item, dict)]
    for key in _MERGE_KEYS.get(name, ()):
        if any(key in item for item in items):
            return key
    return ""


def _merge_list(target: list[Any], patch: list[Any], key: str) -> list[Any]:
    if not all(isinstance(item, dict) and key in item for item in target):
        raise unprocessable(f"strategic merge patch: the list merged by {key} holds items without it")
    if not all(isinstance(item, dict) for item in patch):
        raise bad_request(f"strategic merge patch: the items of a list merged by {key} must be objects")
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    merged = {item[key]: item for item in target}
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = strategic_patch(merged.get(item[key], {}), item)
    return list(merged.values())


def _ordered(merged: Object, patch: Object) -> Object:
    """Follow `$setElementOrder/NAME`; items it does not name come last, in their order."""
    for directive, order in patch.items():
        name = directive.partition("/")[2]
        items = merged.get(name)
        if directive.startswith("$setElementOrder/") and isinstance(items, list):
            merged[name] = _sorted_as(items, order, _merge_key(name, order, items))
    return merged


def _sorted_as(items: list[Any], order: list[Any], key: str) -> list[Any]:
    ranks = {_identity(item, key): rank for rank, item in enumerate(order)}
    return sorted(items, key=lambda item: ranks.get(_identity(item, key), len(ranks)))


def _identity(item: Any, key: str) -> str:
    return repr(item.get(key) if key and isinstance(item, dict) else item)
