"""What `kubectl apply -k manifests` brings, and that the controller can do its work with it."""

import asyncio
import logging
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.crds import all_crds
from autoscaler.errors import NotFound
from autoscaler.kube.client import KubeClient
from autoscaler.parse import parse_annotation, parse_policy, parse_scaled_service
from autoscaler.permissions import CORE, NAMESPACE, OPT_INS, SERVICE_ACCOUNT, main, manifests, rbac
from autoscaler.settings import ANNOTATION
from autoscaler.wiring import Options, run
from cacheops.config import parse_model_cache
from cacheops.crds import model_cache
from cacheops.sources import SourceSettings
from cacheops.uri import parse_uri
from simulations.cluster.apiserver import ApiServer, User
from simulations.cluster.apiserver.schema import Schema

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
FILES = sorted(file for file in MANIFESTS.rglob("*.yaml") if not file.name.endswith(".patch.yaml"))
TOKEN = "controller-token"
WAIT_S = 20.0


def documents(file: Path) -> list[Object]:
    return [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]


def samples(kind: str) -> list[Object]:
    found = [document for file in sorted((MANIFESTS / "samples").glob("*.yaml")) for document in documents(file)]
    return [document for document in found if document["kind"] == kind]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(MANIFESTS)))
def test_every_file_holds_objects(file: Path) -> None:
    assert documents(file)
    assert all(document["apiVersion"] and document["kind"] for document in documents(file))


@pytest.mark.parametrize("file", manifests(MANIFESTS), ids=lambda file: str(file.relative_to(MANIFESTS)))
def test_roles_are_what_the_list_of_permissions_says(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == manifests(MANIFESTS)[file], "run `python -m autoscaler.permissions`"


def test_the_command_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in manifests(MANIFESTS)}

    main()

    assert capsys.readouterr().out.splitlines() == [str(file) for file in before]
    assert {file: file.read_bytes() for file in before} == before


def test_no_permission_is_broad() -> None:
    for permission in (*CORE, *(permission for granted in OPT_INS.values() for permission in granted)):
        assert permission.purpose
        assert "*" not in (permission.group, permission.resource, *permission.verbs)
        assert permission.resource != "secrets"
    for permission in CORE:
        assert permission.resource != "nodes" or set(permission.verbs) <= {"get", "list", "watch"}
    writable = {p.resource for p in CORE if not set(p.verbs) <= {"get", "list", "watch"}}
    caches = {"modelcaches/status", "nodemodelcaches"}
    assert writable == {"deployments/scale", "scaledservices", "scaledservices/status", "events", "leases"} | caches


def rendered(*arguments: str) -> list[Object]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", *arguments], capture_output=True, text=True, check=True, cwd=ROOT)
    return list(yaml.safe_load_all(done.stdout))


def test_kustomize_renders_the_whole() -> None:
    objects = rendered("manifests")

    kinds = sorted(obj["kind"] for obj in objects)
    assert kinds == sorted(
        ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
        + ["CustomResourceDefinition"] * 4
        + ["Deployment", "Service", "PodDisruptionBudget"]
    )
    unplaced = {"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    assert {o["metadata"].get("namespace") for o in objects if o["kind"] not in unplaced} == {NAMESPACE}


def test_components_can_be_added(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    components = [f"../manifests/components/{name}" for name in (*OPT_INS, "service-monitor", "alerts", "dashboard")]
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["../manifests"], "components": components})
    )

    objects = rendered(str(overlay))

    monitors = [obj for obj in objects if obj["kind"] == "ServiceMonitor"]
    roles = [obj["metadata"]["name"] for obj in objects if obj["kind"] == "ClusterRole"]
    assert [monitor["metadata"]["namespace"] for monitor in monitors] == [NAMESPACE]
    assert sorted(roles) == sorted([SERVICE_ACCOUNT, *(f"{SERVICE_ACCOUNT}-{name}" for name in OPT_INS)])


