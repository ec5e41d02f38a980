"""Every verb of the opt-in roles is needed: without it what they are for fails; with all of them nothing is forbidden.

On the embedded API server and, where there is one, on a real one.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from autoscaler.caching.rights import Rights
from autoscaler.caching.volumes import Volumes
from autoscaler.errors import Forbidden
from autoscaler.kube.client import KubeClient
from autoscaler.kube.resources import NODES
from autoscaler.kube.writer import Writer
from autoscaler.permissions import MODEL_LABELS, MODEL_VOLUMES, NAMESPACE, SERVICE_ACCOUNT, Permission, rules
from cacheops.provision import ServedTree
from metrics.clock import WallClock
from simulations.cluster.api import MODEL_CACHES, NAMESPACES, ApiError, Object, Resource
from simulations.cluster.apiserver import ApiServer, User
from simulations.cluster.apply import put
from simulations.cluster.http_api import HttpApi
from simulations.cluster.site import Site, kubeconfig_of

pytestmark = pytest.mark.cluster

RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
BINDINGS = Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
OPT_INS = (MODEL_LABELS, *MODEL_VOLUMES)
NEEDS = [(permission.resource, verb) for permission in OPT_INS for verb in permission.verbs]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A site, how its controller reaches the API, and a role of this test's own for it."""

    site: Site
    kubeconfig: Path

    @property
    def role(self) -> str:
        return f"opt-in-{self.site.space}"

    async def grant(self, permissions: Sequence[Permission]) -> None:
        subject = {"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": self.role}
        metadata = {"name": self.role}
        await put(self.site.api, ROLES, {"metadata": metadata, "rules": rules(permissions)})
        await put(self.site.api, BINDINGS, {"metadata": metadata, "roleRef": reference, "subjects": [subject]})
        await self.site.until(lambda: self._is_granted(permissions))

    async def _is_granted(self, permissions: Sequence[Permission]) -> bool:
        """A real server learns of a new role a moment later."""
        asked = [(permission.resource, verb) for permission in permissions for verb in permission.verbs]
        return all([await self._may(resource, verb) for resource, verb in asked])

    async def _may(self, resource: str, verb: str) -> bool:
        user = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
        spec = {"user": user, "resourceAttributes": {"verb": verb, "resource": resource}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool((await self.site.api.request("POST", path, {"spec": spec}))["status"]["allowed"])

    async def clean_up(self) -> None:
        for volume in await self.site.api.list(VOLUMES):
            if volume["spec"].get("claimRef", {}).get("namespace") == self.site.space:
                with suppress(ApiError):
                    await self.site.api.delete(VOLUMES, "", volume["metadata"]["name"])
        for resource in (ROLES, BINDINGS):
            with suppress(ApiError):
                await self.site.api.delete(resource, "", self.role)
        with suppress(ApiError):
            await self.site.api.delete(Resource("", "v1", "nodes", "Node", namespaced=False), "", self.role)
        await self.site.api.delete(NAMESPACES, "", self.site.space)


@pytest.fixture(params=["embedded", "real"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        own = tmp_path / "own"
        if request.param == "embedded":
            account = User.service_account(NAMESPACE, SERVICE_ACCOUNT)
            server = await stack.enter_async_context(ApiServer(tokens={"account": account}))
            admin, own = server.write_kubeconfig(tmp_path / "admin"), server.write_kubeconfig(own, "account")
        else:
            admin = request.getfixturevalue("real_plane")
        site = Site(await stack.enter_async_context(HttpApi.from_kubeconfig(admin)), {"mode": "observe"})
        await site.install()
        if request.param == "real":
            (tmp_path / "token").write_text(await site.token(), encoding="utf-8")
            url = str(yaml.safe_load(admin.read_text(encoding="utf-8"))["clusters"][0]["cluster"]["server"])
            own.write_text(json.dumps(kubeconfig_of(url, tmp_path / "token")), encoding="utf-8")
        it = Place(site=site, kubeconfig=own)
        yield it
        await it.clean_up()


async def work(place: Place) -> None:
    """All that the opt-in roles are for: a label, claims and volumes made, adopted, made larger and swept."""
    space = place.site.space
    await put(place.site.api, Resource("", "v1", "nodes", "Node", namespaced=False), {"metadata": {"name": place.role}})
    by_hand: Object = {
        "metadata": {"name": "adopted", "namespace": space},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    await put(place.site.api, CLAIMS, by_hand)
    # An owner that there is: the claim of one that is gone would be collected, and not deleted by us.
    spec = {"source": {"uri": "hf://org/alpha"}}
    await put(place.site.api, MODEL_CACHES, {"metadata": {"name": "made", "namespace": space}, "spec": spec})
    uid = (await place.site.api.get(MODEL_CACHES, space, "made"))["metadata"]["uid"]
    trees = [
        ServedTree(namespace=space, cache=name, cache_uid=uid, key=key * 16, size_bytes=2**20, root="/var/lib/warmtide")
        for name, key in (("made", "a"), ("adopted", "b"))
    ]
    async with KubeClient.from_config(place.kubeconfig) as client:
        writer = Writer(client, lambda: True)
        await writer.patch(NODES.path(name=place.role), {"metadata": {"labels": {"warmtide.dev/model-x": "1"}}})
        volumes = Volumes(client, writer, WallClock())
        for wanted in (trees, [replace(tree, size_bytes=2**22) for tree in trees], trees[1:], []):
            # Volumes and claims are swept one after the other: what was bound a moment ago goes at the next look.
            for _ in range(2):
                volumes.start_over()
                told = await volumes.keep(wanted, is_allowed=True, has_labels=True)
                assert all(condition.status == "True" for condition in told.values()), told


async def test_with_all_of_it_nothing_is_forbidden(place: Place) -> None:
    await place.grant(OPT_INS)
    async with KubeClient.from_config(place.kubeconfig) as client:
        rights = Rights(Writer(client, lambda: True), WallClock())
        await rights.learn()
    assert (rights.labels, rights.volumes) == (True, True)

    await work(place)


@pytest.mark.parametrize(("resource", "verb"), NEEDS, ids=lambda word: str(word))
async def test_without_a_verb_something_is_forbidden(place: Place, resource: str, verb: str) -> None:
    less = [replace(one, verbs=tuple(v for v in one.verbs if (one.resource, v) != (resource, verb))) for one in OPT_INS]
    await place.grant([permission for permission in less if permission.verbs])

    with pytest.raises(Forbidden, match=f'cannot {verb} resource "{resource}"'):
        await work(place)


async def test_without_the_opt_ins_both_are_known_to_be_off(place: Place) -> None:
    async with KubeClient.from_config(place.kubeconfig) as client:
        rights = Rights(Writer(client, lambda: True), WallClock())
        await rights.learn()

    assert (rights.labels, rights.volumes) == (False, False)
