"""What the controller knows of the cluster, indexed for one question: which service does a change concern?

Fed by informers (`kube/watch.py`), or directly where there is no API server. The table of enrolled services is
rebuilt by `refresh`, after `table_changed` told that something changed that enrolment is read from: a roll-out of
hundreds of services is then a few rebuilds and not hundreds.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from autoscaler.caching.published import Published
from autoscaler.caching.values import Folder, NodeOrder
from autoscaler.caching.views import CacheView, GroupView
from autoscaler.conflicts import Rivals, version_of
from autoscaler.enrol import Objects, Target, is_ours, targets
from autoscaler.gpus import GpuLedger
from autoscaler.kube.views import (
    DeploymentView,
    NodeView,
    PodView,
    PolicyView,
    ScaledServiceView,
    ScalerView,
    ServiceView,
)
from autoscaler.quota import QuotaView

_KSERVE_CONTROLLER = "kserve-controller-manager"
T = TypeVar("T")
V = TypeVar("V")
_Label = tuple[str, str, str]  # namespace, key, value


class Cluster:
    """All views by key. `wake(key)` is called for each service that a change concerns; `table_changed()` when
    the table of enrolled services may have changed, once until it is refreshed."""

    def __init__(self, *, wake: Callable[[str], None], table_changed: Callable[[], None]) -> None:
        self._wake = wake
        self._tell_table_changed = table_changed
        self.services: dict[str, ServiceView] = {}
        self.deployments: dict[str, DeploymentView] = {}
        self.pods: dict[str, PodView] = {}
        self.nodes: dict[str, NodeView] = {}
        self.scalers: dict[tuple[str, str], ScalerView] = {}  # by kind and key
        self.policies: dict[str, PolicyView] = {}
        self.scaled_services: dict[str, ScaledServiceView] = {}
        self.gpus = GpuLedger()
        self.model_caches: dict[str, CacheView] = {}
        self.node_orders: dict[str, NodeOrder] = {}
        self.node_groups: dict[str, GroupView] = {}
        self.published = Published()
        self.folders: Mapping[str, Folder] = {}  # by service, as of the last pass over the caches
        self._quotas: dict[str, dict[str, QuotaView]] = {}  # by namespace
        self._caches_by_namespace: dict[str, dict[str, CacheView]] = {}
        self.caches_changed: Callable[[], None] = lambda: None  # of those three, and of nodes
        self.kserve_version: str | None = None
        self._pods_by_label: dict[_Label, set[str]] = defaultdict(set)
        self._targets: dict[str, Target] = {}
        self._rivals = Rivals()
        self._keys_by_deployment: dict[str, list[str]] = {}
        self._deployments_by_anchor: dict[_Label, list[str]] = {}
        self._anchor_labels: frozenset[str] = frozenset()
        self._is_table_old = True

    # what changed

    def service_changed(self, key: str, before: ServiceView | None, after: ServiceView | None) -> None:
        """An InferenceService."""
        _keep(self.services, key, after)
        if before is None or after is None or _identity(before) != _identity(after):
            self._table_changed()

    def deployment_changed(self, key: str, before: DeploymentView | None, after: DeploymentView | None) -> None:
        """A Deployment: most changes are of its size or status and concern one service only."""
        _keep(self.deployments, key, after)
        if after is not None and after.meta.name == _KSERVE_CONTROLLER:
            self.kserve_version = version_of(after.images)
        if before is None or after is None or _deployment_identity(before) != _deployment_identity(after):
            self._table_changed()
            return
        if before.replicas != after.replicas:
            for service in self.keys_of_deployment(key):
                self._wake(service)

    def pod_changed(self, key: str, before: PodView | None, after: PodView | None) -> None:
        """A pod."""
        _keep(self.pods, key, after)
        self.gpus.pod_changed(before, after)
        if before is None or after is None or before.labels != after.labels:
            self._index_pod(key, before, after)
        changed = after or before
        if changed is not None:
            for service in self.keys_of_pod(changed):
                self._wake(service)

    def node_changed(self, key: str, _before: NodeView | None, after: NodeView | None) -> None:
        """A node. Wakes nobody: services find out at their next pass."""
        _keep(self.nodes, key, after)
        self.gpus.node_changed(key, after)
        self.caches_changed()

    def model_cache_changed(self, key: str, _before: CacheView | None, after: CacheView | None) -> None:
        """A ModelCache."""
        _keep(self.model_caches, key, after)
        _keep(self._caches_by_namespace.setdefault(key.partition("/")[0], {}), key, after)
        self.caches_changed()

    def node_order_changed(self, key: str, before: NodeOrder | None, after: NodeOrder | None) -> None:
        """A NodeModelCache: what a node was told, or what its agent says."""
        _keep(self.node_orders, key, after)
        self.published.changed(key, before, after)
        self.caches_changed()

    def node_group_changed(self, key: str, _before: GroupView | None, after: GroupView | None) -> None:
        """A LocalModelNodeGroup."""
        _keep(self.node_groups, key, after)
        self.caches_changed()

    def scaler_changed(self, key: str, before: ScalerView | None, after: ScalerView | None) -> None:
        """An HPA or a ScaledObject."""
        changed = after or before
        if changed is None:
            return
        _keep(self.scalers, (changed.kind, key), after)
        if before is None or after is None or _scaler_identity(before) != _scaler_identity(after):
            self._table_changed()

    def policy_changed(self, key: str, _before: PolicyView | None, after: PolicyView | None) -> None:
        """A ScalingPolicy: wakes every service that names it."""
        _keep(self.policies, key, after)
        name = key.partition("/")[2]
        for target in self.targets().values():
            if target.policy == name:
                self._wake(target.key)

    def scaled_service_changed(
        self, key: str, before: ScaledServiceView | None, after: ScaledServiceView | None
    ) -> None:
        """A ScaledService. What we wrote ourselves comes back here, and enrols nothing."""
        _keep(self.scaled_services, key, after)
        if _enrols(before) != _enrols(after):
            self._table_changed()

    def quota_changed(self, key: str, _before: QuotaView | None, after: QuotaView | None) -> None:
        """A ResourceQuota. Wakes nobody: services find out at their next pass."""
        _keep(self._quotas.setdefault(key.partition("/")[0], {}), key, after)

    # what is asked

    def quotas_of(self, namespace: str) -> Iterable[QuotaView]:
        """ResourceQuotas of a namespace that count GPUs."""
        return self._quotas.get(namespace, {}).values()

    def targets(self) -> dict[str, Target]:
        """Every enrolled service by key, as of the last `refresh`."""
        return self._targets

    def refresh(self) -> set[str]:
        """Read the table anew; the keys of services that are new, gone or different."""
        before = self._targets
        if self._is_table_old:
            self._is_table_old = False
            self._rebuild()
        now = self._targets
        return {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}

    def model_caches_in(self, namespace: str) -> Iterable[CacheView]:
        """ModelCaches of a namespace."""
        return self._caches_by_namespace.get(namespace, {}).values()

    def rivals_of(self, deployment: str) -> tuple[ScalerView, ...]:
        """HPAs and ScaledObjects of a Deployment, as they are now."""
        found = (self.scalers.get((v.kind, v.meta.key)) for v in self._rivals.of_deployment(deployment))
        return tuple(view for view in found if view is not None)

    def keys_of_deployment(self, deployment: str) -> list[str]:
        """The services that a Deployment belongs to: one, unless it is enrolled twice."""
        return self._keys_by_deployment.get(deployment, [])

    def keys_of_pod(self, pod: PodView) -> Iterable[str]:
        """The services that a pod belongs to."""
        for label in self._anchor_labels & pod.labels.keys():
            for name in self._deployments_by_anchor.get((pod.namespace, label, pod.labels[label]), ()):
                deployment = self.deployments.get(name)
                if deployment is not None and deployment.selector.selects(pod.labels):
                    yield from self._keys_by_deployment[name]

    def pods_of(self, deployment: DeploymentView) -> list[PodView]:
        """The pods that a Deployment's own selector selects, oldest first."""
        namespace, selector = deployment.meta.namespace, deployment.selector
        if selector.labels:
            sets = [self._pods_by_label.get((namespace, k, v), set()) for k, v in selector.labels]
            keys: Iterable[str] = sorted(sets, key=len)[0]
        else:
            keys = (key for key in self.pods if key.startswith(f"{namespace}/"))
        found = [self.pods[key] for key in keys if selector.selects(self.pods[key].labels)]
        return sorted(found, key=lambda pod: (pod.created_at_s, pod.name))

    # how it is kept

    def _table_changed(self) -> None:
        if not self._is_table_old:
            self._is_table_old = True
            self._tell_table_changed()

    def _rebuild(self) -> None:
        self._rivals = Rivals.of(self.scalers.values())
        self._targets = targets(
            Objects(
                services=self.services,
                deployments=self.deployments,
                scaled_services=self.scaled_services,
                rivals=self._rivals,
                kserve_version=self.kserve_version,
            )
        )
        self._keys_by_deployment = {}
        for target in self._targets.values():
            if target.deployment is not None:
                self._keys_by_deployment.setdefault(target.deployment, []).append(target.key)
        self._anchor_pods()

    def _anchor_pods(self) -> None:
        """Each enrolled Deployment is found from a pod by the label that it shares with the fewest others."""
        enrolled = [self.deployments[name] for name in self._keys_by_deployment]
        shared = Counter(label for deployment in enrolled for label in _labels(deployment))
        self._deployments_by_anchor = {}
        for deployment in enrolled:
            if labels := _labels(deployment):
                anchor = min(labels, key=lambda label: shared[label])
                self._deployments_by_anchor.setdefault(anchor, []).append(deployment.meta.key)
        self._anchor_labels = frozenset(label for _, label, _ in self._deployments_by_anchor)

    def _index_pod(self, key: str, before: PodView | None, after: PodView | None) -> None:
        if before is not None:
            for name, value in before.labels.items():
                label = (before.namespace, name, value)
                self._pods_by_label[label].discard(key)
                if not self._pods_by_label[label]:
                    del self._pods_by_label[label]
        if after is not None:
            for name, value in after.labels.items():
                self._pods_by_label[after.namespace, name, value].add(key)


