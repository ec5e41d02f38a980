"""Objects as the rows that `kubectl get` prints."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.apiserver.kinds import Column, Kind
from simulations.cluster.apiserver.metadata import unix_s

_NAME = Column(name="Name", path=".metadata.name", format="name")
_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
_STEP = re.compile(
    r"""\.((?:[^.\[\\]|\\.)+)"""  # .name, with \. for a dot within
    r"""|\['([^']+)'\]|\[(\d+|\*)\]"""  # ['name'], [0], [*]
    r"""|\[\?\(@\.([\w.]+)\s*==\s*["']([^"']*)["']\)\]"""  # [?(@.type=="Ready")]
)

Cell = Callable[[Object], object]


def columns_of(kind: Kind) -> list[Column]:
    """Name first, then what the kind says."""
    if kind.custom is not None:
        return [_NAME, *kind.custom.columns]
    own = [Column(name=name, path="", type=type_) for name, type_, _ in _BUILT_IN.get(kind.resource.kind, ())]
    return [_NAME, *own, _AGE]


def table(kind: Kind, objects: Sequence[Object], now_s: float, metadata: Object) -> Object:
    """A meta.k8s.io/v1 Table."""
    columns = columns_of(kind)
    definitions = [
        {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
        for c in columns
    ]
    rows = [{"cells": cells(kind, obj, now_s), "object": partial(obj)} for obj in objects]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    }


def partial(obj: Object) -> Object:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def cells(kind: Kind, obj: Object, now_s: float) -> list[object]:
    if kind.custom is not None:
        return [_cell(column, obj, now_s) for column in columns_of(kind)]
    own = [read(obj) for _, _, read in _BUILT_IN.get(kind.resource.kind, ())]
    return [obj["metadata"]["name"], *own, _cell(_AGE, obj, now_s)]


def _cell(column: Column, obj: Object, now_s: float) -> object:
    found = [value for value in find(obj, column.path) if value is not None]
    if not found:
        return "<unknown>" if column.path == _AGE.path else None
    if column.type == "date":
        return age(now_s - unix_s(str(found[0])))
    if column.type == "integer" and isinstance(found[0], int | float):
        return int(found[0])
    if column.type in ("boolean", "number") and len(found) == 1:
        return found[0]
    return ",".join(value if isinstance(value, str) else _text(value) for value in found)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def age(duration_s: float) -> str:
    """Two units at most, as kubectl prints durations."""
    left_s = max(0, int(duration_s))
    if left_s < 2 * _MINUTE_S:
        return f"{left_s}s"
    if left_s < 10 * _MINUTE_S:
        minutes, seconds = divmod(left_s, _MINUTE_S)
        return f"{minutes}m{seconds}s" if seconds else f"{minutes}m"
    if left_s < 3 * _HOUR_S:
        return f"{left_s // _MINUTE_S}m"
    if left_s < 8 * _HOUR_S:
        hours, rest = divmod(left_s, _HOUR_S)
        return f"{hours}h{rest // _MINUTE_S}m" if rest >= _MINUTE_S else f"{hours}h"
    if left_s < 2 * _DAY_S:
        return f"{left_s // _HOUR_S}h"
    return f"{left_s // _DAY_S}d"


def find(obj: object, path: str) -> Iterator[Any]:
    """The values at a JSONPath of the small kind that printer columns use."""
    values = [obj]
    for step in _STEP.finditer(path):
        values = [below for value in values for below in _below(value, step)]
    yield from values


def _below(value: object, step: re.Match[str]) -> Iterator[object]:
    name = step[1].replace("\\.", ".") if step[1] else step[2]
    if name is not None:
        if isinstance(value, dict) and name in value:
            yield value[name]
    elif isinstance(value, list) and step[3] == "*":
        yield from value
    elif isinstance(value, list) and step[3] is not None:
        yield from value[int(step[3]) : int(step[3]) + 1]
    elif isinstance(value, list) and step[4]:
        yield from (item for item in value if list(find(item, f".{step[4]}")) == [step[5]])


# --- built-in kinds ---


def _at(*path: str, absent: object = None) -> Cell:
    def read(obj: Object) -> object:
        value: Any = obj
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return absent if value is None else value

    return read


def _containers(pod: Object) -> list[Object]:
    found: list[Object] = pod.get("status", {}).get("containerStatuses") or []
    return found


def _pod_ready(pod: Object) -> str:
    ready = sum(bool(status.get("ready")) for status in _containers(pod))
    return f"{ready}/{len(pod['spec'].get('containers') or ())}"


def _pod_status(pod: Object) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for status in _containers(pod):
        reason = (status.get("state", {}).get("waiting") or {}).get("reason")
        if reason:
            return str(reason)
    return str(pod.get("status", {}).get("phase", "Unknown"))


def _restarts(pod: Object) -> int:
    return sum(status.get("restartCount", 0) for status in _containers(pod))


def _deployment_ready(obj: Object) -> str:
    return f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"


def _node_status(node: Object) -> str:
    conditions = node.get("status", {}).get("conditions") or ()
    ready = next((one["status"] == "True" for one in conditions if one["type"] == "Ready"), None)
    text = "Unknown" if ready is None else "Ready" if ready else "NotReady"
    return text + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _involved(event: Object) -> str:
    about = event.get("involvedObject") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def _ports(service: Object) -> str:
    return ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in service["spec"].get("ports") or ())


def _hpa_target(hpa: Object) -> str:
    target = hpa["spec"]["scaleTargetRef"]
    return f"{target['kind']}/{target['name']}"


_BUILT_IN: Mapping[str, tuple[tuple[str, str, Cell], ...]] = {
    "Pod": (
        ("Ready", "string", _pod_ready),
        ("Status", "string", _pod_status),
        ("Restarts", "integer", _restarts),
        ("IP", "string", _at("status", "podIP", absent="<none>")),
        ("Node", "string", _at("spec", "nodeName", absent="<none>")),
    ),
    "Deployment": (
        ("Ready", "string", _deployment_ready),
        ("Up-to-date", "integer", _at("status", "updatedReplicas", absent=0)),
        ("Available", "integer", _at("status", "availableReplicas", absent=0)),
    ),
    "ReplicaSet": (
        ("Desired", "integer", _at("spec", "replicas", absent=0)),
        ("Current", "integer", _at("status", "replicas", absent=0)),
        ("Ready", "integer", _at("status", "readyReplicas", absent=0)),
    ),
    "Node": (
        ("Status", "string", _node_status),
        ("GPUs", "string", _at("status", "allocatable", "nvidia.com/gpu", absent="0")),
    ),
    "Namespace": (("Status", "string", _at("status", "phase")),),
    "Service": (
        ("Type", "string", _at("spec", "type")),
        ("Cluster-IP", "string", _at("spec", "clusterIP", absent="<none>")),
        ("Port(s)", "string", _ports),
    ),
    "Event": (
        ("Type", "string", _at("type")),
        ("Reason", "string", _at("reason")),
        ("Object", "string", _involved),
        ("Message", "string", _at("message")),
    ),
    "Lease": (("Holder", "string", _at("spec", "holderIdentity")),),
    "HorizontalPodAutoscaler": (
        ("Reference", "string", _hpa_target),
        ("MinPods", "integer", _at("spec", "minReplicas")),
        ("MaxPods", "integer", _at("spec", "maxReplicas")),
        ("Replicas", "integer", _at("status", "currentReplicas", absent=0)),
    ),
}
