"""The kinds of objects that the controller reads and writes, and where they lie in the API."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

# The first "event" of every watch: the server accepted it, though it may have nothing to tell for a while.
STREAM_OPEN = "OPEN"
# Why a watch ended that had nothing to tell for so long that its connection may be gone.
WATCH_SILENT = "WatchSilent"


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

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The collection's path, or an object's when named; all namespaces when none is given."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(parts)


PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PERSISTENT_VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
EVENTS = Resource("", "v1", "events", "Event")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
INFERENCE_SERVICES = Resource("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
SCALING_POLICIES = Resource("warmtide.dev", "v1alpha1", "scalingpolicies", "ScalingPolicy")
SCALED_SERVICES = Resource("warmtide.dev", "v1alpha1", "scaledservices", "ScaledService")
MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "modelcaches", "ModelCache")
NODE_MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "nodemodelcaches", "NodeModelCache", namespaced=False)
NODE_GROUPS = Resource("serving.kserve.io", "v1alpha1", "localmodelnodegroups", "LocalModelNodeGroup", namespaced=False)
