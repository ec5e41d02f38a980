"""CustomResourceDefinitions for a cluster without KServe's or KEDA's own: permissive, with what controllers rely on."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulations.cluster.api import CRDS, INFERENCE_SERVICES, SCALED_OBJECTS, Object, Resource
from simulations.cluster.kserve.rules import Rules

NODE_GROUPS = Resource("serving.kserve.io", "v1alpha1", "localmodelnodegroups", "LocalModelNodeGroup", namespaced=False)
_ANY: Mapping[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_REPLICAS: Mapping[str, Any] = {"type": "integer", "format": "int32"}
_Column = tuple[str, str, str]  # name, type, JSONPath


def inference_service_crd(rules: Rules) -> Object:
    """InferenceService v1beta1. `spec.canary` exists from 0.20 on, as in the real one: clients tell versions by it."""
    bounds = {"minReplicas": _REPLICAS, "maxReplicas": _REPLICAS, "scaleTarget": _REPLICAS}
    component = {**_ANY, "properties": bounds}
    components: dict[str, Any] = {name: component for name in ("predictor", "transformer", "explainer")}
    if rules.has_canary:
        components["canary"] = {"type": "array", "items": _ANY}
    spec = {"type": "object", "properties": components, "required": ["predictor"]}
    columns = [
        ("URL", "string", ".status.url"),
        ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ]
    return _crd(INFERENCE_SERVICES, ["isvc"], spec, columns)


def scaled_object_crd() -> Object:
    """KEDA's ScaledObject v1alpha1."""
    reference = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    spec = {
        **_ANY,
        "required": ["scaleTargetRef", "triggers"],
        "properties": {
            "scaleTargetRef": {**reference, "x-kubernetes-preserve-unknown-fields": True},
            "minReplicaCount": _REPLICAS,
            "maxReplicaCount": _REPLICAS,
            "triggers": {"type": "array", "items": _ANY},
        },
    }
    columns = [
        ("ScaleTargetName", "string", ".spec.scaleTargetRef.name"),
        ("Min", "integer", ".spec.minReplicaCount"),
        ("Max", "integer", ".spec.maxReplicaCount"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Age", "date", ".metadata.creationTimestamp"),
    ]
    return _crd(SCALED_OBJECTS, ["so"], spec, columns)


def node_group_crd() -> Object:
    """KServe's LocalModelNodeGroup v1alpha1."""
    quantity = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    fields = {"storageLimit": quantity, "persistentVolumeSpec": _ANY, "persistentVolumeClaimSpec": _ANY}
    spec = {"type": "object", "required": sorted(fields), "properties": fields}
    return _crd(NODE_GROUPS, [], spec, [])


def _crd(resource: Resource, short_names: Sequence[str], spec: Mapping[str, Any], columns: Sequence[_Column]) -> Object:
    singular = resource.kind.lower()
    schema = {"type": "object", "properties": {"spec": spec, "status": _ANY}, "required": ["spec"]}
    version = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": name, "type": type_, "jsonPath": path} for name, type_, path in columns],
    }
    return {
        "apiVersion": CRDS.api_version,
        "kind": CRDS.kind,
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": singular,
                "shortNames": list(short_names),
            },
            "versions": [version],
        },
    }
