"""The objects that KServe wants for an InferenceService in Standard mode: pure."""

from typing import Any

from simulations.cluster.api import DEPLOYMENTS, HPAS, SCALED_OBJECTS, SERVICES, Object, Resource
from simulations.cluster.kserve import names
from simulations.cluster.kserve.pod_template import app_label, container_port, merged_annotations, merged_labels
from simulations.cluster.kserve.pod_template import pod_template as template_of
from simulations.cluster.kserve.rules import Rules
from simulations.cluster.workloads.deployment import controller_reference

_CPU_TARGET_PERCENT = 80  # of KServe's HPA, unless scaleTarget says otherwise


def pinned_replicas(isvc: Object, rules: Rules) -> int | None:
    """The number KServe insists on, or None where it leaves the number alone."""
    is_pinned = names.class_of(merged_annotations(isvc)) in rules.pinned
    return names.min_replicas(isvc) if is_pinned else None


def deployment_for(isvc: Object, rules: Rules) -> Object:
    """The predictor's Deployment. Replicas only where KServe insists on a number."""
    predictor = isvc["spec"]["predictor"]
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": app_label(isvc)}},
        "template": template_of(isvc, rules),
    }
    if predictor.get("deploymentStrategy"):
        spec["strategy"] = predictor["deploymentStrategy"]
    replicas = pinned_replicas(isvc, rules)
    if replicas is not None:
        spec["replicas"] = replicas
    return _object(DEPLOYMENTS, isvc, spec)


def service_for(isvc: Object) -> Object:
    """The predictor's Service: port 80 to the server's port."""
    name = names.predictor_name(isvc)
    port = {"name": name, "port": 80, "protocol": "TCP", "targetPort": container_port(isvc)}
    return _object(SERVICES, isvc, {"selector": {"app": app_label(isvc)}, "ports": [port]})


def hpa_for(isvc: Object) -> Object:
    """KServe's HPA for class hpa: never below 1, never max below min."""
    low = max(1, names.min_replicas(isvc))
    target = isvc["spec"]["predictor"].get("scaleTarget") or _CPU_TARGET_PERCENT
    metric = isvc["spec"]["predictor"].get("scaleMetric") or "cpu"
    spec = {
        "scaleTargetRef": _target(isvc),
        "minReplicas": low,
        "maxReplicas": max(low, names.max_replicas(isvc)),
        "metrics": [_resource_metric(metric, target)],
    }
    return _object(HPAS, isvc, spec)


def _resource_metric(name: str, percent: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def scaled_object_for(isvc: Object) -> Object:
    """The ScaledObject for class keda; minReplicas 0 is passed through."""
    low = names.min_replicas(isvc)
    metrics = (isvc["spec"]["predictor"].get("autoScaling") or {}).get("metrics") or []
    spec = {
        "scaleTargetRef": {"name": names.predictor_name(isvc)},
        "minReplicaCount": low,
        "maxReplicaCount": max(1, low, names.max_replicas(isvc)),
        "triggers": [_trigger(metric) for metric in metrics],
    }
    return _object(SCALED_OBJECTS, isvc, spec)


def _trigger(metric: Object) -> Object:
    """An External metric's query, or a Resource metric's utilisation."""
    if metric["type"] == "External":
        external = metric["external"]
        source, value = external["metric"], str(external["target"]["value"])
        known = {name: source[name] for name in ("serverAddress", "query", "namespace") if source.get(name)}
        return {"type": source["backend"], "metadata": {**known, "threshold": value}}
    resource = metric["resource"]
    value = str(resource["target"].get("averageUtilization", _CPU_TARGET_PERCENT))
    return {"type": resource["name"], "metricType": "Utilization", "metadata": {"value": value}}


def _target(isvc: Object) -> Object:
    return {"apiVersion": DEPLOYMENTS.api_version, "kind": DEPLOYMENTS.kind, "name": names.predictor_name(isvc)}


def _object(resource: Resource, isvc: Object, spec: dict[str, Any]) -> Object:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": names.predictor_name(isvc),
            "namespace": isvc["metadata"]["namespace"],
            "labels": merged_labels(isvc),
            "annotations": merged_annotations(isvc),
            "ownerReferences": [controller_reference(isvc)],
        },
        "spec": spec,
    }
