"""Who may do what: static tokens, and Role, ClusterRole and binding objects as the real server reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simulations.cluster.api import ApiError, Object
from simulations.cluster.apiserver.calls import Call
from simulations.cluster.apiserver.errors import qualified, unauthorized
from simulations.cluster.apiserver.store import Store

GROUP = "rbac.authorization.k8s.io"
_MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
_UNAUTHENTICATED = "system:unauthenticated"


@dataclass(frozen=True, slots=True)
class User:
    """Whom a token stands for."""

    name: str
    groups: tuple[str, ...] = ()

    @classmethod
    def service_account(cls, namespace: str, name: str) -> "User":
        """A ServiceAccount as the API sees it."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return cls(f"system:serviceaccount:{namespace}:{name}", groups)


ADMIN = User("kubernetes-admin", (_MASTERS,))
_ANONYMOUS = User("system:anonymous", (_UNAUTHENTICATED,))


def authenticate(tokens: Mapping[str, User], header: str) -> User:
    """The user of an Authorization header; anonymous without one, 401 with a wrong one."""
    if not header:
        return _ANONYMOUS
    scheme, _, token = header.partition(" ")
    user = tokens.get(token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise unauthorized()
    return User(user.name, (*user.groups, AUTHENTICATED))


class Access:
    """The access rules that are in the store just now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, user: User, call: Call) -> None:
        """403 in the words of the real server unless a rule allows the call."""
        if self.allows(user, call):
            return
        subject = qualified(call.group, call.plural) + (f' "{call.name}"' if call.name else "")
        where = f'in the namespace "{call.namespace}"' if call.namespace else "at the cluster scope"
        details = {"name": call.name, "group": call.group, "kind": call.plural}
        raise ApiError(
            403,
            "Forbidden",
            f'{subject} is forbidden: User "{user.name}" cannot {call.verb} resource "{call.resource}" '
            f'in API group "{call.group}" {where}',
            {name: value for name, value in details.items() if value},
        )

    def check_path(self, user: User, verb: str, path: str) -> None:
        """The same for a path that is no resource."""
        if _MASTERS in user.groups or any(_rule_allows_path(rule, verb, path) for rule in self._rules(user, None)):
            return
        raise ApiError(403, "Forbidden", f'forbidden: User "{user.name}" cannot {verb} path "{path}"')

    def allows(self, user: User, call: Call) -> bool:
        return _MASTERS in user.groups or any(_rule_allows(rule, call) for rule in self._rules(user, call.namespace))

    def _rules(self, user: User, namespace: str | None) -> Iterator[Object]:
        for binding in self._store.collection((GROUP, "clusterrolebindings")).all(None):
            if _names_user(binding.object, user):
                yield from self._role_rules(binding.object, "")
        if namespace:
            for binding in self._store.collection((GROUP, "rolebindings")).all(namespace):
                if _names_user(binding.object, user):
                    yield from self._role_rules(binding.object, namespace)

    def _role_rules(self, binding: Object, namespace: str) -> Iterator[Object]:
        ref = binding["roleRef"]
        if ref["kind"] == "ClusterRole":
            role = self._store.get((GROUP, "clusterroles"), "", ref["name"])
        else:
            role = self._store.get((GROUP, "roles"), namespace, ref["name"])
        if role is not None:
            yield from role.object.get("rules") or ()


def _names_user(binding: Object, user: User) -> bool:
    for subject in binding.get("subjects") or ():
        kind, name = subject["kind"], subject["name"]
        if kind == "ServiceAccount":
            kind, name = "User", f"system:serviceaccount:{subject.get('namespace', '')}:{name}"
        if (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups):
            return True
    return False


def _rule_allows(rule: Object, call: Call) -> bool:
    if not _has(rule, "verbs", call.verb) or not _has(rule, "apiGroups", call.group):
        return False
    resources = rule.get("resources") or ()
    fitting = {"*", call.resource} | ({f"*/{call.subresource}"} if call.subresource else set())
    if not fitting.intersection(resources):
        return False
    names = rule.get("resourceNames")
    return not names or call.name in names


def _rule_allows_path(rule: Object, verb: str, path: str) -> bool:
    if not _has(rule, "verbs", verb):
        return False
    patterns = rule.get("nonResourceURLs") or ()
    return any(pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1])) for pattern in patterns)


def _has(rule: Object, field: str, value: str) -> bool:
    have = rule.get(field) or ()
    return "*" in have or value in have


_HEALTH = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_DISCOVERY = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_HEALTH]
_REVIEWS = {
    "apiGroups": ["authorization.k8s.io", "authentication.k8s.io"],
    "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"],
    "verbs": ["create"],
}
_EVERYTHING = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
]
# name, rules, groups bound: the first roles of the real server that clients rely on
FIRST_ROLES: tuple[tuple[str, list[Object], tuple[str, ...]], ...] = (
    ("cluster-admin", _EVERYTHING, (_MASTERS,)),
    ("system:basic-user", [_REVIEWS], (AUTHENTICATED,)),
    ("system:discovery", [{"nonResourceURLs": _DISCOVERY, "verbs": ["get"]}], (AUTHENTICATED,)),
    ("system:public-info-viewer", [{"nonResourceURLs": _HEALTH, "verbs": ["get"]}], (AUTHENTICATED, _UNAUTHENTICATED)),
)


def first_objects() -> Iterator[tuple[str, Object]]:
    """Plural and object of each first role and binding."""
    for name, rules, groups in FIRST_ROLES:
        yield "clusterroles", {"metadata": {"name": name}, "rules": rules}
        subjects = [{"apiGroup": GROUP, "kind": "Group", "name": group} for group in groups]
        ref = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        yield "clusterrolebindings", {"metadata": {"name": name}, "roleRef": ref, "subjects": subjects}
