"""What a service may know of its model's weights: which nodes hold them, since when, where the next replica starts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from autoscaler.caching.gather import cache_of
from autoscaler.caching.landing import landing_of
from autoscaler.cluster import Cluster
from autoscaler.enrol import Target
from autoscaler.kube.views import DeploymentView, PodView
from autoscaler.policy.types import Landing, Tier
from cacheops.model import storage_key

Age = tuple[float, str, str]  # created, namespace, name: what is older comes first


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSight:
    """One service's model."""

    cache: str = ""  # namespace/name of its ModelCache; empty: KServe's, or somebody else's
    key: str
    since_s: Mapping[str, float] = field(default_factory=dict)  # node → since when it holds the weights
    usable: frozenset[str] = frozenset()  # of them those that are up and not cordoned
    landing: Landing | None = None
    is_pinned: bool = False
    elder: Age | None = None  # of a pinned model on no node: the oldest replica of the other services that read it

    def tier_on(self, node: str | None, created_at_s: float) -> Tier:
        """What a pod of then found on its node: weights that came while it started were not there for it."""
        return Tier.WARM if self.since_s.get(node or "", float("inf")) <= created_at_s else Tier.COLD

    def last_copies(self, pods: Iterable[PodView]) -> frozenset[str]:
        """Pods that must not go: of a pinned model that lies on no node, the oldest ready one holds the last copy."""
        eldest = _eldest(pods)
        if not self.is_pinned or self.usable or eldest is None:
            return frozenset()
        return frozenset({eldest[2]}) if self.elder is None or eldest < self.elder else frozenset()


def sight_of(cluster: Cluster, target: Target, deployment: DeploymentView) -> ModelSight | None:
    """None: nothing is known of this service's model, and nobody keeps it."""
    source = _source(cluster, target, deployment)
    if source is None:
        return None
    since_s = cluster.published.nodes(source.key, source.digest)
    if not source.cache and not since_s:
        return None
    usable = frozenset(name for name in since_s if (node := cluster.nodes.get(name)) and node.is_usable)
    roomy = cluster.gpus.roomy(deployment)
    classes = {name: node.node_class for name in roomy if (node := cluster.nodes.get(name))}
    others = () if usable or not source.is_pinned else tuple(each for each in source.services if each != target.key)
    return ModelSight(
        cache=source.cache,
        key=source.key,
        since_s=since_s,
        usable=usable,
        landing=landing_of(classes, since_s),
        is_pinned=source.is_pinned,
        elder=_eldest(_pods_of(cluster, others)),
    )


class _Source(NamedTuple):
    """The model that a service reads."""

    key: str
    digest: str
    cache: str
    is_pinned: bool
    services: tuple[str, ...] = ()  # of all namespaces that read the same bytes


def _source(cluster: Cluster, target: Target, deployment: DeploymentView) -> _Source | None:
    """By a ModelCache of its namespace, else by one of any other that brings its source to the nodes."""
    view = cache_of(target, deployment, cluster.model_caches_in(target.namespace))
    folder = cluster.folders.get(target.key)
    if view is None or view.task is None:
        if folder is not None:
            return _Source(folder.key, folder.digest, folder.cache, folder.is_pinned, folder.services)
        return _Source(storage_key(target.fetched_uri), "", "", is_pinned=False) if target.fetched_uri else None
    key, digest, is_pinned = view.task.ref.storage_key, view.digest, view.task.is_pinned
    if folder is None or folder.key != key or digest not in ("", folder.digest):
        return _Source(key, digest, view.meta.key, is_pinned)
    return _Source(key, digest, view.meta.key, is_pinned or folder.is_pinned, folder.services)


def _pods_of(cluster: Cluster, services: Iterable[str]) -> Iterator[PodView]:
    targets = cluster.targets()
    for service in services:
        if (target := targets.get(service)) and (deployment := cluster.deployments.get(target.deployment or "")):
            yield from cluster.pods_of(deployment)


def _eldest(pods: Iterable[PodView]) -> Age | None:
    """The oldest that serves."""
    ready = (pod for pod in pods if pod.ready_at_s is not None and not pod.is_terminating and not pod.is_over)
    return min(((pod.created_at_s, pod.namespace, pod.name) for pod in ready), default=None)
