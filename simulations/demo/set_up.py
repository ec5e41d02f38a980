"""What a user does before the traffic comes: install Warmtide's objects, write a policy, annotate a service."""

from autoscaler.crds import scaled_service, scaling_policy
from autoscaler.permissions import NAMESPACE as CONTROLLER_NAMESPACE
from autoscaler.permissions import pod_deletion_cost_rbac, rbac
from cacheops.crds import all_crds
from metrics.clock import Clock
from simulations.cluster.api import (
    CRDS,
    INFERENCE_SERVICES,
    MODEL_CACHES,
    NAMESPACES,
    NODE_MODEL_CACHES,
    SCALED_SERVICES,
    SCALING_POLICIES,
    ApiError,
    ObjectApi,
    Resource,
)
from simulations.demo import objects
from simulations.demo.setting import NAMESPACE, Setting
from simulations.errors import DemoError

RBAC = "rbac.authorization.k8s.io"
RBAC_KINDS = {
    "ServiceAccount": Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    "ClusterRole": Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    "ClusterRoleBinding": Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    "Role": Resource(RBAC, "v1", "roles", "Role"),
    "RoleBinding": Resource(RBAC, "v1", "rolebindings", "RoleBinding"),
}
SERVED_WITHIN_S = 30.0  # an API server serves a new kind within a second or so
LOOK_S = 0.05


async def install(api: ObjectApi, clock: Clock) -> None:
    """CRDs and permissions, as `kubectl apply -k manifests` brings them."""
    for crd in (scaling_policy(), scaled_service(), *all_crds()):
        await api.create(CRDS, crd)
    for name in (CONTROLLER_NAMESPACE, NAMESPACE):
        await api.create(NAMESPACES, objects.namespace(name))
    for obj in (*rbac(), *pod_deletion_cost_rbac(), *objects.agent_rbac()):
        await api.create(RBAC_KINDS[obj["kind"]], obj)
    for resource in (SCALING_POLICIES, SCALED_SERVICES, MODEL_CACHES, NODE_MODEL_CACHES):
        await _served(api, resource, clock)


async def enrol(api: ObjectApi, setting: Setting) -> None:
    """The policy and the annotated service."""
    await api.create(SCALING_POLICIES, objects.scaling_policy(setting))
    await api.create(INFERENCE_SERVICES, objects.inference_service(setting))


async def _served(api: ObjectApi, resource: Resource, clock: Clock) -> None:
    due_s = clock.now_s() + SERVED_WITHIN_S
    while True:
        try:
            await api.list(resource)
        except ApiError as error:
            if clock.now_s() > due_s:
                raise DemoError(f"{resource.plural} are not served after {SERVED_WITHIN_S:g} s: {error}") from error
            await clock.sleep(LOOK_S)
        else:
            return
