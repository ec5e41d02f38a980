"""What the node agent's component brings, and that the agent does its work with just these permissions."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cacheops.crds import node_model_cache
from nodeagent.errors import ApiError
from nodeagent.kube import NODE_MODEL_CACHES, NodeApi
from nodeagent.options import parser
from simulations.cluster.api import CRDS, Resource
from simulations.cluster.apiserver import ApiServer, User
from simulations.cluster.http_api import HttpApi

Object = dict[str, Any]

COMPONENTS = Path(__file__).parents[2] / "manifests" / "components"
FOLDER = COMPONENTS / "node-agent"
RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
BINDINGS = Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
CACHES = Resource("warmtide.dev", "v1alpha1", "nodemodelcaches", "NodeModelCache", namespaced=False)
TOKEN = "agent-token"


def documents(name: str) -> list[Object]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def pod_spec() -> Object:
    spec: Object = documents("daemon_set.yaml")[0]["spec"]["template"]["spec"]
    return spec


def test_the_component_lists_its_files() -> None:
    [kustomization] = documents("kustomization.yaml")

    files = {file.name for file in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files


def test_the_agent_is_neither_root_nor_privileged_and_writes_only_its_cache() -> None:
    spec = pod_spec()
    [container] = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(spec)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"cache", "tmp"}


def test_its_arguments_are_ones_it_knows_and_its_mounts_where_it_looks() -> None:
    [container] = pod_spec()["containers"]
    options = parser().parse_args(container["args"])

    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[str(options.kubelet_pods)]["mountPropagation"] == "HostToContainer"
    assert str(options.root) in mounts
    assert container["ports"][0]["containerPort"] == int(options.listen.rpartition(":")[2])


def patched(documents: Object, patches: list[Object]) -> Object:
    """A JSON patch that only adds."""
    for patch in patches:
        assert patch["op"] == "add"
        *path, last = patch["path"].split("/")[1:]
        assert last == "-"
        place: Any = documents
        for part in path:
            place = place[int(part) if part.isdigit() else part]
        place.append(patch["value"])
    return documents


def test_with_peers_it_listens_where_its_port_says_and_reads_the_token_where_the_secret_is() -> None:
    folder = COMPONENTS / "node-agent-peers"
    patches = yaml.safe_load((folder / "daemon_set.patch.yaml").read_text(encoding="utf-8"))
    [policy] = yaml.safe_load_all((folder / "network_policy.yaml").read_text(encoding="utf-8"))

    daemon_set = patched(documents("daemon_set.yaml")[0], patches)

    spec = daemon_set["spec"]["template"]["spec"]
    [container] = spec["containers"]
    options = parser().parse_args(container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "peers"]
    assert ports["peers"] == int(options.peer_listen.rpartition(":")[2])
    assert options.peer_token_file.parent == Path(mount["mountPath"])
    assert "POD_IP" in {variable["name"] for variable in container["env"]}
    assert {rule["ports"][0]["port"] for rule in policy["spec"]["ingress"]} == set(ports)
    agents = daemon_set["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"] == agents
    assert policy["spec"]["ingress"][0]["from"] == [{"podSelector": {"matchLabels": agents}}]


def test_it_may_touch_no_nodes_no_pods_and_no_secrets() -> None:
    granted = {
        (resource, verb)
        for document in documents("rbac.yaml")
        for rule in document.get("rules", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    objects = {(kind, verb) for kind in ("nodemodelcaches", "localmodelnodes") for verb in ("get", "list", "watch")}
    assert granted == objects | {("nodemodelcaches/status", "patch"), ("localmodelnodes/status", "patch")}


async def test_with_these_permissions_it_reads_watches_and_reports_but_changes_no_wish(tmp_path: Path) -> None:
    _account, role, binding = documents("rbac.yaml")
    account = User.service_account("warmtide", "warmtide-agent")
    async with (
        ApiServer(tokens={TOKEN: account}) as server,
        HttpApi.from_kubeconfig(server.write_kubeconfig(tmp_path / "admin")) as admin,
        NodeApi(server.write_kubeconfig(tmp_path / "agent", TOKEN)) as api,
    ):
        await admin.create(CRDS, node_model_cache())
        await admin.create(CACHES, {"metadata": {"name": "node-1"}, "spec": {}})
        await admin.create(ROLES, role)
        await admin.create(BINDINGS, binding)

        await api.patch_status(NODE_MODEL_CACHES, "node-1", {"summary": "0/0"})
        seen = await api.get(NODE_MODEL_CACHES, "node-1")
        changes = api.changes(NODE_MODEL_CACHES, "node-1")
        opened = await anext(changes)
        await changes.aclose()  # type: ignore[attr-defined]  # an async generator
        with pytest.raises(ApiError, match="403"):
            await api._json("PATCH", f"{NODE_MODEL_CACHES}/node-1", {"spec": {}})

    assert (seen["status"], opened) == ({"summary": "0/0"}, "OPEN")
