"""What the controller keeps of the objects it watches: a few typed fields instead of whole documents.

5,000 pods as documents would be some 150 MB; as views they are a tenth of that. Each `*_view` is an
informer's `keep`. Objects come from an API server, so their shape is right; what users may write
freely (annotations, arguments) is read with care.
"""

import json
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any

from autoscaler.kube.address import MetricsAddress, metrics_address
from autoscaler.kube.resources import Object
from autoscaler.kube.selector import Selector, selector_of

# Devices a vLLM replica occupies; a pod that asks for none of them has no GPU demand.
GPU_RESOURCES = frozenset({"nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi", "gpu.intel.com/i915", "google.com/tpu"})
_NOISE = ("kubectl.kubernetes.io/last-applied-configuration",)
_NODE_CLASS_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "node.kubernetes.io/instance-type")
WARM_LABEL_PREFIX = "warmtide.dev/model-"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRef:
    """The controller of an object."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What all kinds share."""

    namespace: str
    name: str
    uid: str
    version: str
    labels: dict[str, str]
    annotations: dict[str, str]
    owner: OwnerRef | None
    generation: int = 0
    is_deleted: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One pod."""

    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    created_at_s: float
    ready_at_s: float | None  # since when the Ready condition is true
    is_terminating: bool
    is_over: bool  # Succeeded or Failed: no replica any more
    is_unschedulable: bool
    is_gated: bool
    node: str | None
    ip: str | None
    address: MetricsAddress
    gpus: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentView:
    """One Deployment: identity, size and what its pods ask for."""

    meta: Meta
    replicas: int
    selector: Selector
    gpus: tuple[tuple[str, int], ...]  # per pod
    node_selector: dict[str, str]
    tolerated_keys: frozenset[str]  # taint keys; "" tolerates every taint
    images: tuple[str, ...]
    is_multi_node: bool = False
    models: tuple[str, ...] = ()  # what its containers are told to serve: names or URIs
    volume_claims: tuple[str, ...] = ()  # PersistentVolumeClaims that its pods mount


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One InferenceService."""

    meta: Meta
    api_version: str
    replicas_min: int | None
    replicas_max: int | None
    has_workers: bool
    predictor_name: str  # ≥ 0.20: names the stable Deployment
    canary_names: tuple[str, ...]
    deployment_mode: str
    model_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerView:
    """An HPA or a ScaledObject, as far as it concerns whose workload it scales."""

    meta: Meta
    kind: str
    target_kind: str
    target_name: str
    replicas_desired: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """A ScalingPolicy, unparsed."""

    meta: Meta
    document: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledServiceView:
    """A ScaledService: what it enrols, and its last status (compressed: it is read once per leader)."""

    meta: Meta
    spec: Object
    status_packed: bytes = field(repr=False)

    @property
    def status(self) -> Object:
        """The status as it stands in the API."""
        return dict(json.loads(zlib.decompress(self.status_packed))) if self.status_packed else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node."""

    name: str
    node_class: str
    labels: dict[str, str]
    gpus: tuple[tuple[str, int], ...]  # allocatable
    is_usable: bool  # ready and not cordoned
    taint_keys: frozenset[str]  # that keep pods away
    uid: str = ""


def meta_of(obj: Object) -> Meta:
    """The metadata that matters."""
    metadata = obj["metadata"]
    return Meta(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        labels=metadata.get("labels") or {},
        annotations={k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _NOISE},
        owner=controller_of(metadata),
        generation=metadata.get("generation", 0),
        is_deleted="deletionTimestamp" in metadata,
    )


def controller_of(metadata: Object) -> OwnerRef | None:
    """The owner reference with `controller: true`."""
    for ref in metadata.get("ownerReferences") or ():
        if ref.get("controller"):
            return OwnerRef(
                api_version=ref.get("apiVersion", ""),
                kind=ref.get("kind", ""),
                name=ref.get("name", ""),
                uid=ref.get("uid", ""),
            )
    return None


def pod_view(obj: Object) -> PodView:
    """A pod's view."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
    is_waiting = not spec.get("nodeName") and scheduled.get("status") == "False"
    return PodView(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        labels=metadata.get("labels") or {},
        created_at_s=at_s(metadata.get("creationTimestamp")) or 0.0,
        ready_at_s=at_s(ready.get("lastTransitionTime")) or 0.0 if ready.get("status") == "True" else None,
        is_terminating="deletionTimestamp" in metadata,
        is_over=status.get("phase") in ("Succeeded", "Failed"),
        is_unschedulable=is_waiting and scheduled.get("reason") == "Unschedulable",
        is_gated=bool(spec.get("schedulingGates")) and not spec.get("nodeName"),
        node=spec.get("nodeName"),
        ip=status.get("podIP"),
        address=metrics_address(obj),
        gpus=gpus_of(spec),
    )


def deployment_view(obj: Object) -> DeploymentView:
    """A Deployment's view."""
    spec = obj.get("spec") or {}
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    replicas = spec.get("replicas")
    tolerations = pod_spec.get("tolerations") or ()
    return DeploymentView(
        meta=meta_of(obj),
        replicas=1 if replicas is None else int(replicas),
        selector=selector_of(spec.get("selector") or {}),
        gpus=gpus_of(pod_spec),
        node_selector=pod_spec.get("nodeSelector") or {},
        tolerated_keys=frozenset(t.get("key", "") for t in tolerations),
        images=tuple(c.get("image", "") for c in pod_spec.get("containers") or ()),
        is_multi_node=any(c.get("name") == "worker-container" for c in pod_spec.get("containers") or ()),
        models=models_of(pod_spec),
        volume_claims=tuple(
            str(volume["persistentVolumeClaim"].get("claimName", ""))
            for volume in pod_spec.get("volumes") or ()
            if volume.get("persistentVolumeClaim")
        ),
    )


