"""Every verb of the shipped roles is needed: without it something that is documented fails, and says so.

On the embedded API server and, where there is one, on a real one: the same table.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import aiohttp
import pytest
import yaml

from autoscaler.enrol import Objects, targets
from autoscaler.errors import Forbidden
from autoscaler.kube import watch
from autoscaler.kube.client import KubeClient
from autoscaler.kube.publish import Publisher
from autoscaler.kube.scale import Scaler
from autoscaler.kube.views import deployment_view
from autoscaler.kube.writer import Writer
from autoscaler.permissions import CORE, NAMESPACE, POD_DELETION_COST, SERVICE_ACCOUNT, Permission, rules
from autoscaler.wiring import Options, run
from simulations.cluster.api import (
    DEPLOYMENTS,
    MODEL_CACHES,
    NAMESPACES,
    NODE_MODEL_CACHES,
    NODES,
    ApiError,
    Object,
    Resource,
)
from simulations.cluster.apiserver import ApiServer, User
from simulations.cluster.apply import put
from simulations.cluster.enrolled import POLICY_ANNOTATION, vllm_deployment
from simulations.cluster.http_api import HttpApi
from simulations.cluster.site import Site, kubeconfig_of

pytestmark = pytest.mark.cluster

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
RBAC = "rbac.authorization.k8s.io"
ROLES = {
    False: Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    True: Resource(RBAC, "v1", "roles", "Role"),
}


def deployment(namespace: str) -> Object:
    """Pods that no node takes: nobody has to run them, and nobody to remove them."""
    it = vllm_deployment()
    it["metadata"]["namespace"] = namespace
    it["spec"]["template"]["spec"]["nodeSelector"] = {"example.org/nowhere": "true"}
    return it


class Place:
    """A site, and how its controller reaches the API."""

    def __init__(self, site: Site, kubeconfig: Path) -> None:
        self.site = site
        self.kubeconfig = kubeconfig

    async def until_allowed(self, permission: Permission, verb: str, *, expected: bool) -> None:
        """A real server learns of a changed role a moment later."""
        resource, _, subresource = permission.resource.partition("/")
        attributes = {"verb": verb, "group": permission.group, "resource": resource, "subresource": subresource}
        attributes |= {"namespace": NAMESPACE} if permission.own_namespace else {}
        user = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"

        async def is_so() -> bool:
            review = await self.site.api.request(
                "POST", REVIEWS, {"spec": {"user": user, "resourceAttributes": attributes}}
            )
            return bool(review["status"]["allowed"]) is expected

        await self.site.until(is_so)


@pytest.fixture(params=["embedded", "real"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """No nodes, no pods that run: for what the API says alone."""
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            account = User.service_account(NAMESPACE, SERVICE_ACCOUNT)
            server = await stack.enter_async_context(ApiServer(tokens={"account": account}))
            admin = server.write_kubeconfig(tmp_path / "a")
            kubeconfig = server.write_kubeconfig(tmp_path / "b", "account")
        else:
            admin, kubeconfig = request.getfixturevalue("real_plane"), tmp_path / "b"
        api = await stack.enter_async_context(HttpApi.from_kubeconfig(admin))
        site = Site(api, {"mode": "direct", "replicas": {"min": 2, "max": 3}})
        await site.install()
        if request.param == "real":
            (tmp_path / "token").write_text(await site.token(), encoding="utf-8")
            kubeconfig.write_text(json.dumps(kubeconfig_of(server_of(admin), tmp_path / "token")), encoding="utf-8")
        yield Place(site, kubeconfig)
        await api.delete(NAMESPACES, "", site.space)
    if request.param == "real":
        await asyncio.sleep(0.5)  # TLS connections close a moment after their session, and pytest looks for open ones


def server_of(kubeconfig: Path) -> str:
    return str(yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))["clusters"][0]["cluster"]["server"])


class Scene:
    """A site with a Deployment that wants two replicas, and what the controller said about it."""

    def __init__(self, place, caplog: pytest.LogCaptureFixture) -> None:
        self.place = place
        self.site = place.site
        self.nodes = (f"{place.site.space}-new", f"{place.site.space}-told")
        self._caplog = caplog

    async def set_up(self) -> None:
        await self.site.api.create(DEPLOYMENTS, deployment(self.site.space))

    async def annotate(self, policy: str | None) -> None:
        patch = {"metadata": {"annotations": {POLICY_ANNOTATION: policy}}}
        await self.site.api.patch(DEPLOYMENTS, self.site.space, "llm", patch)

    async def cache(self) -> None:
        """A ModelCache, a node that has no order yet, and one whose order is not owned by it."""
        api, space = self.site.api, self.site.space
        spec = {"source": {"uri": "pvc://nowhere/model"}, "places": {"selector": {"scene": space}}}
        await put(api, MODEL_CACHES, {"metadata": {"name": "alpha", "namespace": space}, "spec": spec})
        for name in self.nodes:
            await put(api, NODES, {"metadata": {"name": name, "labels": {"scene": space}}})
        await put(api, NODE_MODEL_CACHES, {"metadata": {"name": self.nodes[1]}, "spec": {"models": []}})

    async def is_cache_told(self) -> bool:
        return bool((await self.site.api.get(MODEL_CACHES, self.site.space, "alpha")).get("status"))

    async def clean_up(self) -> None:
        for resource, name in product((NODE_MODEL_CACHES, NODES), self.nodes):
            with suppress(ApiError):
                await self.site.api.delete(resource, "", name)

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[None]:
        options = Options(kubeconfig=self.place.kubeconfig, identity="one", home_namespace=NAMESPACE, listen_port=0)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run(options, stop))
            try:
                yield
            finally:
                stop.set()

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Writer]:
        """What passes write through, with the controller's own credentials."""
        async with KubeClient.from_config(self.place.kubeconfig) as client:
            yield Writer(client, lambda: True)

    def heard(self, pattern: str) -> str:
        """What the pattern's group, or the whole of it, was the first time it was said; empty: it was not."""
        found = (re.search(pattern, record.getMessage()) for record in self._caplog.records)
        return next((match[match.lastindex or 0] for match in found if match), "")

    def said(self, pattern: str) -> bool:
        return bool(self.heard(pattern))

    async def hears(self, pattern: str) -> None:
        async def is_said() -> bool:
            return self.said(pattern)

        await self.site.until(is_said)

    async def is_scaled(self) -> bool:
        return bool((await self.site.api.get(DEPLOYMENTS, self.site.space, "llm"))["spec"]["replicas"] == 2)

    async def is_told(self) -> bool:
        return bool((await self.site.status()).get("replicas"))


