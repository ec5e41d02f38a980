"""What the server writes into an object's metadata, and what it accepts there."""

import random
import re
import uuid
from datetime import UTC, datetime

from simulations.cluster.api import Object
from simulations.cluster.apiserver.errors import Cause, invalid_value, required_value
from simulations.cluster.apiserver.kinds import Kind

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, as k8s.io/apimachinery's rand: no accidental words
_GENERATED_LENGTH = 63 - 5
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_PATH_SEGMENT_KINDS = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}  # `system:node` is a name there
_LABEL_KINDS = {"Namespace", "Service"}
_LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
_ANNOTATIONS_BYTES = 256 * 1024  # TotalAnnotationSizeLimitB of the real server

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character"
)
_LABEL_KEY_RULE = "name part must consist of alphanumeric characters, '-', '_' or '.'"
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character; at most 63 characters"
)
_OWNER_FIELDS = ("apiVersion", "kind", "name", "uid")
SERVER_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def timestamp(now_s: float) -> str:
    """Unix seconds as the API writes times."""
    return datetime.fromtimestamp(int(now_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_s(text: str) -> float:
    """A time of the API as Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def stamp_new(metadata: Object, kind: Kind, now_s: float, source: random.Random) -> None:
    """Everything the server decides when an object is born."""
    for name in (*SERVER_FIELDS, "resourceVersion", "managedFields", "selfLink"):
        metadata.pop(name, None)
    if not metadata.get("name") and metadata.get("generateName"):
        suffix = "".join(source.choices(_SUFFIX_LETTERS, k=5))
        metadata["name"] = metadata["generateName"][:_GENERATED_LENGTH] + suffix
    metadata["uid"] = str(uuid.UUID(int=source.getrandbits(128), version=4))
    metadata["creationTimestamp"] = timestamp(now_s)
    if kind.has_generation:
        metadata["generation"] = 1


def keep_server_fields(metadata: Object, old: Object) -> None:
    """What an update cannot change."""
    for name in ("managedFields", "selfLink"):
        metadata.pop(name, None)
    for name in (*SERVER_FIELDS, "name", "namespace", "resourceVersion", "generateName"):
        if name in old:
            metadata[name] = old[name]
        else:
            metadata.pop(name, None)


def check_metadata(metadata: Object, kind: Kind) -> list[Cause]:
    """Names, labels and annotations the real server would refuse."""
    causes = _check_name(metadata.get("name"), kind) + _check_shapes(metadata)
    return causes or _check_labels(metadata) + _check_annotations(metadata)


def _check_shapes(metadata: Object) -> list[Cause]:
    causes = []
    for name, shape in (("labels", dict), ("annotations", dict), ("ownerReferences", list), ("finalizers", list)):
        if not isinstance(metadata.get(name) or shape(), shape):
            causes.append(invalid_value(f"metadata.{name}", metadata[name], f"must be of type {shape.__name__}"))
    for index, owner in enumerate(metadata.get("ownerReferences") or () if not causes else ()):
        if not isinstance(owner, dict) or not all(owner.get(name) for name in _OWNER_FIELDS):
            causes.append(required_value(f"metadata.ownerReferences[{index}]", f"needs {', '.join(_OWNER_FIELDS)}"))
    return causes


def _check_name(name: object, kind: Kind) -> list[Cause]:
    if not name:
        return [required_value("metadata.name", "name or generateName is required")]
    if not isinstance(name, str):
        return [invalid_value("metadata.name", name, "must be a string")]
    if kind.resource.kind in _PATH_SEGMENT_KINDS:
        bad = name in (".", "..") or "/" in name or "%" in name
        return [invalid_value("metadata.name", name, "may not contain '/' or '%'")] if bad else []
    is_label = kind.resource.kind in _LABEL_KINDS
    pattern, limit = (_LABEL, 63) if is_label else (_SUBDOMAIN, 253)
    if len(name) > limit:
        return [invalid_value("metadata.name", name, f"must be no more than {limit} bytes")]
    if not pattern.match(name):
        return [invalid_value("metadata.name", name, _LABEL_RULE if is_label else _SUBDOMAIN_RULE)]
    return []


def _check_labels(metadata: Object) -> list[Cause]:
    causes = []
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.match(key):
            causes.append(invalid_value("metadata.labels", key, _LABEL_KEY_RULE))
        if not isinstance(value, str) or not _LABEL_VALUE.match(value):
            causes.append(invalid_value("metadata.labels", value, _LABEL_VALUE_RULE))
    return causes


def _check_annotations(metadata: Object) -> list[Cause]:
    annotations = metadata.get("annotations") or {}
    wrong = [key for key, value in annotations.items() if not isinstance(value, str)]
    if wrong:
        return [invalid_value(f"metadata.annotations[{key}]", annotations[key], "must be a string") for key in wrong]
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _ANNOTATIONS_BYTES:
        return [
            Cause(
                "metadata.annotations",
                f"Too long: may not be more than {_ANNOTATIONS_BYTES} bytes",
                "FieldValueTooLong",
            )
        ]
    return []