def service_view(obj: Object) -> ServiceView:
    """An InferenceService's view."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    predictor = spec.get("predictor") or {}
    canaries = [(c.get("predictor") or {}).get("name") or c.get("name") for c in spec.get("canary") or ()]
    return ServiceView(
        meta=meta_of(obj),
        api_version=obj.get("apiVersion") or "serving.kserve.io/v1beta1",
        replicas_min=predictor.get("minReplicas"),
        replicas_max=predictor.get("maxReplicas") or None,  # 0 is KServe's "no maximum"
        has_workers=predictor.get("workerSpec") is not None,
        predictor_name=predictor.get("name") or "",
        canary_names=tuple(str(name) for name in canaries if name),
        deployment_mode=status.get("deploymentMode") or "",
        model_uri=str((predictor.get("model") or {}).get("storageUri") or ""),
    )


def hpa_view(obj: Object) -> ScalerView:
    """A HorizontalPodAutoscaler's view."""
    target = (obj.get("spec") or {}).get("scaleTargetRef") or {}
    desired = (obj.get("status") or {}).get("desiredReplicas")
    return ScalerView(
        meta=meta_of(obj),
        kind="HorizontalPodAutoscaler",
        target_kind=target.get("kind", ""),
        target_name=target.get("name", ""),
        replicas_desired=desired or None,  # 0 stands for "not yet computed"
    )


def scaled_object_view(obj: Object) -> ScalerView:
    """A KEDA ScaledObject's view. Its target is a Deployment unless it says otherwise."""
    target = (obj.get("spec") or {}).get("scaleTargetRef") or {}
    return ScalerView(
        meta=meta_of(obj),
        kind="ScaledObject",
        target_kind=target.get("kind") or "Deployment",
        target_name=target.get("name", ""),
    )


def policy_view(obj: Object) -> PolicyView:
    """A ScalingPolicy's view."""
    meta = meta_of(obj)
    identity = {"name": meta.name, "namespace": meta.namespace, "generation": meta.generation}
    return PolicyView(meta=meta, document={"metadata": identity, "spec": obj.get("spec")})


def scaled_service_view(obj: Object) -> ScaledServiceView:
    """A ScaledService's view."""
    status = obj.get("status")
    packed = zlib.compress(json.dumps(status).encode(), 1) if status else b""
    return ScaledServiceView(meta=meta_of(obj), spec=obj.get("spec") or {}, status_packed=packed)


def node_view(obj: Object) -> NodeView:
    """A node's view."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    labels = metadata.get("labels") or {}
    is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    taints = spec.get("taints") or ()
    return NodeView(
        name=metadata["name"],
        node_class=next((labels[label] for label in _NODE_CLASS_LABELS if labels.get(label)), ""),
        labels=labels,
        gpus=_gpu_counts(status.get("allocatable") or {}),
        is_usable=is_ready and not spec.get("unschedulable"),
        taint_keys=frozenset(t.get("key", "") for t in taints if t.get("effect") in ("NoSchedule", "NoExecute")),
        uid=metadata.get("uid", ""),
    )


def models_of(pod_spec: Object) -> tuple[str, ...]:
    """Models that containers are told to serve: `vllm serve NAME`, `--model NAME`, KServe's STORAGE_URI."""
    found: list[str] = []
    for container in pod_spec.get("containers") or ():
        # A shell's `-c` holds the whole command line in one argument.
        words = " ".join(str(word) for key in ("command", "args") for word in container.get(key) or ()).split()
        found += [after for word, after in pairwise(words) if word in ("serve", "--model")]
        found += [word.removeprefix("--model=") for word in words if word.startswith("--model=")]
        found += [str(one.get("value", "")) for one in container.get("env") or () if one.get("name") == "STORAGE_URI"]
    return tuple(dict.fromkeys(word for word in found if "/" in word and not word.startswith(("/", "-"))))


def gpus_of(pod_spec: Object) -> tuple[tuple[str, int], ...]:
    """Devices that a pod asks for, over its containers."""
    total: dict[str, int] = {}
    for container in pod_spec.get("containers") or ():
        resources = container.get("resources") or {}
        # For extended resources requests equal limits, and only limits need to be written.
        for name, count in _gpu_counts((resources.get("limits") or {}) | (resources.get("requests") or {})):
            total[name] = total.get(name, 0) + count
    return tuple(sorted(total.items()))


def _gpu_counts(quantities: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    counts = [(n, str(q)) for n, q in quantities.items() if n in GPU_RESOURCES or n.startswith("nvidia.com/mig-")]
    return tuple(sorted((name, int(text)) for name, text in counts if text.isdigit() and int(text) > 0))


@lru_cache(maxsize=4096)
def _parsed_s(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def at_s(timestamp: str | None) -> float | None:
    """Unix seconds of an API timestamp."""
    return _parsed_s(timestamp) if timestamp else None
