"""A cluster made ready for Warmtide, embedded or real: our CRDs and roles, KServe's and KEDA's CRDs, a namespace."""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from autoscaler.permissions import NAMESPACE, SERVICE_ACCOUNT
from metrics.clock import WallClock
from simulations.cluster.api import (
    CRDS,
    LEASES,
    MODEL_CACHES,
    NAMESPACES,
    NODE_MODEL_CACHES,
    SCALED_OBJECTS,
    SCALED_SERVICES,
    SCALING_POLICIES,
    ApiError,
    Object,
    Resource,
)
from simulations.cluster.apply import apply, put
from simulations.cluster.http_api import HttpApi
from simulations.cluster.kserve import KServe
from simulations.cluster.kserve.crds import NODE_GROUPS, node_group_crd, scaled_object_crd

MANIFESTS = Path(__file__).parents[2] / "manifests"
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICE = "llm"  # the one service of a site
POLICY = "gold"
LEASE = "warmtide-controller"
TOKEN_S = 3600
LOOK_S = 0.1


class Site:
    """One namespace with a policy, for one service."""

    def __init__(self, api: HttpApi, policy: Object) -> None:
        self.api = api
        self.clock = WallClock()
        self.space = f"t-{uuid.uuid4().hex[:8]}"
        self.kserve = KServe(api, clock=self.clock)
        self._policy = policy
        self.told: Callable[[], str] = lambda: ""  # what a failed wait says besides

    async def install(self) -> None:
        """Everything that is not there yet; an earlier controller's lease goes."""
        crds = sorted((MANIFESTS / "crds").glob("*.yaml"))
        await apply(self.api, [MANIFESTS / "namespace.yaml", MANIFESTS / "rbac.yaml", *crds])
        for crd in (scaled_object_crd(), node_group_crd()):
            await put(self.api, CRDS, crd)
        await put(self.api, NAMESPACES, {"metadata": {"name": self.space}})
        await self.kserve.install()
        with suppress(ApiError):
            await self.api.delete(LEASES, NAMESPACE, LEASE)
        for resource in (
            SCALING_POLICIES,
            SCALED_SERVICES,
            SCALED_OBJECTS,
            MODEL_CACHES,
            NODE_MODEL_CACHES,
            NODE_GROUPS,
        ):
            await self.until(partial(self._is_served, resource))
        await put(
            self.api, SCALING_POLICIES, {"metadata": {"name": POLICY, "namespace": self.space}, "spec": self._policy}
        )

    async def _is_served(self, resource: Resource) -> bool:
        with suppress(ApiError):
            await self.api.list(resource)
            return True
        return False

    async def status(self) -> Object:
        """Of the ScaledService; empty while there is none, or nobody answers."""
        with suppress(ApiError):
            return dict((await self.api.get(SCALED_SERVICES, self.space, SERVICE)).get("status") or {})
        return {}

    async def condition(self, kind: str) -> Object:
        """One condition of the ScaledService, or an empty one."""
        found = (await self.status()).get("conditions", [])
        return next((c for c in found if c["type"] == kind), {"status": "", "reason": "", "message": ""})

    async def until(self, condition: Callable[[], Awaitable[object]], within_s: float = 60.0) -> None:
        """Wait for a condition; TimeoutError when it does not come."""
        deadline_s = self.clock.now_s() + within_s
        while not await condition():
            if self.clock.now_s() > deadline_s:
                raise TimeoutError(f"not within {within_s} s: {condition}; {self.told()}")
            await self.clock.sleep(LOOK_S)

    async def token(self, secret: str = "") -> str:
        """Of the controller's ServiceAccount, by the TokenRequest API; bound to a Secret, it dies with it."""
        spec: Object = {"expirationSeconds": TOKEN_S}
        if secret:
            await put(self.api, SECRETS, {"metadata": {"name": secret, "namespace": NAMESPACE}})
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Secret", "name": secret}
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{SERVICE_ACCOUNT}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str((await self.api.request("POST", path, request))["status"]["token"])


def kubeconfig_of(server: str, token_file: Path) -> Object:
    """A kubeconfig that reads its token from a file, which may be replaced. JSON of it is YAML."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "site",
        "clusters": [{"name": "site", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "controller", "user": {"tokenFile": str(token_file)}}],
        "contexts": [{"name": "site", "context": {"cluster": "site", "user": "controller"}}],
    }
