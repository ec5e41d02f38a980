"""Whatever a client sends, it gets an object or a refusal: never a crash of the server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.cluster import api
from simulations.cluster.api import ApiError, Resource
from simulations.cluster.apiserver.kinds import Registry
from simulations.cluster.apiserver.objects import Objects, Patch, Target
from simulations.cluster.apiserver.patches import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from simulations.cluster.apiserver.store import Store

NAMES = (
    "metadata", "name", "generateName", "labels", "annotations", "ownerReferences", "finalizers", "uid",
    "apiVersion", "spec", "status", "replicas", "selector", "matchLabels", "matchExpressions", "template",
    "containers", "env", "ports", "resources", "limits", "strategy", "rollingUpdate", "type", "scaleTargetRef",
    "maxReplicas", "minReplicas", "versions", "names", "plural", "kind", "group", "scope", "schema",
    "openAPIV3Schema", "subresources", "scale", "roleRef", "subjects", "rules", "verbs", "involvedObject",
    "holderIdentity", "renewTime", "leaseDurationSeconds", "conditions", "storage", "properties", "served",
    "$patch", "$setElementOrder/containers", "$retainKeys", "$deleteFromPrimitiveList/finalizers",
)  # fmt: skip
KINDS = (
    api.PODS, api.DEPLOYMENTS, api.SERVICES, api.EVENTS, api.LEASES, api.HPAS, api.CRDS, api.NAMESPACES, api.NODES,
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Resource("events.k8s.io", "v1", "events", "Event"),
)  # fmt: skip

scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "x.a", "v1", "replace", "delete"])
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from(NAMES), below, max_size=4),
    max_leaves=25,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=5)


def target(objects, resource, name="", subresource=""):
    return Target(objects.registry.of(resource), "default" if resource.namespaced else "", name, subresource)


def fresh():
    return Objects(Store(), Registry(), lambda: 1_000.0, seed=1)


def refusal(act):
    """The code with which the server refused; None where it did not."""
    try:
        act()
    except ApiError as error:
        return error.code
    return None


@pytest.mark.parametrize("resource", KINDS, ids=lambda resource: resource.api_version + "/" + resource.kind)
@given(body=bodies)
def test_any_body_makes_an_object_or_is_refused(resource, body):
    objects = fresh()
    body.pop("apiVersion", None)
    body.pop("kind", None)
    before = objects.store.version

    code = refusal(lambda: objects.create(target(objects, resource), body))

    assert code in (None, 400, 403, 404, 409, 422)
    assert (code is None) == (objects.store.version > before)


@pytest.mark.parametrize("subresource", ["", "status", "scale"])
@pytest.mark.parametrize("media_type", [MERGE_PATCH, STRATEGIC_PATCH])
@given(patch=bodies)
def test_any_patch_is_applied_whole_or_refused(subresource, media_type, patch):
    check_patch(Patch(media_type, patch), subresource)


PATHS = (
    "",
    "/",
    "/spec",
    "/spec/replicas",
    "/metadata/labels/a",
    "/spec/template/spec/containers/0",
    "/spec/zz/-",
    "x",
)
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "leap"])},
    optional={
        "path": st.sampled_from(PATHS),
        "from": st.sampled_from(["", "/spec", "/metadata/labels", "/nope"]),
        "value": values,
    },
)


@given(patch=st.lists(operations, max_size=4) | values)
def test_any_json_patch_is_applied_whole_or_refused(patch):
    check_patch(Patch(JSON_PATCH, patch), "")


def check_patch(patch, subresource):
    objects = fresh()
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    objects.create(target(objects, api.DEPLOYMENTS), body)
    before = repr(objects.get(target(objects, api.DEPLOYMENTS, "web")))

    code = refusal(lambda: objects.patch(target(objects, api.DEPLOYMENTS, "web", subresource), patch))

    assert code in (None, 400, 403, 409, 415, 422)
    assert code is None or repr(objects.get(target(objects, api.DEPLOYMENTS, "web"))) == before