def test_the_folder_that_the_readme_shows_is_one_that_renders(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [shown] = [text for text in re.findall(r"```yaml\n(.*?)```", readme, flags=re.S) if "kind: Kustomization" in text]
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    (tmp_path / "my-cluster").mkdir()
    (tmp_path / "my-cluster" / "kustomization.yaml").write_text(shown, encoding="utf-8")

    objects = rendered(str(tmp_path / "my-cluster"))

    assert {"ServiceMonitor", "PodMonitor", "PrometheusRule"} <= {obj["kind"] for obj in objects}
    [controller] = [obj for obj in objects if obj["kind"] == "Deployment"]
    [container] = controller["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "REGISTRY/warmtide:0.1.0"


def test_a_service_monitor_leaves_our_labels_as_they_are() -> None:
    """What the operator says of the place it scrapes, `service` among it, would rename labels of ours."""
    [monitor] = documents(MANIFESTS / "components/service-monitor/service_monitor.yaml")

    assert [endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"]] == [True]


def test_claims_are_mounted_read_only_where_controller_and_agents_look_for_them(tmp_path: Path) -> None:
    """Two of them: the component as it is, and a copy for another name, as its own words say."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    copied = tmp_path / "overlay" / "weights"
    shutil.copytree(MANIFESTS / "components" / "claims", copied)
    patch = copied / "claim.patch.yaml"
    patch.write_text(patch.read_text(encoding="utf-8").replace("models", "weights"), encoding="utf-8")
    components = [f"../manifests/components/{name}" for name in ("node-agent", "claims")] + ["weights"]
    kustomization = {"resources": ["../manifests"], "components": components}
    (copied.parent / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))

    objects = rendered(str(copied.parent))

    pods = [obj["spec"]["template"]["spec"] for obj in objects if obj["kind"] in ("Deployment", "DaemonSet")]
    assert len(pods) == 2
    for pod in pods:
        claims = {v["name"]: v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
        mounts = {m["name"]: m for m in pod["containers"][0]["volumeMounts"] if m["name"] in claims}
        assert list(claims.values()) == [{"claimName": name, "readOnly": True} for name in ("models", "weights")]
        for name, claim in claims.items():
            assert mounts[name]["mountPath"] == str(SourceSettings().claims / claim["claimName"])
            assert mounts[name]["readOnly"] is True


def test_the_controllers_pod_is_restricted() -> None:
    (deployment,) = documents(MANIFESTS / "deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert deployment["spec"]["replicas"] == 2
    assert pod["serviceAccountName"] == SERVICE_ACCOUNT
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")} == {
        "/healthz",
        "/readyz",
    }


def test_the_controller_knows_the_arguments_of_its_pod() -> None:
    from autoscaler.__main__ import _parser

    (deployment,) = documents(MANIFESTS / "deployment.yaml")
    command, *arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]

    parsed = _parser().parse_args(arguments)

    assert command == "controller"
    assert parsed.listen == "0.0.0.0:8080"


@pytest.mark.parametrize("policy", samples("ScalingPolicy"), ids=lambda policy: policy["metadata"]["name"])
def test_sample_policies_are_good(policy: Object) -> None:
    schema = Schema(all_crds()[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"])

    assert parse_policy(policy).name == f"team-a/{policy['metadata']['name']}"
    assert schema.check(policy, None) == []
    assert schema.prune(policy) == []


@pytest.mark.parametrize("cache", samples("ModelCache"), ids=lambda cache: cache["metadata"]["name"])
def test_sample_caches_are_good(cache: Object) -> None:
    schema = Schema(model_cache()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])

    assert parse_uri(parse_model_cache(cache).ref.uri).place
    assert schema.check(cache, None) == []
    assert schema.prune(cache) == []


def test_samples_enrol_with_policies_that_there_are() -> None:
    known = {policy["metadata"]["name"] for policy in samples("ScalingPolicy")}
    annotated = [*samples("InferenceService"), *samples("Deployment")]

    named = [parse_annotation("sample", obj["metadata"]["annotations"][ANNOTATION]) for obj in annotated]
    named += [parse_scaled_service(obj).policy for obj in samples("ScaledService")]

    assert len(named) == 3
    assert set(named) <= known


def test_the_image_holds_no_root_and_no_loose_versions() -> None:
    text = (MANIFESTS / "Containerfile").read_text(encoding="utf-8")

    assert "-c constraints.txt" in text
    assert "USER 65532:65532" in text
    assert "PYTHONSAFEPATH=1" in text
    folders = [line.split()[1] for line in text.splitlines() if line.startswith("COPY ") and len(line.split()) == 3]
    assert all((ROOT / folder).exists() for folder in folders if not folder.startswith("--"))


# --- with exactly these permissions the controller does its work ---


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[ApiServer, KubeClient]]:
    """An API server with our CRDs and roles, and a controller's token."""
    account = User.service_account(NAMESPACE, SERVICE_ACCOUNT)
    async with (
        ApiServer(tokens={TOKEN: account}) as server,
        KubeClient.from_config(server.write_kubeconfig(folder / "admin")) as admin,
    ):
        for name in (NAMESPACE, "team-a"):
            await admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
        for crd in all_crds():
            await admin.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        for obj in rbac():
            if "rules" in obj or "roleRef" in obj:
                namespace = obj["metadata"].get("namespace")
                place = f"namespaces/{namespace}/" if namespace else ""
                await admin.create(f"/apis/rbac.authorization.k8s.io/v1/{place}{obj['kind'].lower()}s", obj)
        yield server, admin


@asynccontextmanager
async def controller(server: ApiServer, folder: Path) -> AsyncIterator[None]:
    kubeconfig = server.write_kubeconfig(folder / "controller", TOKEN)
    options = Options(kubeconfig=kubeconfig, identity="pod-1", home_namespace=NAMESPACE, listen_port=0)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run(options, stop))
        try:
            yield
        finally:
            stop.set()


async def eventually(client: KubeClient, path: str, holds: Callable[[Object], bool]) -> Object:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                obj = await client.get(path)
            except NotFound:
                obj = {}
            if holds(obj):
                return obj
            await asyncio.sleep(0.05)


async def test_the_controller_works_with_exactly_these_permissions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with cluster(tmp_path) as (server, admin):
        policy = {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ScalingPolicy", "metadata": {"name": "gold"}}
        policy |= {"spec": {"mode": "direct", "replicas": {"min": 3, "max": 4}}}
        await admin.create("/apis/warmtide.dev/v1alpha1/namespaces/team-a/scalingpolicies", policy)
        pod = {"metadata": {"labels": {"app": "qwen"}}, "spec": {"containers": [{"name": "vllm", "image": "vllm"}]}}
        spec = {"selector": {"matchLabels": {"app": "qwen"}}, "template": pod}
        body = {"metadata": {"name": "qwen", "annotations": {ANNOTATION: "gold"}}, "spec": spec}
        await admin.create("/apis/apps/v1/namespaces/team-a/deployments", body)

        async with controller(server, tmp_path):
            deployment = "/apis/apps/v1/namespaces/team-a/deployments/qwen"
            await eventually(admin, deployment, lambda obj: obj["spec"]["replicas"] == 3)
            service = "/apis/warmtide.dev/v1alpha1/namespaces/team-a/scaledservices/qwen"
            scaled = await eventually(admin, service, lambda obj: bool(obj.get("status", {}).get("replicas")))
            events = await admin.list("/api/v1/namespaces/team-a/events")
            lease = await admin.get("/apis/coordination.k8s.io/v1/namespaces/warmtide/leases/warmtide-controller")

    assert scaled["status"]["replicas"]["desired"] == 3
    assert {event["involvedObject"]["name"] for event in events} == {"qwen"}
    assert lease["spec"]["holderIdentity"] == "pod-1"
    assert [record.getMessage() for record in caplog.records if "orbidden" in record.getMessage()] == []
