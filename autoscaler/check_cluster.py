"""The cluster itself under examination: version, our CRDs, the controller's permissions and lease, KServe."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from autoscaler.conflicts import UNSUPPORTED_KSERVE, version_of
from autoscaler.crds import all_crds
from autoscaler.errors import ApiFailure, Forbidden, NotFound
from autoscaler.findings import Finding, fail, ok, warn
from autoscaler.kube.resources import DEPLOYMENTS, LEASES, Object, Resource
from autoscaler.permissions import CORE, OPT_INS, Permission
from autoscaler.timestamps import duration, unix_s
from cacheops.crds import all_crds as cache_crds

CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
_SUBJECT_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_SELF_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# CEL in CRDs is on by default since 1.25 and stable since 1.29; older servers ignore the rules.
OLDEST_MINOR = 25
# A leader renews every two seconds; after fifteen another takes over.
LEASE_STALE_S = 30.0
_OPT_IN = tuple(permission for granted in OPT_INS.values() for permission in granted)
_APPLY = "kubectl apply --server-side -k manifests"


class Reader(Protocol):
    """What the examination needs of the API."""

    async def get(self, path: str) -> Object: ...

    async def create(self, path: str, body: Object) -> Object: ...

    async def list(self, path: str) -> Sequence[Object]: ...


async def examine_cluster(client: Reader, account: str, lease: str, now_s: float) -> AsyncGenerator[Finding, None]:
    """Findings in the order in which they should be mended. `account` and `lease` are namespace/name."""
    yield await _version(client)
    for crd in (*all_crds(), *cache_crds()):
        yield await _crd(client, crd)
    yield await _permissions(client, account)
    yield await _leader(client, lease, now_s)
    async for finding in _kserve(client):
        yield finding


async def _version(client: Reader) -> Finding:
    version = await client.get("/version")
    text = str(version.get("gitVersion", "unknown"))
    minor = str(version.get("minor", "")).rstrip("+")
    if version.get("major") == "1" and minor.isdigit() and int(minor) < OLDEST_MINOR:
        return fail("Kubernetes", text, f"upgrade: CRDs with rules need 1.{OLDEST_MINOR} or newer")
    return ok("Kubernetes", text)


async def _crd(client: Reader, wanted: Object) -> Finding:
    name = wanted["metadata"]["name"]
    subject = f"CRD {name}"
    try:
        installed = await client.get(CRDS.path(name=name))
    except NotFound:
        return fail(subject, "is not installed", _APPLY)
    except Forbidden:
        return warn(subject, "you may not read it", "ask someone who may read CustomResourceDefinitions")
    if installed["spec"]["versions"] != wanted["spec"]["versions"]:
        return warn(subject, "is of another version of Warmtide than this one", _APPLY)
    return ok(subject, "is installed and current")


async def _permissions(client: Reader, account: str) -> Finding:
    """Every verb of the controller's role, asked of the API server's own authorizer."""
    asked = (
        (_SUBJECT_REVIEWS, f"permissions of {account}"),
        (_SELF_REVIEWS, "permissions of you (those of others you may not ask for)"),
    )
    for path, subject in asked:
        try:
            missing = [(p, verb) for p, verb in _asked() if not await _allowed(client, path, account, p, verb)]
        except (Forbidden, NotFound):
            continue
        return _judged(subject, missing)
    return warn(f"permissions of {account}", "the API server answers no access reviews", "kubectl auth can-i --list")


def _asked() -> Iterable[tuple[Permission, str]]:
    for permission in (*CORE, *_OPT_IN):
        for verb in permission.verbs:
            yield permission, verb


def _judged(subject: str, missing: Sequence[tuple[Permission, str]]) -> Finding:
    needed = _listed((permission, verb) for permission, verb in missing if not permission.is_optional)
    if needed:
        return fail(subject, f"missing: {needed}", _APPLY)
    unused = _listed((permission, verb) for permission, verb in missing if permission not in _OPT_IN)
    if unused:
        return warn(subject, f"missing, so these are off: {unused}", _APPLY)
    absent = {permission for permission, _verb in missing}
    off = [f"components/{name}" for name, granted in OPT_INS.items() if absent & set(granted)]
    return ok(subject, f"are complete; off, as nobody asked for them: {', '.join(off)}" if off else "are complete")


def _listed(missing: Iterable[tuple[Permission, str]]) -> str:
    verbs: dict[str, list[str]] = {}
    for permission, verb in missing:
        name = f"{permission.resource}.{permission.group}".rstrip(".")
        verbs.setdefault(f"{name} ({permission.purpose})", []).append(verb)
    return "; ".join(f"{'/'.join(found)} {name}" for name, found in verbs.items())


async def _allowed(client: Reader, path: str, account: str, permission: Permission, verb: str) -> bool:
    namespace, _, name = account.partition("/")
    resource, _, subresource = permission.resource.partition("/")
    attributes = {"verb": verb, "group": permission.group, "resource": resource, "subresource": subresource}
    if permission.own_namespace:
        attributes["namespace"] = namespace
    spec: dict[str, Any] = {"resourceAttributes": attributes}
    kind = "SelfSubjectAccessReview"
    if path == _SUBJECT_REVIEWS:
        kind = "SubjectAccessReview"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        spec |= {"user": f"system:serviceaccount:{namespace}:{name}", "groups": groups}
    review = await client.create(path, {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec})
    return bool(review.get("status", {}).get("allowed"))


async def _leader(client: Reader, lease: str, now_s: float) -> Finding:
    namespace, _, name = lease.partition("/")
    try:
        spec = (await client.get(LEASES.path(namespace, name))).get("spec") or {}
    except NotFound:
        return fail("controller", f"none has ever led: there is no Lease {lease}", f"{_APPLY}, or warmtide controller")
    except Forbidden:
        return warn("controller", f"you may not read Lease {lease}", f"kubectl get pods -n {namespace}")
    holder, renewed_s = spec.get("holderIdentity"), unix_s(spec.get("renewTime", ""))
    if not holder or renewed_s is None:
        return fail("controller", "nobody leads: the last one stopped", f"kubectl get pods -n {namespace}")
    age_s = now_s - renewed_s
    if age_s > LEASE_STALE_S:
        todo = f"kubectl logs -n {namespace} deployment/warmtide-controller"
        return fail("controller", f"{holder} led, but last said so {duration(age_s)} ago", todo)
    return ok("controller", f"{holder} leads")


async def _kserve(client: Reader) -> AsyncGenerator[Finding, None]:
    crd = await _optional(client, CRDS.path(name="inferenceservices.serving.kserve.io"))
    if crd is None:
        yield ok("KServe", "is not installed, or you may not see it; Deployments of vLLM need none")
        return
    version = version_of(image for images in await _controller_images(client) for image in images)
    features = _features(crd, await _optional(client, CRDS.path(name="llminferenceservices.serving.kserve.io")))
    told = f"version {version or 'unknown'}; its CRDs say {features}"
    if version in UNSUPPORTED_KSERVE:
        yield fail("KServe", told, UNSUPPORTED_KSERVE[version])
    else:
        yield ok("KServe", told)


async def _optional(client: Reader, path: str) -> Object | None:
    try:
        return await client.get(path)
    except (NotFound, Forbidden):
        return None


async def _controller_images(client: Reader) -> list[list[str]]:
    try:
        deployments = await client.list(DEPLOYMENTS.path("kserve"))
    except ApiFailure:  # a hint, not a need: the CRDs tell most
        return []
    specs = [deployment["spec"]["template"]["spec"] for deployment in deployments]
    return [[str(container.get("image", "")) for container in spec.get("containers") or ()] for spec in specs]


def _features(crd: Mapping[str, Any], llm: Mapping[str, Any] | None) -> str:
    """What the CRDs tell of the version, whatever the image is called."""
    served = {v["name"] for v in (llm or {}).get("spec", {}).get("versions", ()) if v.get("served")}
    if any(_has_canary(version) for version in crd["spec"]["versions"]):
        return "0.20 or newer (canaries)"
    if "v1alpha2" in served:
        return "0.17 to 0.19"
    return "0.16 or older"


def _has_canary(version: Mapping[str, Any]) -> bool:
    schema = version.get("schema", {}).get("openAPIV3Schema", {})
    return "canary" in schema.get("properties", {}).get("spec", {}).get("properties", {})
