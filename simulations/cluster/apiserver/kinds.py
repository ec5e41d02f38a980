"""The kinds the server knows: a table of built-in ones, and those that CRDs add."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from simulations.cluster import api
from simulations.cluster.api import ApiError, Resource
from simulations.cluster.apiserver.errors import no_such_path

if TYPE_CHECKING:
    from simulations.cluster.apiserver.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePaths:
    """Where a kind keeps what its scale subresource shows, as field names from the root."""

    spec_replicas: tuple[str, ...] = ("spec", "replicas")
    status_replicas: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    path: str  # JSONPath; for built-in kinds see table.py
    type: str = "string"
    priority: int = 0
    description: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What differs between the served versions of a custom kind."""

    schema: "Schema | None" = None
    columns: tuple[Column, ...] = ()
    has_status: bool = False
    scale: ScalePaths | None = None
    selectable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind in one version, with all that the server must know to serve it."""

    resource: Resource
    storage_version: str
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    has_generation: bool = False
    scale: ScalePaths | None = None
    custom: Version | None = None

    @property
    def collection(self) -> tuple[str, str]:
        return (self.resource.group, self.resource.plural)

    @property
    def is_custom(self) -> bool:
        return self.custom is not None

    @property
    def storage_api_version(self) -> str:
        return replace(self.resource, version=self.storage_version).api_version


_REPLICAS = ScalePaths(selector=("spec", "selector"))
_RBAC = "rbac.authorization.k8s.io"
# resource, short names, has status, counts generations, scale
_TABLE: tuple[tuple[Resource, tuple[str, ...], bool, bool, ScalePaths | None], ...] = (
    (api.NAMESPACES, ("ns",), True, False, None),
    (api.NODES, ("no",), True, False, None),
    (api.PODS, ("po",), True, True, None),
    (api.SERVICES, ("svc",), True, False, None),
    (api.EVENTS, ("ev",), False, False, None),
    (Resource("", "v1", "configmaps", "ConfigMap"), ("cm",), False, False, None),
    (Resource("", "v1", "secrets", "Secret"), (), False, False, None),
    (Resource("", "v1", "serviceaccounts", "ServiceAccount"), ("sa",), False, False, None),
    (Resource("", "v1", "endpoints", "Endpoints"), ("ep",), False, False, None),
    (Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False), ("pv",), True, False, None),
    (Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"), ("pvc",), True, False, None),
    (Resource("", "v1", "resourcequotas", "ResourceQuota"), ("quota",), True, False, None),
    (Resource("events.k8s.io", "v1", "events", "Event"), ("ev",), False, False, None),
    (api.DEPLOYMENTS, ("deploy",), True, True, _REPLICAS),
    (api.REPLICA_SETS, ("rs",), True, True, _REPLICAS),
    (Resource("apps", "v1", "statefulsets", "StatefulSet"), ("sts",), True, True, _REPLICAS),
    (Resource("apps", "v1", "daemonsets", "DaemonSet"), ("ds",), True, True, None),
    (Resource("batch", "v1", "jobs", "Job"), (), True, True, None),
    (api.ENDPOINT_SLICES, (), False, True, None),
    (api.LEASES, (), False, False, None),
    (api.HPAS, ("hpa",), True, False, None),
    (api.CRDS, ("crd", "crds"), True, True, None),
    (Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"), ("pdb",), True, True, None),
    (
        Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False),
        ("pc",),
        False,
        True,
        None,
    ),
    (Resource(_RBAC, "v1", "roles", "Role"), (), False, False, None),
    (Resource(_RBAC, "v1", "rolebindings", "RoleBinding"), (), False, False, None),
    (Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False), (), False, False, None),
    (Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False), (), False, False, None),
)
_IN_ALL = {
    "pods",
    "services",
    "deployments",
    "replicasets",
    "statefulsets",
    "daemonsets",
    "jobs",
    "horizontalpodautoscalers",
}


def _built_in() -> Iterable[Kind]:
    for resource, short_names, has_status, has_generation, scale in _TABLE:
        yield Kind(
            resource=resource,
            storage_version=resource.version,
            singular=resource.kind.lower(),
            short_names=short_names,
            categories=("all",) if resource.plural in _IN_ALL else (),
            has_status=has_status,
            has_generation=has_generation,
            scale=scale,
        )


class Registry:
    """Which kinds are served just now."""

    def __init__(self) -> None:
        self._kinds = {(k.resource.group, k.resource.version, k.resource.plural): k for k in _built_in()}

    def find(self, group: str, version: str, plural: str) -> Kind:
        found = self._kinds.get((group, version, plural))
        if found is None:
            raise no_such_path()
        return found

    def of(self, resource: Resource) -> Kind:
        return self.find(resource.group, resource.version, resource.plural)

    def stored(self, collection: tuple[str, str]) -> Kind:
        """The kind under its storage version."""
        for kind in self._kinds.values():
            if kind.collection == collection and kind.resource.version == kind.storage_version:
                return kind
        raise ApiError(500, "InternalError", f"no kind stores {collection}")

    def all(self) -> list[Kind]:
        return list(self._kinds.values())

    def register(self, kinds: Iterable[Kind]) -> None:
        """Serve these; each collection named loses the versions it had before."""
        new = {(k.resource.group, k.resource.version, k.resource.plural): k for k in kinds}
        for collection in {kind.collection for kind in new.values()}:
            self.unregister(collection)
        self._kinds |= new

    def unregister(self, collection: tuple[str, str]) -> None:
        self._kinds = {key: kind for key, kind in self._kinds.items() if kind.collection != collection}
