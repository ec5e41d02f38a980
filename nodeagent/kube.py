"""The Kubernetes API as the agent needs it: read its object, watch it, patch its status; see others of the kind.

The only home of kubernetes_asyncio here: credentials, TLS and transport.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config
from yaml import YAMLError

from nodeagent.errors import ApiError, BadStartError, NotThereError

Object = dict[str, Any]

NODE_MODEL_CACHES = "/apis/warmtide.dev/v1alpha1/nodemodelcaches"
LOCAL_MODEL_NODES = "/apis/serving.kserve.io/v1alpha1/localmodelnodes"
REQUEST_TIMEOUT_S = 10.0
WATCH_S = 300  # renewed this often; a dead connection is noticed soon after
SILENCE_S = 30.0
BODY_BYTES_MAX = 32 * 1024 * 1024  # etcd holds no object of more than 1.5 MiB; a page of common ones is 1 MiB
PAGE_OBJECTS, PAGES_MAX = 200, 50  # 10,000 nodes: twice what Kubernetes is made for
MERGE_PATCH = "application/merge-patch+json"
SHOWN_CHARS = 300


class NodeApi:
    """Use as `async with NodeApi(kubeconfig) as api`."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._api: ApiClient | None = None

    async def __aenter__(self) -> Self:
        configuration = Configuration()
        try:
            if (
                self._kubeconfig is None
                and "KUBECONFIG" not in os.environ
                and os.environ.get("KUBERNETES_SERVICE_HOST")
            ):
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # upstream has no hints here
            else:
                path = self._present()
                await load_kube_config(config_file=path, client_configuration=configuration, persist_config=False)
        except (ConfigException, OSError, YAMLError, TypeError, AttributeError) as exc:
            # The loader trips over malformed files in several ways; all of them are for a human to fix.
            raise BadStartError(f"kubeconfig {self._places()}: cannot be used: {exc}") from exc
        self._api = ApiClient(configuration=configuration)
        self._api.user_agent = "warmtide-agent"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._api is not None:
            await self._api.close()
            self._api = None

    def _places(self) -> str:
        """Where the kubeconfig may be: files as in PATH."""
        return str(self._kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")

    def _present(self) -> str:
        """The same, if one of them is there: the loader only warns where none is, and stumbles over that later."""
        places = self._places()
        if any(Path(place).expanduser().is_file() for place in places.split(os.pathsep) if place):
            return places
        raise BadStartError(f"kubeconfig {places}: there is none; --kubeconfig or KUBECONFIG names one")

    async def get(self, collection: str, name: str) -> Object:
        """One object."""
        return await self._json("GET", f"{collection}/{name}")

    async def list(self, collection: str, *, is_fresh: bool = False) -> AsyncIterator[Object]:
        """All objects of a kind, a page at a time; as old as the API server's own cache may be, unless `is_fresh`."""
        query = {"limit": str(PAGE_OBJECTS)} | ({} if is_fresh else {"resourceVersion": "0"})
        for _ in range(PAGES_MAX):
            page = await self._json("GET", collection, query=query)
            for item in page.get("items") or ():
                yield item
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return
            query = {"limit": str(PAGE_OBJECTS), "continue": following}

    async def patch_status(self, collection: str, name: str, status: Object) -> None:
        """Merge into an object's status; null removes a field."""
        await self._json("PATCH", f"{collection}/{name}/status", {"status": status})

    async def changes(self, collection: str, name: str) -> AsyncIterator[str]:
        """A word for each change of one object until the stream ends; the first says that it is open."""
        query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": str(WATCH_S)}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=WATCH_S + SILENCE_S)
        response = await self._answer("GET", collection, query=query, timeout=timeout)
        try:
            yield "OPEN"
            async for chunk in response.content.iter_any():
                if b"\n" in chunk:  # what changed is read afresh: events only wake
                    yield "CHANGED"
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise ApiError(0, f"watching {collection}/{name}: {exc!r}") from exc
        finally:
            response.close()

    async def _json(
        self, verb: str, path: str, body: Object | None = None, query: dict[str, str] | None = None
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        response = await self._answer(verb, path, body=body, query=query, timeout=timeout)
        try:
            parsed = json.loads(await _bounded(response, BODY_BYTES_MAX))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            raise ApiError(0, f"{verb} {path}: the answer is no JSON: {exc!r}") from exc
        finally:
            response.release()
        if not isinstance(parsed, dict):
            raise ApiError(0, f"{verb} {path}: the answer is no JSON object")
        return parsed

    async def _answer(
        self,
        verb: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,
        query: dict[str, str] | None = None,
        body: Object | None = None,
    ) -> aiohttp.ClientResponse:
        if self._api is None:
            raise RuntimeError("NodeApi is used outside of its `async with`")
        headers = {"Accept": "application/json"} | ({"Content-Type": MERGE_PATCH} if body is not None else {})
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"])
            response: aiohttp.ClientResponse = await self._api.rest_client.request(
                verb,
                f"{self._api.configuration.host}{path}",
                query_params=query,
                headers=headers,
                body=body,
                _preload_content=False,
                _request_timeout=timeout,
            )
            if response.status < 300:
                return response
            text = (await _bounded(response, BODY_BYTES_MAX)).decode("utf-8", "replace")
            response.release()
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise ApiError(0, f"{verb} {path}: {exc!r}") from exc
        kind = NotThereError if response.status == 404 else ApiError
        raise kind(response.status, f"{verb} {path}: {response.status}: {text[:SHOWN_CHARS]}")


async def _bounded(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body, or as much of it as anyone needs to see."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            response.close()
            break
    return bytes(body[:bytes_max])
