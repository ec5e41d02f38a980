"""What the controller may do in a cluster, in one place: source of manifests/rbac.yaml and of `warmtide check`.

`python -m autoscaler.permissions` writes the manifests. Nothing here is a wildcard or reads Secrets; nothing that is
not opt-in touches nodes or volumes.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

NAMESPACE = "warmtide"
SERVICE_ACCOUNT = "warmtide-controller"
WATCH = ("list", "watch")  # kept in memory; nothing of these is ever read one by one
READ = ("get", *WATCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Some verbs on one resource, and what they are for."""

    group: str  # empty: the core API
    resource: str  # plural, with its subresource: deployments/scale
    verbs: tuple[str, ...]
    purpose: str
    is_optional: bool = False  # the controller works without, and says what is off
    own_namespace: bool = False  # only where the controller runs


CORE = (
    Permission(group="", resource="pods", verbs=WATCH, purpose="replicas, their phases and metrics ports"),
    Permission(
        group="", resource="nodes", verbs=WATCH, purpose="node classes, free GPUs, warm nodes", is_optional=True
    ),
    Permission(group="", resource="resourcequotas", verbs=WATCH, purpose="GPU budgets of namespaces", is_optional=True),
    Permission(group="apps", resource="deployments", verbs=READ, purpose="the workloads to scale"),
    Permission(group="apps", resource="deployments/scale", verbs=("patch",), purpose="scaling (mode direct)"),
    Permission(
        group="autoscaling",
        resource="horizontalpodautoscalers",
        verbs=WATCH,
        purpose="never to fight one, and to compare with it in mode advise",
    ),
    Permission(group="keda.sh", resource="scaledobjects", verbs=WATCH, purpose="never to fight one", is_optional=True),
    Permission(
        group="serving.kserve.io",
        resource="inferenceservices",
        verbs=WATCH,
        purpose="enrolment by annotation, and bounds",
        is_optional=True,
    ),
    Permission(group="warmtide.dev", resource="scalingpolicies", verbs=WATCH, purpose="how services are scaled"),
    Permission(
        group="warmtide.dev",
        resource="scaledservices",
        verbs=(*READ, "create", "patch", "delete"),
        purpose="one for each enrolled service",
    ),
    Permission(
        group="warmtide.dev", resource="scaledservices/status", verbs=("patch",), purpose="decisions with their reasons"
    ),
    Permission(
        group="warmtide.dev", resource="modelcaches", verbs=WATCH, purpose="models to keep on nodes", is_optional=True
    ),
    Permission(
        group="warmtide.dev",
        resource="modelcaches/status",
        verbs=("patch",),
        purpose="what became of them",
        is_optional=True,
    ),
    Permission(
        group="warmtide.dev",
        resource="nodemodelcaches",
        verbs=(*WATCH, "create", "patch"),
        purpose="telling nodes' agents what to hold, and hearing what they do",
        is_optional=True,
    ),
    Permission(
        group="serving.kserve.io",
        resource="localmodelnodegroups",
        verbs=WATCH,
        purpose="how much models may take on a node",
        is_optional=True,
    ),
    Permission(group="", resource="events", verbs=("create",), purpose="saying what changed and why"),
    Permission(
        group="coordination.k8s.io",
        resource="leases",
        verbs=("get", "create", "patch"),
        purpose="one of two controllers leads",
        own_namespace=True,
    ),
)
# Opt-in, for components/pod-deletion-cost: without it Kubernetes chooses which replica goes.
POD_DELETION_COST = Permission(
    group="",
    resource="pods",
    verbs=("patch",),
    purpose="choosing which replica goes first (pod-deletion-cost)",
    is_optional=True,
)

# Opt-in, for components/model-labels. RBAC cannot grant labels alone: who may patch nodes may also cordon and taint
# them. Hence not in the role, and the agents, which run on every GPU node, never have it.
MODEL_LABELS = Permission(
    group="",
    resource="nodes",
    verbs=("patch",),
    purpose="labels on nodes that hold a model",
    is_optional=True,
)
# Opt-in, for components/model-volumes. Who may create volumes may mount any folder of a node.
MODEL_VOLUMES = (
    Permission(
        group="",
        resource="persistentvolumes",
        verbs=("list", "create", "patch", "delete"),
        purpose="volumes over published models",
        is_optional=True,
    ),
    Permission(
        group="",
        resource="persistentvolumeclaims",
        verbs=("get", "list", "create", "patch", "delete"),
        purpose="claims through which pods read them",
        is_optional=True,
    ),
)
OPT_INS = {
    "pod-deletion-cost": (POD_DELETION_COST,),
    "model-labels": (MODEL_LABELS,),
    "model-volumes": MODEL_VOLUMES,
}


def rules(permissions: Iterable[Permission]) -> list[Object]:
    """As the rules of a Role."""
    return [
        {"apiGroups": [permission.group], "resources": [permission.resource], "verbs": list(permission.verbs)}
        for permission in permissions
    ]


def rbac() -> list[Object]:
    """ServiceAccount, roles and bindings of the controller."""
    cluster = rules(permission for permission in CORE if not permission.own_namespace)
    own = rules(permission for permission in CORE if permission.own_namespace)
    return [
        _object("v1", "ServiceAccount", SERVICE_ACCOUNT, namespace=NAMESPACE)
        | {"automountServiceAccountToken": False},  # the pod asks for it by itself
        _role("ClusterRole", SERVICE_ACCOUNT, cluster),
        _binding("ClusterRole", SERVICE_ACCOUNT),
        _role("Role", SERVICE_ACCOUNT, own),
        _binding("Role", SERVICE_ACCOUNT),
    ]


def opt_in_rbac(component: str) -> list[Object]:
    """Role and binding of an opt-in component."""
    name = f"{SERVICE_ACCOUNT}-{component}"
    return [_role("ClusterRole", name, rules(OPT_INS[component])), _binding("ClusterRole", name)]


def pod_deletion_cost_rbac() -> list[Object]:
    """Role and binding for choosing which replica goes first."""
    return opt_in_rbac("pod-deletion-cost")


def _role(kind: str, name: str, granted: Sequence[Object]) -> Object:
    namespace = NAMESPACE if kind == "Role" else None
    return _object("rbac.authorization.k8s.io/v1", kind, name, namespace=namespace) | {"rules": list(granted)}


def _binding(kind: str, name: str) -> Object:
    namespace = NAMESPACE if kind == "Role" else None
    return _object("rbac.authorization.k8s.io/v1", f"{kind}Binding", name, namespace=namespace) | {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}],
    }


def _object(api_version: str, kind: str, name: str, *, namespace: str | None) -> Object:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def as_yaml(objects: Sequence[Object]) -> str:
    """The text of a manifest."""
    head = "# Written by `python -m autoscaler.permissions` from autoscaler/permissions.py; change it there.\n"
    return head + yaml.safe_dump_all(objects, sort_keys=False, width=120)


def manifests(folder: Path) -> dict[Path, str]:
    """Every file that is written, with its text."""
    opt_ins = {folder / "components" / name / "rbac.yaml": as_yaml(opt_in_rbac(name)) for name in OPT_INS}
    return {folder / "rbac.yaml": as_yaml(rbac())} | opt_ins


def main() -> None:
    """Write the manifests of this checkout."""
    for file, text in manifests(Path(__file__).parents[1] / "manifests").items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
