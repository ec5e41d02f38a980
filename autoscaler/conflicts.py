"""Who else scales a workload, and where KServe would fight us. Pure; each finding is a `Refusal`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autoscaler.kube.resources import DEPLOYMENTS
from autoscaler.kube.views import DeploymentView, ScalerView, ServiceView
from autoscaler.refusal import Refusal, RefusalReason

CLASS_ANNOTATION = "serving.kserve.io/autoscalerClass"
_DEFAULT_CLASS = "hpa"  # KServe's, when the annotation is absent
_MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
_STOP_ANNOTATION = "serving.kserve.io/stop"
_LLMD_KEY = "llm-d.ai/managed"
_KEDA_PAUSED = "autoscaling.keda.sh/paused"
_KNATIVE_MODES = frozenset({"Knative", "Serverless"})
# 0.15.0 pins replicas to minReplicas with class external (fixed in 0.15.1); 0.16.0-rc0 panics with it (fixed in rc1).
UNSUPPORTED_KSERVE = {
    "0.15.0": "it resets spec.replicas to minReplicas with class external; upgrade to 0.15.1 or newer",
    "0.16.0-rc0": "its controller panics with class external; upgrade to 0.16.0",
}
_TAG = re.compile(r":v?(\d+\.\d+\.\d+(?:-rc\d+)?)(?:@|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """HPAs and ScaledObjects by the Deployment they scale (`namespace/name`)."""

    by_deployment: Mapping[str, tuple[ScalerView, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, scalers: Iterable[ScalerView]) -> "Rivals":
        """Indexed from all scalers there are."""
        found: dict[str, list[ScalerView]] = {}
        for scaler in scalers:
            if scaler.target_kind == DEPLOYMENTS.kind:
                found.setdefault(f"{scaler.meta.namespace}/{scaler.target_name}", []).append(scaler)
        return cls(by_deployment={key: tuple(sorted(views, key=_rank)) for key, views in found.items()})

    def of_deployment(self, key: str) -> tuple[ScalerView, ...]:
        """Who scales this Deployment."""
        return self.by_deployment.get(key, ())


def refusals_of(
    service: ServiceView | None, deployment: DeploymentView | None, rivals: Rivals, kserve_version: str | None
) -> Iterable[Refusal]:
    """All that speaks against scaling, the strongest first."""
    if service is not None:
        yield from _service_refusals(service)
    if deployment is None:
        return
    if deployment.is_multi_node and not (service and service.has_workers):
        yield _multi_node(f"Deployment {deployment.meta.key}", "has a worker-container")
    for scaler in rivals.of_deployment(deployment.meta.key):
        if not is_paused(scaler):
            yield _rival(scaler, deployment)
    yield from _managed_elsewhere(service, deployment)
    if service is not None:
        yield from _kserve_refusals(service, deployment, kserve_version)


def is_paused(scaler: ScalerView) -> bool:
    """KEDA deletes its HPA and keeps still; paused-replicas, paused-scale-in and -out still write."""
    annotations = scaler.meta.annotations
    return (
        scaler.kind == "ScaledObject"
        and annotations.get(_KEDA_PAUSED, "").lower() == "true"
        and "autoscaling.keda.sh/paused-replicas" not in annotations
    )


def version_of(images: Iterable[str]) -> str | None:
    """KServe's version by its controller's image tag."""
    found = (_TAG.search(image) for image in images if "kserve-controller" in image)
    return next((match.group(1) for match in found if match), None)


def _service_refusals(service: ServiceView) -> Iterable[Refusal]:
    name, annotations = f"InferenceService {service.meta.key}", service.meta.annotations
    if annotations.get(_STOP_ANNOTATION, "").lower() == "true":
        message = f"{name}: annotation {_STOP_ANNOTATION} is true: the service is stopped; remove it to start"
        yield Refusal(reason=RefusalReason.STOPPED, message=message)
    if service.has_workers:
        yield _multi_node(name, "has spec.predictor.workerSpec")
    mode = service.deployment_mode or annotations.get(_MODE_ANNOTATION, "")
    if mode in _KNATIVE_MODES:
        message = f"{name}: deployment mode {mode}: Knative's own autoscaler would revert us; use mode Standard"
        yield Refusal(reason=RefusalReason.KNATIVE_MODE, message=message)
    if mode == "ModelMesh":
        message = f"{name}: deployment mode ModelMesh places models itself: pods are not replicas; use mode Standard"
        yield Refusal(reason=RefusalReason.MODEL_MESH, message=message)


def _multi_node(name: str, what: str) -> Refusal:
    return Refusal(
        reason=RefusalReason.MULTI_NODE,
        message=f"{name} {what}: more heads do not join its Ray cluster; add whole services, or use "
        "LLMInferenceService with LeaderWorkerSet",
    )


def _rival(scaler: ScalerView, deployment: DeploymentView) -> Refusal:
    is_hpa = scaler.kind == "HorizontalPodAutoscaler"
    advice = "delete it" if is_hpa else f'delete it or annotate it with {_KEDA_PAUSED}: "true"'
    return Refusal(
        reason=RefusalReason.HPA_CONFLICT if is_hpa else RefusalReason.SCALED_OBJECT_CONFLICT,
        message=f"{scaler.kind} {scaler.meta.key}: spec.scaleTargetRef names Deployment {deployment.meta.key}; "
        f"{advice}, or use mode advise to compare",
    )


def _managed_elsewhere(service: ServiceView | None, deployment: DeploymentView) -> Iterable[Refusal]:
    holders = [(f"Deployment {deployment.meta.key}", deployment.meta)]
    if service is not None:
        holders.append((f"InferenceService {service.meta.key}", service.meta))
    for name, meta in holders:
        value = meta.annotations.get(_LLMD_KEY) or meta.labels.get(_LLMD_KEY)
        if value and value.lower() != "false":
            message = f"{name}: {_LLMD_KEY} is {value[:40]}: llm-d's autoscaler owns its replicas; keep one"
            yield Refusal(reason=RefusalReason.MANAGED_BY_LLMD, message=message)
            return


def _kserve_refusals(service: ServiceView, deployment: DeploymentView, version: str | None) -> Iterable[Refusal]:
    if version in UNSUPPORTED_KSERVE:
        yield Refusal(
            reason=RefusalReason.UNSUPPORTED_KSERVE,
            message=f"KServe {version}: {UNSUPPORTED_KSERVE[version]}",
        )
    # The class that counts is the Deployment's own: KServe merges runtime, service and predictor into it.
    effective = deployment.meta.annotations.get(CLASS_ANNOTATION, _DEFAULT_CLASS)
    if effective != "external":
        yield Refusal(
            reason=RefusalReason.NOT_EXTERNAL,
            message=f"Deployment {deployment.meta.key}: {CLASS_ANNOTATION} is {effective[:40]}; set it to external on "
            f"InferenceService {service.meta.key} (this restarts its pods once)",
        )


def _rank(scaler: ScalerView) -> tuple[str, str]:
    return scaler.kind, scaler.meta.key
