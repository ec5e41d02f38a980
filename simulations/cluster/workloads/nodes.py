"""The nodes of the stand-in cluster: what one has, as a Node object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulations.cluster.api import NODES, Object

GPU = "nvidia.com/gpu"
_GPU_LABEL_PREFIX = "nvidia.com/gpu"  # labels of NVIDIA's GPU feature discovery


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One machine. `gpu_product` is what GPU feature discovery would say, e.g. NVIDIA-H100-80GB-HBM3."""

    name: str
    gpus: int = 0
    gpu_product: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()  # key, value, effect
    cpus: int = 64
    memory_gib: int = 512
    pods: int = 110  # the kubelet's default

    def __post_init__(self) -> None:
        for name in ("gpus", "cpus", "memory_gib", "pods"):
            if getattr(self, name) < 0:
                raise ValueError(f"node {self.name}: {name} must be ≥ 0, got {getattr(self, name)}")


def node_object(spec: NodeSpec) -> Object:
    """The Node as its kubelet registers it."""
    labels = {"kubernetes.io/hostname": spec.name, "kubernetes.io/os": "linux"}
    if spec.gpu_product:
        labels[f"{_GPU_LABEL_PREFIX}.product"] = spec.gpu_product
        labels[f"{_GPU_LABEL_PREFIX}.count"] = str(spec.gpus)
    node: Object = {
        "apiVersion": NODES.api_version,
        "kind": NODES.kind,
        "metadata": {"name": spec.name, "labels": {**labels, **spec.labels}},
        "spec": {"taints": [dict(taint) for taint in spec.taints]} if spec.taints else {},
    }
    return node | {"status": node_status(spec)}


def node_status(spec: NodeSpec) -> dict[str, Any]:
    """Capacity, all of it allocatable, and a Ready condition."""
    capacity = {"cpu": str(spec.cpus), "memory": f"{spec.memory_gib}Gi", "pods": str(spec.pods)}
    if spec.gpus:
        capacity[GPU] = str(spec.gpus)
    return {
        "capacity": capacity,
        "allocatable": dict(capacity),
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": spec.name}],
        "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.0"},
    }