async def does_not_get_ready(scene: Scene, permission: Permission) -> None:
    """readyz names the kind."""
    await scene.hears("listening on ")
    address = scene.heard(r"listening on (127\.0\.0\.1:\d+)")
    await scene.hears(f"/{permission.resource}: 403 Forbidden")
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as response:
        assert response.status == 503
        assert permission.resource.replace("policies", "policy").rstrip("s") in (await response.text()).lower()
    assert not await scene.is_scaled()


async def says_it_is_off(scene: Scene, permission: Permission) -> None:
    """What needs the kind is off; the rest works."""
    await scene.hears(f"/{permission.resource}: off \\(Forbidden\\)")
    await scene.site.until(scene.is_scaled)


async def says_that_it_is_blind(scene: Scene, permission: Permission) -> None:
    """Changes are seen at the next list only."""
    await scene.hears(f'cannot watch resource "{permission.resource}"')


async def does_not_begin(scene: Scene, permission: Permission) -> None:
    """Nothing is decided on what nobody keeps up to date."""
    await says_that_it_is_blind(scene, permission)
    await scene.hears("the caches have not caught up with the API server yet")


async def says_that_scaling_is_refused(scene: Scene, _permission: Permission) -> None:
    async def is_refused() -> bool:
        return bool((await scene.site.condition("ScalingActive"))["reason"] == "ScaleRefused")

    await scene.site.until(is_refused)
    assert not await scene.is_scaled()


