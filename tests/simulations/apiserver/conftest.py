"""One `cluster` for all contract tests: the embedded API server, and a real one where KUBECONFIG names it.

python tests/controlplane/plane.py -- .venv/bin/python -m pytest tests/simulations/apiserver
"""

import asyncio
import io
import json
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from simulations.cluster.apiserver import ApiServer, ServerOptions, User

MERGE = "application/merge-patch+json"
WAIT_S = 10.0
VIEWER_TOKEN = "viewer-token"

Object = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    code: int
    body: Any
    headers: Any = field(default_factory=dict)

    def ok(self) -> Any:
        assert self.code < 300, self.body
        return self.body

    @property
    def causes(self) -> dict[str, str]:
        """Field → message of a 422."""
        return {cause["field"]: cause["message"] for cause in self.body["details"]["causes"]}


class Cluster:
    """An API server under test, with a namespace of its own for each test."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str, server: ApiServer | None) -> None:
        self.session = session
        self.url = url
        self.token = token
        self.server = server
        self.space = f"t-{uuid.uuid4().hex[:8]}"

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        media_type: str = "application/json",
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": media_type} | (headers or {})
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        data = None if raw is None else io.BytesIO(raw)
        async with self.session.request(method, self.url + path, data=data, headers=sent, params=params) as response:
            text = await response.text()
            is_json = response.content_type == "application/json" and "watch" not in (params or {})
            return Answer(response.status, json.loads(text) if is_json else text, response.headers)

    def path(self, plural: str, name: str = "", subresource: str = "", group: str = "") -> str:
        """Of a namespaced resource; `group` as `apps/v1`."""
        root = f"/apis/{group}" if group else "/api/v1"
        tail = "/".join(part for part in (plural, name, subresource) if part)
        return f"{root}/namespaces/{self.space}/{tail}"

    async def patch(self, path: str, body: object, media_type: str = MERGE) -> Answer:
        return await self.ask("PATCH", path, body, media_type=media_type)

    @asynccontextmanager
    async def watch(self, path: str, **params: str) -> AsyncIterator[Callable[[], Awaitable[Object]]]:
        """Gives a function that waits for the next event."""
        asked = {"watch": "1", "timeoutSeconds": "30"} | params
        sent = {"Authorization": f"Bearer {self.token}"}
        async with self.session.get(self.url + path, params=asked, headers=sent) as response:
            assert response.status == 200, await response.text()

            async def following() -> Object:
                async with asyncio.timeout(WAIT_S):
                    line = await response.content.readline()
                assert line, "the watch ended"
                event: Object = json.loads(line)
                return event

            yield following

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition: a real server does some things a moment later."""
        async with asyncio.timeout(WAIT_S):
            while not await check():  # noqa: ASYNC110 - a server over HTTP has no event to wait for
                await asyncio.sleep(0.02)


@asynccontextmanager
async def embedded() -> AsyncIterator[Cluster]:
    options = ServerOptions(bookmark_period_s=0.1, version_wait_s=0.05)
    tokens = {VIEWER_TOKEN: User("viewer", ("team",))}
    async with ApiServer(tokens=tokens, options=options) as server, aiohttp.ClientSession() as session:
        yield Cluster(session, server.url, server.admin_token, server)


def real_address() -> tuple[str, str]:
    """URL and token of the real server; only one on this machine, since the tests write and delete."""
    path = os.environ.get("KUBECONFIG")
    if not path:
        pytest.skip("no real API server: KUBECONFIG is not set (tests/controlplane/plane.py starts one)")
    config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    url, user = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]
    if "//127.0.0.1:" not in url or "token" not in user:
        pytest.skip(f"KUBECONFIG names {url}: these tests only run on a throw-away server on loopback with a token")
    return url, user["token"]


@asynccontextmanager
async def real() -> AsyncIterator[Cluster]:
    url, token = real_address()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Cluster(session, url, token, None)


@pytest.fixture(params=["embedded", "real"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Each test in a namespace of its own."""
    async with embedded() if request.param == "embedded" else real() as found:
        (await found.ask("POST", "/api/v1/namespaces", {"metadata": {"name": found.space}})).ok()
        yield found
        await found.ask("DELETE", f"/api/v1/namespaces/{found.space}")


@pytest.fixture
async def stand_in() -> AsyncIterator[Cluster]:
    """The embedded server alone, for what a test does to the server itself."""
    async with embedded() as found:
        (await found.ask("POST", "/api/v1/namespaces", {"metadata": {"name": found.space}})).ok()
        yield found


@pytest.fixture
def server(stand_in: Cluster) -> ApiServer:
    assert stand_in.server is not None
    return stand_in.server


def _config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _deployment(name: str = "web", replicas: int = 1) -> Object:
    labels = {"app": name}
    container = {"name": "main", "image": "none", "env": [{"name": "A", "value": "1"}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def config_map() -> Callable[..., Object]:
    return _config_map


@pytest.fixture
def deployment() -> Callable[..., Object]:
    return _deployment


_WIDGET_SPEC: Object = {
    "type": "object",
    "required": ["size"],
    "x-kubernetes-validations": [
        {"rule": "self.min <= self.max", "message": "min must not exceed max", "fieldPath": ".min"},
    ],
    "properties": {
        "size": {"type": "integer", "minimum": 0, "maximum": 10},
        "min": {"type": "integer", "default": 1},
        "max": {"type": "integer", "default": 8},
        "mode": {"type": "string", "enum": ["fast", "slow"], "default": "slow"},
        "label": {"type": "string", "pattern": "^[a-z]*$", "maxLength": 5},
        "share": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        "port": {"x-kubernetes-int-or-string": True},
        "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "note": {"type": "string", "nullable": True},
        "class": {
            "type": "string",
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "class is immutable"}],
        },
        "nested": {"type": "object", "properties": {"deep": {"type": "string", "default": "down"}}},
        "byName": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}


@pytest.fixture
async def widgets(cluster: Cluster) -> AsyncIterator[str]:
    """A CRD with everything the schema knows; gives its group/version."""
    group = f"{cluster.space}.warmtide.dev"
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]}
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    root = {"type": "object", "properties": {"spec": _WIDGET_SPEC, "status": status}}
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector",
    }
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}, "scale": scale},
        "additionalPrinterColumns": columns,
        "selectableFields": [{"jsonPath": ".spec.mode"}],
    }
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    (await cluster.ask("POST", crds, crd)).ok()

    async def served() -> bool:
        return (await cluster.ask("GET", f"/apis/{group}/v1/widgets")).code == 200

    await cluster.until(served)
    yield f"{group}/v1"
    await cluster.ask("DELETE", f"{crds}/widgets.{group}")


@pytest.fixture
def widget(widgets: str) -> Callable[..., Object]:
    def build(name: str = "one", **spec: object) -> Object:
        return {"apiVersion": widgets, "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1, **spec}}

    return build
