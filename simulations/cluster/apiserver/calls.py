"""One HTTP request as the API understands it: which verb on which resource."""

from collections.abc import Mapping
from dataclasses import dataclass

from simulations.cluster.apiserver.errors import method_not_allowed, no_such_path

_NAMESPACE_PARTS = ("status", "finalize")  # /api/v1/namespaces/NAME/status is about the namespace itself
_ONE = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_MANY = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request on resources. `namespace` is None where the path names none."""

    verb: str
    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """As access rules name it."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


def parse_call(method: str, path: str, query: Mapping[str, str]) -> Call | None:
    """The call that a path stands for; None where it is about the server, not about resources."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_PARTS:
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise no_such_path()
    plural, name, subresource = (*rest, "", "")[:3]
    verb = _verb(method, query, is_one=bool(name))
    return Call(
        verb=verb, group=group, version=version, plural=plural, namespace=namespace, name=name, subresource=subresource
    )


def _verb(method: str, query: Mapping[str, str], *, is_one: bool) -> str:
    if method == "GET" and query.get("watch", "") in ("1", "true"):
        return "watch"
    verb = (_ONE if is_one else _MANY).get("GET" if method == "HEAD" else method)
    if verb is None:
        raise method_not_allowed()
    return verb
