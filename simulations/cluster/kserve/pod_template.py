"""The pod template of a predictor: labels, annotations and containers from the InferenceService; pure.

A predictor brings its own containers, or a `model` that a serving runtime turns into one. The runtime
here is the vLLM one that KServe ships since 0.20 (`kserve-vllmserver`).
"""

from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.kserve import names
from simulations.cluster.kserve.rules import Rules

RUNTIME = "kserve-vllmserver"
_RUNTIME_IMAGE = "vllm/vllm-openai:v0.24.0"  # what KServe 0.20 ships
_RUNTIME_ANNOTATIONS = {"prometheus.kserve.io/port": str(names.PORT), "prometheus.kserve.io/path": "/metrics"}
_MODEL_DIRECTORY = "/mnt/models"

# Fields of a predictor that are KServe's own; all others are those of a pod.
_NOT_POD = frozenset(
    [
        "minReplicas",
        "maxReplicas",
        "scaleTarget",
        "scaleMetric",
        "scaleMetricType",
        "autoScaling",
        "containerConcurrency",
        "timeout",
        "canaryTrafficPercent",
        "labels",
        "annotations",
        "deploymentStrategy",
        "name",
        "model",
        "workerSpec",
        "batcher",
        "logger",
    ]
)


def merged_annotations(isvc: Object) -> dict[str, str]:
    """Runtime < service < predictor: what Deployment and pods carry, and what the class is read from."""
    predictor = isvc["spec"]["predictor"]
    runtime = _RUNTIME_ANNOTATIONS if predictor.get("model") else {}
    own = isvc["metadata"].get("annotations") or {}
    copied = {name: text for name, text in own.items() if name not in names.NOT_COPIED}
    uri = (predictor.get("model") or {}).get("storageUri")
    source = {names.SOURCE_URI: uri} if uri else {}
    return {**runtime, **copied, **(predictor.get("annotations") or {}), **source}


def merged_labels(isvc: Object) -> dict[str, str]:
    """The service's labels and KServe's own."""
    return {
        **(isvc["metadata"].get("labels") or {}),
        **(isvc["spec"]["predictor"].get("labels") or {}),
        "app": app_label(isvc),
        names.SERVICE_LABEL: isvc["metadata"]["name"],
        names.COMPONENT_LABEL: "predictor",
    }


def app_label(isvc: Object) -> str:
    """The value that the Deployment and the Service select by."""
    return f"isvc.{names.predictor_name(isvc)}"


def pod_template(isvc: Object, rules: Rules) -> Object:
    """The whole template."""
    return {
        "metadata": {"labels": merged_labels(isvc), "annotations": merged_annotations(isvc)},
        "spec": _pod_spec(isvc, rules),
    }


def container_port(isvc: Object) -> int:
    """The port that the Service sends to."""
    for container in isvc["spec"]["predictor"].get("containers") or ():
        for port in container.get("ports") or ():
            return int(port.get("containerPort") or names.PORT)
    return names.PORT


def _pod_spec(isvc: Object, rules: Rules) -> dict[str, Any]:
    predictor = isvc["spec"]["predictor"]
    spec = {name: value for name, value in predictor.items() if name not in _NOT_POD}
    if predictor.get("model"):
        spec |= _model_server(isvc)
    if rules.names_service_in_env:
        spec["containers"] = [_with_service_name(one, isvc["metadata"]["name"]) for one in spec.get("containers", [])]
    return spec


def _with_service_name(container: Object, name: str) -> Object:
    if container.get("name") != names.CONTAINER:
        return container
    return {**container, "env": [*container.get("env", []), {"name": "INFERENCE_SERVICE_NAME", "value": name}]}


def _model_server(isvc: Object) -> dict[str, Any]:
    """The vLLM runtime's container, and the init container that brings the weights."""
    model = isvc["spec"]["predictor"]["model"]
    own = {name: model[name] for name in ("env", "resources", "volumeMounts") if model.get(name)}
    command = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    args = [f"--port={names.PORT}", f"--served-model-name={isvc['metadata']['name']}", f"--model={_MODEL_DIRECTORY}"]
    server = {
        "name": names.CONTAINER,
        "image": model.get("image") or _RUNTIME_IMAGE,
        "command": command,
        "args": [*args, *model.get("args", [])],
        "ports": [{"containerPort": names.PORT, "protocol": "TCP"}],
        **own,
    }
    if not model.get("storageUri"):
        return {"containers": [server]}
    args = [model["storageUri"], _MODEL_DIRECTORY]
    return {
        "initContainers": [{"name": "storage-initializer", "image": "kserve/storage-initializer", "args": args}],
        "containers": [server],
    }