def _keep(table: dict[T, V], key: T, after: V | None) -> None:
    if after is None:
        table.pop(key, None)
    else:
        table[key] = after


def _labels(deployment: DeploymentView) -> list[_Label]:
    return [(deployment.meta.namespace, key, value) for key, value in deployment.selector.labels]


def _identity(view: ServiceView) -> tuple[object, ...]:
    meta = view.meta
    return (
        meta.uid,
        meta.annotations,
        meta.labels,
        meta.is_deleted,
        view.replicas_min,
        view.replicas_max,
        view.has_workers,
        view.predictor_name,
        view.canary_names,
        view.deployment_mode,
        view.model_uri,
    )


def _deployment_identity(view: DeploymentView) -> tuple[object, ...]:
    meta = view.meta
    return (
        meta.uid,
        {k: v for k, v in meta.annotations.items() if k != "deployment.kubernetes.io/revision"},
        meta.labels,
        meta.owner,
        meta.is_deleted,
        view.selector,
        view.images,
        view.is_multi_node,
    )


def _enrols(view: ScaledServiceView | None) -> object:
    """What a user's ScaledService says; None for ours, or none."""
    return None if view is None or is_ours(view) else (view.spec, view.meta.is_deleted)


def _scaler_identity(view: ScalerView) -> tuple[object, ...]:
    return view.meta.uid, view.meta.annotations, view.target_kind, view.target_name
