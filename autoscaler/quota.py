"""The GPU budget of a namespace: what its ResourceQuotas leave a service. Pure.

A pod over quota is not pending: the API server refuses it, and the ReplicaSet tries again and again. So more replicas
than the quota allows are never asked for. A budget never shrinks a service: what runs was admitted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autoscaler.kube.resources import Object
from autoscaler.kube.views import GPU_RESOURCES, DeploymentView, PodView

_PREFIX = "requests."  # extended resources are counted by their requests only


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaView:
    """One ResourceQuota, as far as GPUs go: resource → devices that may still be asked for."""

    name: str
    free: Mapping[str, int]


def quota_view(obj: Object) -> QuotaView | None:
    """A ResourceQuota's view. None: it says nothing about GPUs, or only about some pods."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        return None
    hard, used = status.get("hard") or spec.get("hard") or {}, status.get("used") or {}
    free = {
        name.removeprefix(_PREFIX): max(0, _count(limit) - _count(used.get(name)))
        for name, limit in hard.items()
        if name.startswith(_PREFIX) and _is_gpu(name.removeprefix(_PREFIX))
    }
    return QuotaView(name=obj["metadata"]["name"], free=free) if free else None


def budget_replicas(deployment: DeploymentView, pods: Iterable[PodView], quotas: Iterable[QuotaView]) -> int | None:
    """The most replicas that the quotas of the namespace allow; None: they say nothing of this service's GPUs."""
    more = [
        quota.free[resource] // count
        for quota in quotas
        for resource, count in deployment.gpus
        if resource in quota.free
    ]
    if not more:
        return None
    admitted = sum(not pod.is_over and not pod.is_terminating for pod in pods)
    # The counts of pods and of the quota come at different times: never below what is asked for already.
    return max(deployment.replicas, admitted + min(more))


def _is_gpu(resource: str) -> bool:
    return resource in GPU_RESOURCES or resource.startswith("nvidia.com/mig-")


def _count(quantity: object) -> int:
    text = str(quantity or 0)
    return int(text) if text.isdigit() else 0
