"""`warmtide cache` with a way to a cluster: `cacheops.cli` on this package's Kubernetes client."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacheops import cli
from cacheops.errors import AccessDeniedError, CacheError, InvalidRequestError, SourceUnavailableError

if TYPE_CHECKING:
    from autoscaler.errors import AutoscalerError
    from autoscaler.kube.client import KubeClient

Object = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Run `warmtide cache`; a cluster's client is loaded when one is asked for."""
    return cli.main(arguments, _connect)


@asynccontextmanager
async def _connect(kubeconfig: Path | None, context: str | None) -> AsyncIterator["_Cluster"]:
    from autoscaler.errors import AutoscalerError
    from autoscaler.kube.client import KubeClient

    try:
        async with KubeClient.from_config(kubeconfig, context) as client:
            yield _Cluster(client)
    except AutoscalerError as exc:
        raise _translated(exc) from exc


def _translated(failure: "AutoscalerError") -> CacheError:
    """The class of a cluster's refusal, by who acts."""
    from autoscaler.errors import Forbidden, RetryLaterError, Unauthorized
    from autoscaler.explain import complaint

    words = complaint(failure, "read and change modelcaches and nodemodelcaches.warmtide.dev")
    if isinstance(failure, Unauthorized | Forbidden):
        return AccessDeniedError(words)
    return SourceUnavailableError(words) if isinstance(failure, RetryLaterError) else InvalidRequestError(words)


class _Cluster:
    """ModelCaches and NodeModelCaches by their plural."""

    def __init__(self, client: "KubeClient") -> None:
        self._client = client

    async def list(self, plural: str) -> Sequence[Object]:
        """Every object of a kind, over all namespaces."""
        from autoscaler.errors import NotFound

        try:
            return await self._client.list(_path(plural))
        except NotFound as exc:
            words = f"this cluster has no {plural}: install Warmtide's CRDs (kubectl apply -k manifests)"
            raise InvalidRequestError(words) from exc

    async def create(self, plural: str, body: Object) -> None:
        """Make an object in its namespace."""
        await self._client.create(_path(plural, body["metadata"]["namespace"]), body)

    async def patch(self, plural: str, body: Object) -> None:
        """Merge into an object, if it still is at the version named."""
        metadata = body["metadata"]
        await self._client.patch(f"{_path(plural, metadata['namespace'])}/{metadata['name']}", body)

    async def delete(self, plural: str, body: Object) -> None:
        """Delete an object."""
        metadata = body["metadata"]
        await self._client.delete(f"{_path(plural, metadata['namespace'])}/{metadata['name']}")


def _path(plural: str, namespace: str | None = None) -> str:
    within = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/warmtide.dev/v1alpha1/{within}{plural}"
