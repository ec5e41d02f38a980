"""Questions about access that clients ask by creating an object: `kubectl auth can-i`, `kubectl auth whoami`."""

from simulations.cluster.api import Object
from simulations.cluster.apiserver.calls import Call
from simulations.cluster.apiserver.errors import bad_request, no_such_path
from simulations.cluster.apiserver.rbac import Access, User

GROUPS = ("authorization.k8s.io", "authentication.k8s.io")
# plural, kind, group
KINDS = (
    ("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io"),
    ("subjectaccessreviews", "SubjectAccessReview", "authorization.k8s.io"),
    ("selfsubjectreviews", "SelfSubjectReview", "authentication.k8s.io"),
)


def answer(call: Call, body: Object, user: User, access: Access) -> Object:
    """The review with its status filled in."""
    if call.verb != "create" or call.version != "v1":
        raise no_such_path()
    if call.plural == "selfsubjectaccessreviews":
        return body | {"status": _judge(body.get("spec") or {}, user, access)}
    if call.plural == "subjectaccessreviews":
        spec = body.get("spec") or {}
        return body | {"status": _judge(spec, User(spec.get("user", ""), tuple(spec.get("groups") or ())), access)}
    if call.plural == "selfsubjectreviews":
        return body | {"status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}
    raise no_such_path()


def _judge(spec: Object, user: User, access: Access) -> Object:
    asked = spec.get("resourceAttributes")
    if not isinstance(asked, dict):
        raise bad_request("spec.resourceAttributes is required: this API server judges resources only")
    call = Call(
        verb=asked.get("verb", ""),
        group=asked.get("group", ""),
        version=asked.get("version", "*"),
        plural=asked.get("resource", ""),
        namespace=asked.get("namespace") or None,
        name=asked.get("name", ""),
        subresource=asked.get("subresource", ""),
    )
    return {"allowed": access.allows(user, call)}
