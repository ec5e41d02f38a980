"""What a service may know of its model's weights: which nodes hold them, since when, where the next replica starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autoscaler.caching.gather import cache_of
from autoscaler.caching.landing import landing_of
from autoscaler.cluster import Cluster
from autoscaler.enrol import Target
from autoscaler.kube.views import DeploymentView, PodView
from autoscaler.policy.types import Landing, Tier
from cacheops.model import storage_key


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSight:
    """One service's model."""

    cache: str = ""  # namespace/name of its ModelCache; empty: KServe's, or somebody else's
    key: str
    since_s: Mapping[str, float] = field(default_factory=dict)  # node → since when it holds the weights
    usable: frozenset[str] = frozenset()  # of them those that are up and not cordoned
    landing: Landing | None = None
    is_pinned: bool = False

    def tier_on(self, node: str | None, created_at_s: float) -> Tier:
        """What a pod of then found on its node: weights that came while it started were not there for it."""
        return Tier.WARM if self.since_s.get(node or "", float("inf")) <= created_at_s else Tier.COLD

    def last_copies(self, pods: Iterable[PodView]) -> frozenset[str]:
        """Pods that must not go: of a pinned model that lies on no node, the oldest ready one holds the last copy."""
        if not self.is_pinned or self.usable:
            return frozenset()
        ready = [pod for pod in pods if pod.ready_at_s is not None and not pod.is_terminating and not pod.is_over]
        return frozenset(pod.name for pod in sorted(ready, key=lambda pod: (pod.created_at_s, pod.name))[:1])


def sight_of(cluster: Cluster, target: Target, deployment: DeploymentView) -> ModelSight | None:
    """None: nothing is known of this service's model, and nobody keeps it."""
    view = cache_of(target, deployment, cluster.model_caches_in(target.namespace))
    if view is not None and view.task is not None:
        key, digest, is_pinned = view.task.ref.storage_key, view.digest, view.task.is_pinned
    elif target.model_uri:
        key, digest, is_pinned = storage_key(target.model_uri), "", False
    else:
        return None
    since_s = cluster.published.nodes(key, digest)
    if view is None and not since_s:
        return None
    roomy = cluster.gpus.roomy(deployment)
    classes = {name: node.node_class for name in roomy if (node := cluster.nodes.get(name))}
    return ModelSight(
        cache=view.meta.key if view else "",
        key=key,
        since_s=since_s,
        usable=frozenset(name for name in since_s if (node := cluster.nodes.get(name)) and node.is_usable),
        landing=landing_of(classes, since_s),
        is_pinned=is_pinned,
    )
