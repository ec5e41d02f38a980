"""The scale subresource: any kind with replicas seen as one autoscaling/v1 Scale."""

from typing import Any

from simulations.cluster.api import Object, Resource
from simulations.cluster.apiserver.errors import invalid, invalid_value, required_value
from simulations.cluster.apiserver.kinds import Kind, ScalePaths
from simulations.cluster.apiserver.selectors import selector_text, value_at
from simulations.cluster.apiserver.store import copy_json

_SHOWN = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
SCALE = Resource("autoscaling", "v1", "scales", "Scale")


def scale_of(kind: Kind, paths: ScalePaths, obj: Object) -> Object:
    """The Scale that shows an object."""
    selector: Any = value_at(obj, paths.selector) if paths.selector else None
    status = {"replicas": value_at(obj, paths.status_replicas) or 0}
    text = selector if isinstance(selector, str) else selector_text(selector)
    if text:
        status["selector"] = text
    metadata = {name: obj["metadata"][name] for name in _SHOWN if name in obj["metadata"]}
    spec = {"replicas": value_at(obj, paths.spec_replicas) or 0}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def with_scale(kind: Kind, paths: ScalePaths, obj: Object, scale: Object) -> Object:
    """The object at the size a Scale asks for."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        cause = invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(SCALE, obj["metadata"]["name"], [cause])
    changed = copy_json(obj)
    parent = changed
    for name in paths.spec_replicas[:-1]:
        if name not in parent:
            raise invalid(kind.resource, obj["metadata"]["name"], [required_value(".".join(paths.spec_replicas[:-1]))])
        parent = parent[name]
    parent[paths.spec_replicas[-1]] = replicas
    return changed
