"""The cluster under examination, by what its API answers; and how findings are told."""

from typing import Any

import pytest

from autoscaler.check_cluster import examine_cluster
from autoscaler.errors import Forbidden, NotFound
from autoscaler.findings import Finding, Verdict, as_text, fail, ok, warn

Object = dict[str, Any]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ACCOUNT = "warmtide/warmtide-controller"


class Api:
    """Answers by path; reviews allow what `allowed` says."""

    def __init__(self, objects: dict[str, Any], *, minor: str = "33", denied: frozenset[str] = frozenset()) -> None:
        self._objects = {"/version": {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.0"}} | objects
        self._denied = denied

    async def get(self, path: str) -> Object:
        found_object = self._objects.get(path, NotFound(404, "NotFound", path))
        if isinstance(found_object, Exception):
            raise found_object
        return dict(found_object)

    async def list(self, path: str) -> list[Object]:
        return list((await self.get(path))["items"])

    async def create(self, path: str, body: Object) -> Object:
        if path in self._denied:
            raise Forbidden(403, "Forbidden", path)
        asked = body["spec"]["resourceAttributes"]
        name = "/".join(part for part in (asked["resource"], asked["subresource"]) if part)
        return {"status": {"allowed": f"{asked['verb']} {name}" not in self._denied}}


async def examined(api: Api, subject: str) -> Finding:
    findings = [finding async for finding in examine_cluster(api, ACCOUNT, ACCOUNT, 0.0)]
    return next(finding for finding in findings if finding.subject.startswith(subject))


def kserve(tag: str, *, canary: bool = False, llm: str | None = None) -> dict[str, Any]:
    spec: Object = {"properties": {"spec": {"properties": {"canary": {}} if canary else {}}}}
    crd = {"spec": {"versions": [{"name": "v1beta1", "served": True, "schema": {"openAPIV3Schema": spec}}]}}
    container = {"image": f"kserve/kserve-controller:{tag}"}
    controller = {"spec": {"template": {"spec": {"containers": [container]}}}}
    objects: dict[str, Any] = {
        f"{CRDS}/inferenceservices.serving.kserve.io": crd,
        "/apis/apps/v1/namespaces/kserve/deployments": {"items": [controller]},
    }
    if llm:
        objects[f"{CRDS}/llminferenceservices.serving.kserve.io"] = {
            "spec": {"versions": [{"name": llm, "served": True}]}
        }
    return objects


@pytest.mark.parametrize(
    ("objects", "verdict", "said"),
    [
        (kserve("v0.14.1"), Verdict.OK, "version 0.14.1; its CRDs say 0.16 or older"),
        (kserve("v0.15.0"), Verdict.FAIL, "version 0.15.0; its CRDs say 0.16 or older"),
        (kserve("v0.15.2"), Verdict.OK, "version 0.15.2; its CRDs say 0.16 or older"),
        (kserve("v0.16.0-rc0", llm="v1alpha1"), Verdict.FAIL, "version 0.16.0-rc0; its CRDs say 0.16 or older"),
        (kserve("v0.17.1", llm="v1alpha2"), Verdict.OK, "version 0.17.1; its CRDs say 0.17 to 0.19"),
        (
            kserve("latest", llm="v1alpha2", canary=True),
            Verdict.OK,
            "version unknown; its CRDs say 0.20 or newer (canaries)",
        ),
        ({}, Verdict.OK, "is not installed, or you may not see it; Deployments of vLLM need none"),
    ],
)
async def test_kserve_is_known_by_its_image_and_its_crds(objects: dict[str, Any], verdict: Verdict, said: str) -> None:
    finding = await examined(Api(objects), "KServe")

    assert (finding.verdict, finding.message) == (verdict, said)


@pytest.mark.parametrize(("minor", "verdict"), [("24", Verdict.FAIL), ("25", Verdict.OK), ("33+", Verdict.OK)])
async def test_a_server_without_rules_in_crds_is_too_old(minor: str, verdict: Verdict) -> None:
    assert (await examined(Api({}, minor=minor), "Kubernetes")).verdict is verdict


REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
SELF_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.mark.parametrize(
    ("denied", "verdict", "said"),
    [
        pytest.param(set(), Verdict.OK, "are complete", id="all"),
        pytest.param({"patch pods"}, Verdict.OK, "are complete; off, as nobody asked for them: ", id="core"),
        pytest.param(
            {"watch nodes"}, Verdict.WARN, "missing, so these are off: watch nodes (node classes", id="optional"
        ),
        pytest.param(
            {"patch deployments/scale", "list pods", "watch pods"},
            Verdict.FAIL,
            "missing: list/watch pods (replicas, their phases and metrics ports); patch deployments/scale.apps (",
            id="needed",
        ),
        pytest.param(
            {REVIEWS, SELF_REVIEWS}, Verdict.WARN, "the API server answers no access reviews", id="no reviews"
        ),
    ],
)
async def test_missing_permissions_are_named_with_what_they_are_for(
    denied: set[str], verdict: Verdict, said: str
) -> None:
    finding = await examined(Api({}, denied=frozenset(denied)), "permissions")

    assert finding.verdict is verdict
    assert finding.message.startswith(said)


def test_the_table_has_what_to_do_below_each_line_that_needs_it() -> None:
    findings = [ok("a", "fine"), warn("long name", "odd", "look"), fail("b", "broken", "mend")]

    assert as_text(findings) == (
        "ok    a          fine\n"
        "warn  long name  odd\n"
        "      -> look\n"
        "fail  b          broken\n"
        "      -> mend\n"
        "\n"
        "1 ok, 1 warn, 1 fail\n"
    )


async def test_a_lease_that_may_not_be_read_is_said_so() -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/warmtide/leases/{ACCOUNT.partition('/')[2]}"

    finding = await examined(Api({path: Forbidden(403, "Forbidden", path)}), "controller")

    assert finding.message == f"you may not read Lease {ACCOUNT}"
