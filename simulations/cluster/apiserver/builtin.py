"""Defaults and validation of the built-in kinds: what controllers rely on, not the whole of Kubernetes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.apiserver.errors import Cause, invalid_value, required_value
from simulations.cluster.apiserver.kinds import Kind

_IMMUTABLE = "field is immutable"
_MICRO_TIME = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$")


def set_defaults(kind: Kind, obj: Object) -> None:
    """Fill in what the real server fills in."""
    fill = _DEFAULTS.get(kind.resource.kind)
    if fill is not None:
        fill(obj)


def set_initial_status(kind: Kind, obj: Object) -> None:
    """Status as it is right after creation; clients cannot write it there (but kubelets register with one)."""
    name = kind.resource.kind
    if name == "Node":
        return
    obj["status"] = dict(_FIRST_STATUS.get(name, {}))


def check(kind: Kind, obj: Object, old: Object | None) -> list[Cause]:
    """Everything wrong with an object of a built-in kind."""
    find = _CHECKS.get(kind.resource.kind)
    return [] if find is None else find(obj, old)


_FIRST_STATUS: Mapping[str, Object] = {
    "Namespace": {"phase": "Active"},
    "Pod": {"phase": "Pending", "qosClass": "BestEffort"},
    "Service": {"loadBalancer": {}},
    "PersistentVolume": {"phase": "Pending"},
    "PersistentVolumeClaim": {"phase": "Pending"},
}


def _default_pod_spec(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for container in spec.get("containers") or ():
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = resources["limits"] | resources.get("requests", {})


def _default_pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _default_pod_spec(spec)
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("enableServiceLinks", True)


def _default_replicas(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    template = spec.get("template")
    if isinstance(template, dict):
        template.setdefault("metadata", {})
        _default_pod_spec(template.setdefault("spec", {}))


def _default_deployment(obj: Object) -> None:
    _default_replicas(obj)
    spec = obj["spec"]
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        strategy["rollingUpdate"] = {"maxSurge": "25%", "maxUnavailable": "25%"} | rolling
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def _default_service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def _default_namespace(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")


def _default_hpa(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1


def _default_secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")


_DEFAULTS: Mapping[str, Callable[[Object], None]] = {
    "Pod": _default_pod,
    "Deployment": _default_deployment,
    "ReplicaSet": _default_replicas,
    "StatefulSet": _default_replicas,
    "Service": _default_service,
    "Namespace": _default_namespace,
    "HorizontalPodAutoscaler": _default_hpa,
    "Secret": _default_secret,
}


def _whole(spec: Object, field: str, path: str, minimum: int = 0) -> list[Cause]:
    value = spec.get(field)
    if value is None:
        return []
    if not isinstance(value, int) or isinstance(value, bool):
        return [invalid_value(f"{path}.{field}", value, "must be an integer")]
    if value < minimum:
        return [invalid_value(f"{path}.{field}", value, f"must be greater than or equal to {minimum}")]
    return []


def _check_pod_spec(spec: Object, path: str) -> list[Cause]:
    causes = _whole(spec, "terminationGracePeriodSeconds", path)
    containers = spec.get("containers")
    if not containers:
        return [*causes, required_value(f"{path}.containers")]
    seen: set[str] = set()
    for index, container in enumerate(containers):
        at = f"{path}.containers[{index}]"
        name = container.get("name")
        if not name:
            causes.append(required_value(f"{at}.name"))
        elif name in seen:
            causes.append(Cause(f"{at}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate"))
        seen.add(name or "")
        if not container.get("image"):
            causes.append(required_value(f"{at}.image"))
    return causes


def _check_pod(obj: Object, old: Object | None) -> list[Cause]:
    if old is None:
        return _check_pod_spec(obj["spec"], "spec")
    assigned = old["spec"].get("nodeName")
    if assigned and obj["spec"].get("nodeName") != assigned:
        return [
            invalid_value("spec.nodeName", obj["spec"].get("nodeName"), "may not be changed once the pod is assigned")
        ]
    return []


def _check_workload(obj: Object, old: Object | None) -> list[Cause]:
    spec = obj["spec"]
    causes = _whole(spec, "replicas", "spec")
    selector = spec.get("selector")
    if not selector:
        return [*causes, required_value("spec.selector")]
    if old is not None and old["spec"].get("selector") != selector:
        causes.append(invalid_value("spec.selector", selector, _IMMUTABLE))
    template = spec.get("template")
    if not isinstance(template, dict):
        return [*causes, required_value("spec.template")]
    labels = (template.get("metadata") or {}).get("labels") or {}
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        causes.append(
            invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
        )
    return causes + _check_pod_spec(template["spec"], "spec.template.spec")


def _check_service(obj: Object, old: Object | None) -> list[Cause]:
    spec = obj["spec"]
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        return [required_value("spec.ports")]
    return []


def _check_lease(obj: Object, old: Object | None) -> list[Cause]:
    spec: Any = obj.get("spec") or {}
    causes = _whole(spec, "leaseDurationSeconds", "spec", 1) + _whole(spec, "leaseTransitions", "spec")
    holder = spec.get("holderIdentity")
    if holder is not None and not isinstance(holder, str):
        causes.append(invalid_value("spec.holderIdentity", holder, "must be a string"))
    for field in ("acquireTime", "renewTime"):
        value = spec.get(field)
        if value is not None and not (isinstance(value, str) and _MICRO_TIME.match(value)):
            causes.append(invalid_value(f"spec.{field}", value, "must be an RFC 3339 time"))
    return causes


def _check_hpa(obj: Object, old: Object | None) -> list[Cause]:
    spec = obj["spec"]
    causes = _whole(spec, "minReplicas", "spec", 1) + _whole(spec, "maxReplicas", "spec", 1)
    if "maxReplicas" not in spec:
        causes.append(required_value("spec.maxReplicas"))
    elif not causes and spec["maxReplicas"] < spec["minReplicas"]:
        causes.append(
            invalid_value("spec.maxReplicas", spec["maxReplicas"], "must be greater than or equal to `minReplicas`")
        )
    for field in ("kind", "name"):
        if not (spec.get("scaleTargetRef") or {}).get(field):
            causes.append(required_value(f"spec.scaleTargetRef.{field}"))
    return causes


def _check_binding(obj: Object, old: Object | None) -> list[Cause]:
    if not obj.get("roleRef"):
        return [required_value("roleRef")]
    if old is not None and old["roleRef"] != obj["roleRef"]:
        return [invalid_value("roleRef", obj["roleRef"], "cannot change roleRef")]
    return []


def _check_event(obj: Object, old: Object | None) -> list[Cause]:
    about = obj.get("involvedObject") or {}
    namespace = about.get("namespace", "")
    if namespace not in ("", obj["metadata"]["namespace"]):
        return [invalid_value("involvedObject.namespace", namespace, "does not match event.namespace")]
    return []


_CHECKS: Mapping[str, Callable[[Object, Object | None], list[Cause]]] = {
    "Pod": _check_pod,
    "Deployment": _check_workload,
    "ReplicaSet": _check_workload,
    "StatefulSet": _check_workload,
    "Service": _check_service,
    "Lease": _check_lease,
    "HorizontalPodAutoscaler": _check_hpa,
    "RoleBinding": _check_binding,
    "ClusterRoleBinding": _check_binding,
    "Event": _check_event,
}