async def has_no_object_for_its_status(scene: Scene, _permission: Permission) -> None:
    await scene.hears('status not written: 403 .*cannot create resource "scaledservices"')


async def does_not_follow_the_annotation(scene: Scene, _permission: Permission) -> None:
    await scene.site.until(scene.is_told)
    await scene.annotate("silver")
    await scene.hears('cannot patch resource "scaledservices" in')


async def leaves_its_object_behind(scene: Scene, _permission: Permission) -> None:
    await scene.site.until(scene.is_told)
    await scene.annotate(None)
    await scene.hears('its ScaledService stays: 403 .*cannot delete resource "scaledservices"')


async def writes_no_status(scene: Scene, _permission: Permission) -> None:
    await scene.hears("status not written: 403")
    assert not await scene.is_told()


async def sends_no_events(scene: Scene, _permission: Permission) -> None:
    await scene.hears('not sent: 403 .*cannot create resource "events"')


async def does_not_lead(scene: Scene, _permission: Permission) -> None:
    await scene.hears(r"lease .*: 403 .*cannot (get|create) resource \"leases\"")
    assert not await scene.is_scaled()


async def does_not_keep_the_lease(scene: Scene, _permission: Permission) -> None:
    """And stops writing when the renewal is overdue, as the tests of the election show."""
    await scene.hears(r'lease .*: 403 .*cannot patch resource "leases"')


async def cannot_read_again_after_a_conflict(scene: Scene, _permission: Permission) -> None:
    """A Deployment that moved on is read by itself; so is the name of who undoes our writes."""
    view = deployment_view(await scene.site.api.get(DEPLOYMENTS, scene.site.space, "llm"))
    async with scene.writer() as writer:
        with pytest.raises(Forbidden, match="cannot get resource"):
            await Scaler(writer).read(view)
        assert await Scaler(writer).who_wrote(view) == ""


async def cannot_read_what_the_watch_has_not_told(scene: Scene, _permission: Permission) -> None:
    """The ScaledService exists, as another replica has just created it."""
    view = deployment_view(await scene.site.api.get(DEPLOYMENTS, scene.site.space, "llm"))
    (target,) = targets(Objects(deployments={view.meta.key: view})).values()
    async with scene.writer() as writer:
        publisher = Publisher(writer, {}, "one")
        await publisher.ensure(target)
        with pytest.raises(Forbidden, match="cannot get resource"):
            await publisher.ensure(target)


async def does_not_tell_the_node(scene: Scene, permission: Permission) -> None:
    """Neither a first order nor a changed one; the ModelCache still says how it stands."""
    await scene.cache()
    await scene.hears(f'not told: 403 .*cannot (create|patch) resource "{permission.resource}"')
    await scene.site.until(scene.is_cache_told)


async def writes_no_status_of_caches(scene: Scene, _permission: Permission) -> None:
    await scene.cache()
    await scene.hears("ModelCache .*: status not written: 403")
    assert not await scene.is_cache_told()


async def does_not_choose_who_goes(scene: Scene, _permission: Permission) -> None:
    async with scene.writer() as writer:
        await Scaler(writer).mark_victim(scene.site.space, "llm-1", 0.0)
    assert scene.said("pods may not be patched")


Symptom = Callable[[Scene, Permission], Awaitable[None]]


@dataclass(frozen=True)
class Need:
    """One verb of a role, and what fails without it."""

    resource: str
    verb: str
    symptom: Symptom
    runs: bool = True  # a controller shows the symptom; else one call of its parts does

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


