"""Names, labels and annotations that KServe gives in Standard mode, and what it reads."""

from collections.abc import Mapping

from simulations.cluster.api import Object
from simulations.cluster.kserve.rules import AutoscalerClass

SERVICE_LABEL = "serving.kserve.io/inferenceservice"
COMPONENT_LABEL = "component"
CLASS = "serving.kserve.io/autoscalerClass"
MODE = "serving.kserve.io/deploymentMode"
STOP = "serving.kserve.io/stop"
DISABLE_AUTO_UPDATE = "serving.kserve.io/disable-auto-update"
SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
CONTAINER = "kserve-container"
PORT = 8080  # of KServe's own runtimes

STANDARD_MODES = ("Standard", "RawDeployment")  # the same mode before and since 0.16
# Annotations of the service that do not reach its pods; exact names, no prefixes.
NOT_COPIED = frozenset(
    {
        "autoscaling.knative.dev/min-scale",
        "autoscaling.knative.dev/max-scale",
        SOURCE_URI,
        "kubectl.kubernetes.io/last-applied-configuration",
        "modelFormat",
    }
)


def predictor_name(isvc: Object) -> str:
    """Name of the Deployment, the Service and the HPA or ScaledObject."""
    own = isvc["spec"]["predictor"].get("name")  # since 0.20
    return f"{isvc['metadata']['name']}-{own}-predictor" if own else f"{isvc['metadata']['name']}-predictor"


def annotation(isvc: Object, name: str) -> str:
    """An annotation of the service, or an empty text."""
    return str((isvc["metadata"].get("annotations") or {}).get(name, ""))


def is_stopped(isvc: Object) -> bool:
    """Whether serving.kserve.io/stop says true, in any case."""
    return annotation(isvc, STOP).lower() == "true"


def is_standard(isvc: Object, default_mode: str) -> bool:
    """Whether the service is to be a plain Deployment."""
    return (annotation(isvc, MODE) or default_mode) in STANDARD_MODES


def class_of(annotations: Mapping[str, str]) -> AutoscalerClass:
    """The effective autoscaler class of merged annotations."""
    return AutoscalerClass(annotations.get(CLASS) or AutoscalerClass.HPA)


def min_replicas(isvc: Object) -> int:
    """minReplicas, or 1."""
    value = isvc["spec"]["predictor"].get("minReplicas")
    return 1 if value is None else int(value)


def max_replicas(isvc: Object) -> int:
    """maxReplicas, or 0 for none."""
    return int(isvc["spec"]["predictor"].get("maxReplicas") or 0)
