"""The kinds that the controller watches, and what of each it keeps."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from autoscaler.caching import views as caching
from autoscaler.cluster import Cluster
from autoscaler.kube import resources, views
from autoscaler.kube.resources import Object, Resource
from autoscaler.kube.watch import Informer, OnChange, WatchClient, Watched
from autoscaler.quota import quota_view
from metrics.clock import Clock

T = TypeVar("T")


def informers_of(client: WatchClient, cluster: Cluster, clock: Clock, namespace: str | None) -> Sequence[Informer[Any]]:
    """One informer per kind. KServe, KEDA and nodes may be absent or forbidden: what needs them is off then."""
    watched: list[Watched[Any]] = [
        _watched(resources.SCALING_POLICIES, views.policy_view, cluster.policy_changed),
        _watched(resources.SCALED_SERVICES, views.scaled_service_view, cluster.scaled_service_changed),
        _watched(resources.DEPLOYMENTS, views.deployment_view, cluster.deployment_changed),
        _watched(resources.PODS, views.pod_view, cluster.pod_changed),
        _optional(resources.INFERENCE_SERVICES, views.service_view, cluster.service_changed),
        _watched(resources.HPAS, views.hpa_view, cluster.scaler_changed),  # blind, we might fight one
        _optional(resources.SCALED_OBJECTS, views.scaled_object_view, cluster.scaler_changed),
        _optional(resources.NODES, views.node_view, cluster.node_changed),
        _optional(resources.RESOURCE_QUOTAS, quota_view, cluster.quota_changed),
        _optional(resources.MODEL_CACHES, caching.cache_view, cluster.model_cache_changed),
        _optional(resources.NODE_MODEL_CACHES, caching.order_view, cluster.node_order_changed),
        _optional(resources.NODE_GROUPS, caching.group_view, cluster.node_group_changed),
    ]
    return [Informer(client, replace(kind, namespace=namespace), clock) for kind in watched]


def _watched(resource: Resource, keep: Callable[[Object], T | None], on_change: OnChange[T]) -> Watched[T]:
    return Watched(resource=resource, keep=keep, on_change=on_change)


def _optional(resource: Resource, keep: Callable[[Object], T | None], on_change: OnChange[T]) -> Watched[T]:
    return Watched(resource=resource, keep=keep, on_change=on_change, is_optional=True)
