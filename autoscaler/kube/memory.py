"""An API in memory for one controller: it scales, keeps ScaledServices and counts Events. Implements `writer.Api`.

For benchmarks and virtual time, where an API server would be most of what is measured. Changes come back to the
cluster state as a watch would bring them.
"""

from collections.abc import Callable
from dataclasses import replace

from autoscaler.cluster import Cluster
from autoscaler.errors import Conflict, NotFound
from autoscaler.kube.resources import DEPLOYMENTS, EVENTS, SCALED_SERVICES, Object
from autoscaler.kube.views import scaled_service_view


class MemoryApi:
    """Requests by path, answered from the cluster state. `scaled(key, replicas)` is called for each scale patch."""

    def __init__(self, cluster: Cluster, scaled: Callable[[str, int], None] = lambda _key, _replicas: None) -> None:
        self._cluster = cluster
        self._scaled = scaled
        self._documents: dict[str, Object] = {}
        self._version = 1000
        self.events: list[Object] = []
        self.status_writes = 0

    async def get(self, path: str) -> Object:
        """A ScaledService."""
        if path not in self._documents:
            raise NotFound(404, "NotFound", path)
        return self._documents[path]

    async def create(self, path: str, body: Object) -> Object:
        """A ScaledService, or an Event."""
        if path.endswith(f"/{EVENTS.plural}"):
            self.events.append(body)
            return body
        metadata = body["metadata"] | {"uid": f"uid-{self._next()}", "resourceVersion": str(self._version)}
        return self._keep(f"{path}/{metadata['name']}", body | {"metadata": metadata | {"generation": 1}})

    async def patch(self, path: str, body: Object) -> Object:
        """A scale subresource, or a ScaledService's status."""
        if path.endswith("/scale"):
            return self._scale(path, body)
        self.status_writes += 1
        path = path.removesuffix("/status")
        return self._keep(path, merged(await self.get(path), body))

    async def delete(self, path: str) -> None:
        """A ScaledService."""
        del self._documents[path]

    def _scale(self, path: str, body: Object) -> Object:
        namespace, name = path.split("/")[5], path.split("/")[7]
        key, replicas = f"{namespace}/{name}", body["spec"]["replicas"]
        before = self._cluster.deployments[key]
        if (
            path != DEPLOYMENTS.path(namespace, name, "scale")
            or before.meta.version != body["metadata"]["resourceVersion"]
        ):
            raise Conflict(409, "Conflict", path)
        meta = replace(before.meta, version=str(self._next()))
        self._cluster.deployment_changed(key, before, replace(before, replicas=replicas, meta=meta))
        self._scaled(key, replicas)
        return {"metadata": {"resourceVersion": meta.version}, "spec": {"replicas": replicas}}

    def _keep(self, path: str, document: Object) -> Object:
        self._documents[path] = document
        if f"/{SCALED_SERVICES.plural}/" in path:
            view = scaled_service_view(document)
            self._cluster.scaled_service_changed(view.meta.key, self._cluster.scaled_services.get(view.meta.key), view)
        return document

    def _next(self) -> int:
        self._version += 1
        return self._version


def merged(document: Object, patch: Object) -> Object:
    """JSON merge patch (RFC 7386)."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            known = result.get(key)
            result[key] = merged(known if isinstance(known, dict) else {}, value)
        else:
            result[key] = value
    return result
