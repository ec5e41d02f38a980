"""The types of the built-in fields that the server reads: what decoding does in the real one.

A wrong type is a 400 that names the field. A null is a field that was not given.
"""

from collections.abc import Mapping
from typing import Union

from simulations.cluster.api import Object
from simulations.cluster.apiserver.errors import bad_request
from simulations.cluster.apiserver.kinds import Kind

Shape = Union[type, "dict[str, Shape]", "list[Shape]"]  # a type; fields of an object; items of a list
_WORDS = {bool: "bool", int: "number", float: "number", str: "string", dict: "object", list: "array"}
_ANY_NAME = "*"  # every field of a map has this shape

_TEXTS: Shape = {_ANY_NAME: str}
_OBJECTS: Shape = [dict]
_OWNER: Shape = {"apiVersion": str, "kind": str, "name": str, "uid": str}
_METADATA: Shape = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "labels": _TEXTS,
    "annotations": _TEXTS,
    "finalizers": [str],
    "ownerReferences": [_OWNER],
}
_CONTAINER: Shape = {
    "name": str,
    "image": str,
    "env": _OBJECTS,
    "ports": _OBJECTS,
    "resources": {"limits": dict, "requests": dict},
}
_POD: Shape = {"containers": [_CONTAINER], "nodeName": str, "terminationGracePeriodSeconds": int}
_EXPRESSION: Shape = {"key": str, "operator": str, "values": [str]}
_SELECTOR: Shape = {"matchLabels": _TEXTS, "matchExpressions": [_EXPRESSION]}
_WORKLOAD: Shape = {
    "spec": {
        "replicas": int,
        "selector": _SELECTOR,
        "strategy": {"type": str, "rollingUpdate": dict},
        "template": {"metadata": {"labels": _TEXTS, "annotations": _TEXTS}, "spec": _POD},
    },
    "status": {"replicas": int, "conditions": _OBJECTS},
}
_SCALE: Shape = {"metadata": _METADATA, "spec": {"replicas": int}}
_BINDING: Shape = {"roleRef": {"kind": str, "name": str}, "subjects": [{"kind": str, "name": str, "namespace": str}]}
_RULE: Shape = {
    "verbs": [str],
    "apiGroups": [str],
    "resources": [str],
    "resourceNames": [str],
    "nonResourceURLs": [str],
}
_ROLE: Shape = {"rules": [_RULE]}
_CRD_VERSION: Shape = {
    "name": str,
    "schema": {"openAPIV3Schema": dict},
    "subresources": {"scale": {"specReplicasPath": str, "statusReplicasPath": str, "labelSelectorPath": str}},
    "additionalPrinterColumns": [{"name": str, "jsonPath": str, "type": str}],
    "selectableFields": [{"jsonPath": str}],
}
_CRD_NAMES: Shape = {"plural": str, "singular": str, "kind": str, "shortNames": [str], "categories": [str]}
_SHAPES: Mapping[str, Shape] = {
    "Pod": {"spec": _POD, "status": {"phase": str, "containerStatuses": _OBJECTS, "conditions": _OBJECTS}},
    "Deployment": _WORKLOAD,
    "ReplicaSet": _WORKLOAD,
    "StatefulSet": _WORKLOAD,
    "Service": {"spec": {"type": str, "ports": _OBJECTS}},
    "HorizontalPodAutoscaler": {
        "spec": {"minReplicas": int, "maxReplicas": int, "scaleTargetRef": {"kind": str, "name": str}}
    },
    "Event": {"involvedObject": {"namespace": str}, "source": dict},
    "Role": _ROLE,
    "ClusterRole": _ROLE,
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "CustomResourceDefinition": {
        "spec": {"group": str, "scope": str, "names": _CRD_NAMES, "versions": [_CRD_VERSION]},
        "status": {"storedVersions": [str], "conditions": _OBJECTS},
    },
}


def check_shapes(kind: Kind, obj: Object) -> None:
    """400 for a built-in field of a wrong type; nulls are dropped in place."""
    name = kind.resource.kind
    try:
        _check({"metadata": _METADATA}, obj, name)
        if not kind.is_custom:
            _check({"spec": dict, "status": dict}, obj, name)
            _check(_SHAPES.get(name, dict), obj, name)
    except _WrongTypeError as wrong:
        version = kind.resource.version
        raise bad_request(f'{name} in version "{version}" cannot be handled as a {name}: {wrong}') from wrong


def check_scale_shape(scale: Object) -> None:
    """The same for a Scale."""
    try:
        _check(_SCALE, scale, "Scale")
    except _WrongTypeError as wrong:
        raise bad_request(f'Scale in version "v1" cannot be handled as a Scale: {wrong}') from wrong


class _WrongTypeError(Exception):
    """Says which field, and of which type it should have been."""

    def __init__(self, path: str, found: object, wanted: type) -> None:
        word = _WORDS.get(type(found), type(found).__name__)
        super().__init__(f"json: cannot unmarshal {word} into field {path} of type {_WORDS[wanted]}")


def _check(shape: Shape, value: object, path: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _WrongTypeError(path, value, dict)
        _check_fields(shape, value, path)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise _WrongTypeError(path, value, list)
        for index, item in enumerate(value):
            _check(shape[0], item, f"{path}[{index}]")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        raise _WrongTypeError(path, value, shape)


def _check_fields(shape: "dict[str, Shape]", obj: Object, path: str) -> None:
    every = shape.get(_ANY_NAME)
    for name in list(obj) if every else shape:
        if name not in obj:
            continue
        if obj[name] is None:
            del obj[name]
        else:
            _check(every or shape[name], obj[name], f"{path}.{name}")
