"""What the stand-in controllers need of a Kubernetes API: the same few verbs on the embedded store and over HTTP.

Objects are plain dicts in Kubernetes JSON form. Errors are `ApiError` with the HTTP code and the
API's reason (`NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `Expired`, `Forbidden` …).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object. `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As it stands in an object's apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
EVENTS = Resource("", "v1", "events", "Event")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
INFERENCE_SERVICES = Resource("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
SCALING_POLICIES = Resource("warmtide.dev", "v1alpha1", "scalingpolicies", "ScalingPolicy")
SCALED_SERVICES = Resource("warmtide.dev", "v1alpha1", "scaledservices", "ScaledService")
MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "modelcaches", "ModelCache")
NODE_MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "nodemodelcaches", "NodeModelCache", namespaced=False)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change, in order."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


class ApiError(Exception):
    """The API said no."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}


class ObjectApi(Protocol):
    """A Kubernetes API as the stand-in controllers use it."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object: ...

    async def list(
        self, resource: Resource, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]: ...

    async def create(self, resource: Resource, obj: Object) -> Object: ...

    async def update(self, resource: Resource, obj: Object, subresource: str = "") -> Object:
        """Replace; raises 409 when `metadata.resourceVersion` is given and old."""
        ...

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, subresource: str = ""
    ) -> Object:
        """JSON merge patch."""
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, grace_period_s: int | None = None
    ) -> None: ...

    def watch(self, resources: Sequence[Resource]) -> AsyncIterator[WatchEvent]:
        """Every object there is as ADDED, then every change, for ever; survives reconnects by itself."""
        ...
