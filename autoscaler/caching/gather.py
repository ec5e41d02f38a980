"""What the controller knows of the cluster → nodes and services as a pass over the caches sees them."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

from autoscaler.caching.placing import selects
from autoscaler.caching.values import ModelUse, NodeSeen
from autoscaler.caching.views import CacheView, GroupView
from autoscaler.cluster import Cluster
from autoscaler.enrol import Target, is_mounted
from autoscaler.kube.selector import selector_of
from autoscaler.kube.views import DeploymentView, NodeView, PodView
from autoscaler.policy.types import Decision
from cacheops.errors import InvalidRequestError
from cacheops.uri import Scheme, parse_uri

# Replicas that nobody asked for yet: the next one must find its weights, too.
NEXT_REPLICAS = 1

Decided = Callable[[str], Decision | None]


def nodes_seen(cluster: Cluster, caches: Iterable[CacheView], default_quota_bytes: int | None) -> list[NodeSeen]:
    """Nodes that may have an agent: those with GPUs, those that a ModelCache selects, those that were told before."""
    selectors = [view.task.node_selector for view in caches if view.task and view.task.node_selector]
    seen = (_node(view, cluster, default_quota_bytes) for _name, view in sorted(cluster.nodes.items()))
    return [node for node in seen if node.gpus or node.order or any(selects(each, node) for each in selectors)]


def uses_of(cluster: Cluster, decided: Decided) -> list[ModelUse]:
    """Enrolled services that read the model of a ModelCache: of their namespace, else of any with the same source.

    Weights on a node serve every namespace (`HF_HUB_CACHE` on the host), so their replicas count there, too.
    """
    found = []
    elsewhere = _by_source(cluster.model_caches.values())
    for target in cluster.targets().values():
        deployment = cluster.deployments.get(target.deployment or "")
        if deployment is None:
            continue
        view = cache_of(target, deployment, cluster.model_caches_in(target.namespace))
        names = (name.rstrip("/") for name in (target.model_uri, *deployment.models) if name)
        view = view or next((elsewhere[name] for name in names if name in elsewhere), None)
        if view is not None and view.task is not None:
            found.append(_use(target, deployment, view, cluster, decided(target.key)))
    return found


def cache_of(target: Target, deployment: DeploymentView, caches: Iterable[CacheView]) -> CacheView | None:
    """Of the ModelCaches of its namespace the one whose model a service reads; the oldest of several."""
    fitting = [view for view in caches if view.task is not None and _reads(target, deployment, view)]
    return min(fitting, key=lambda view: (view.created_at_s, view.meta.name), default=None)


def _by_source(caches: Iterable[CacheView]) -> dict[str, CacheView]:
    """ModelCaches by what a service may call their source; the oldest of several."""
    newest_first = sorted(caches, key=lambda view: (view.created_at_s, view.meta.key), reverse=True)
    uris = [(view.task.ref.uri.rstrip("/"), view) for view in newest_first if view.task is not None]
    return {name: view for uri, view in uris if not is_mounted(uri) for name in (uri, _repository(uri))}


def _reads(target: Target, deployment: DeploymentView, view: CacheView) -> bool:
    uri, claim = view.task.ref.uri.rstrip("/") if view.task else "", view.meta.name
    named = [name.rstrip("/") for name in (target.model_uri, *deployment.models) if name]
    bases = (f"pvc://{claim}",) if is_mounted(uri) else (uri, f"pvc://{claim}")  # a share itself is not its copy
    if any(name == base or name.startswith(f"{base}/") for name in named for base in bases):
        return True  # a path below the model is KServe's way to name a part of it
    return claim in deployment.volume_claims or _repository(uri) in named


@lru_cache(maxsize=1024)
def _repository(uri: str) -> str:
    """`org/name` of a hub's model, as vLLM is told it."""
    try:
        parsed = parse_uri(uri)
    except InvalidRequestError:
        return "?"
    return parsed.place if parsed.scheme is Scheme.HF else "?"


def _node(view: NodeView, cluster: Cluster, default_quota_bytes: int | None) -> NodeSeen:
    quotas = [group.limit_bytes for group in cluster.node_groups.values() if _is_in(view, group)]
    return NodeSeen(
        name=view.name,
        uid=view.uid,
        labels=view.labels,
        node_class=view.node_class,
        gpus=sum(count for _resource, count in view.gpus),
        free_gpus=cluster.gpus.free_gpus(view),
        is_usable=view.is_usable,
        quota_bytes=min(quotas, default=default_quota_bytes),  # of several groups the tightest promise
        order=cluster.node_orders.get(view.name),
    )


def _is_in(view: NodeView, group: GroupView) -> bool:
    """Whether a node is in a LocalModelNodeGroup; as KServe does it, one without an affinity holds no node."""
    return group.limit_bytes > 0 and any(selector_of(term).selects(view.labels) for term in group.terms)


def _use(
    target: Target, deployment: DeploymentView, view: CacheView, cluster: Cluster, decision: Decision | None
) -> ModelUse:
    pods = [pod for pod in cluster.pods_of(deployment) if not pod.is_over]
    most = [deployment.replicas]
    if decision is not None:
        forecast = decision.forecast.replicas if decision.forecast else None
        most += [decision.replicas, forecast or 0]
    expected = max(most) + NEXT_REPLICAS
    bound = target.native_max if decision is None else decision.replicas_max
    return ModelUse(
        service=target.key,
        key=view.task.ref.storage_key if view.task else "",
        cache=view.meta.key,
        replicas=deployment.replicas,
        expected=max(deployment.replicas, min(expected, bound)) if bound else expected,
        gpus=sum(count for _resource, count in deployment.gpus),
        nodes=cluster.gpus.places(deployment),
        running=Counter(pod.node for pod in pods if pod.node and not pod.is_terminating),
        starting=frozenset(pod.node for pod in pods if pod.node and _is_starting(pod)),
        is_growing=decision is not None and decision.replicas > deployment.replicas,
    )


def _is_starting(pod: PodView) -> bool:
    return pod.ready_at_s is None and not pod.is_terminating