OPTIONAL = ("nodes", "resourcequotas", "scaledobjects", "inferenceservices")
OPTIONAL += ("modelcaches", "nodemodelcaches", "localmodelnodegroups")
NEEDS = (
    *(Need(kind, "list", says_it_is_off) for kind in OPTIONAL),
    *(Need(kind, "watch", says_that_it_is_blind) for kind in OPTIONAL),
    Need("pods", "list", does_not_get_ready),
    Need("pods", "watch", does_not_begin),
    Need("deployments", "get", cannot_read_again_after_a_conflict, runs=False),
    Need("deployments", "list", does_not_get_ready),
    Need("deployments", "watch", does_not_begin),
    Need("deployments/scale", "patch", says_that_scaling_is_refused),
    Need("horizontalpodautoscalers", "list", does_not_get_ready),
    Need("horizontalpodautoscalers", "watch", says_that_it_is_blind),
    Need("scalingpolicies", "list", does_not_get_ready),
    Need("scalingpolicies", "watch", says_that_it_is_blind),
    Need("scaledservices", "get", cannot_read_what_the_watch_has_not_told, runs=False),
    Need("scaledservices", "list", does_not_get_ready),
    Need("scaledservices", "watch", says_that_it_is_blind),
    Need("scaledservices", "create", has_no_object_for_its_status),
    Need("scaledservices", "patch", does_not_follow_the_annotation),
    Need("scaledservices", "delete", leaves_its_object_behind),
    Need("scaledservices/status", "patch", writes_no_status),
    Need("modelcaches/status", "patch", writes_no_status_of_caches),
    Need("nodemodelcaches", "create", does_not_tell_the_node),
    Need("nodemodelcaches", "patch", does_not_tell_the_node),
    Need("events", "create", sends_no_events),
    Need("leases", "get", does_not_lead),
    Need("leases", "create", does_not_lead),
    Need("leases", "patch", does_not_keep_the_lease),
)


def test_the_table_is_the_role() -> None:
    granted = {(permission.resource, verb) for permission in CORE for verb in permission.verbs}

    assert {(need.resource, need.verb) for need in NEEDS} == granted


@asynccontextmanager
async def without(place, permission: Permission, verb: str) -> AsyncIterator[None]:
    """The shipped role less one verb."""
    mine = [one for one in CORE if one.own_namespace == permission.own_namespace]
    whole = rules(mine)
    less = [
        rule | {"verbs": [v for v in rule["verbs"] if v != verb or rule["resources"] != [permission.resource]]}
        for rule in whole
    ]
    resource, namespace = ROLES[permission.own_namespace], NAMESPACE if permission.own_namespace else ""
    await place.site.api.patch(resource, namespace, SERVICE_ACCOUNT, {"rules": [r for r in less if r["verbs"]]})
    await place.until_allowed(permission, verb, expected=False)
    try:
        yield
    finally:
        await place.site.api.patch(resource, namespace, SERVICE_ACCOUNT, {"rules": whole})
        await place.until_allowed(permission, verb, expected=True)


@pytest.fixture
async def scene(place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(watch, "FORBIDDEN_SURE_S", 0.3)
    it = Scene(place, caplog)
    await it.set_up()
    yield it
    await it.clean_up()


@pytest.mark.parametrize("need", NEEDS, ids=str)
async def test_without_it_something_fails(scene: Scene, need: Need) -> None:
    permission = next(one for one in CORE if one.resource == need.resource)
    async with without(scene.place, permission, need.verb):
        if not need.runs:
            await need.symptom(scene, permission)
            return
        async with scene.controller():
            await need.symptom(scene, permission)


async def test_with_all_of_it_nothing_is_forbidden(scene: Scene) -> None:
    async with scene.controller():
        await scene.site.until(scene.is_scaled)
        await scene.site.until(scene.is_told)
        await scene.annotate("silver")
        await scene.hears(r"lease .*: leading")

    assert not scene.said("orbidden")


async def test_the_opt_in_is_needed_for_choosing_who_goes(scene: Scene) -> None:
    await does_not_choose_who_goes(scene, POD_DELETION_COST)
