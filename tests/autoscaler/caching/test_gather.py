"""Which ModelCache a service reads, which nodes may hold models, and how much they may take."""

from typing import Any

import pytest

from autoscaler.caching.gather import cache_of, nodes_seen, uses_of
from autoscaler.caching.views import cache_view, group_view
from autoscaler.cluster import Cluster
from autoscaler.enrol import Subject, Target
from autoscaler.kube.views import deployment_view, node_view, pod_view

Object = dict[str, Any]
GIB = 2**30


def cache(name: str, uri: str, *, created: str = "2026-11-20T10:00:00Z", namespace: str = "team-a", **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created, "uid": name}
    return cache_view({"metadata": metadata, "spec": {"source": {"uri": uri}} | spec})


def deployment(**pod: Any) -> Any:
    container = {"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "1"}}} | pod.pop("container", {})
    template = {"spec": {"containers": [container]} | pod}
    metadata = {"name": "llm", "namespace": "team-a", "annotations": {"warmtide.dev/policy": "gold"}}
    selector = {"matchLabels": {"app": "llm"}}
    return deployment_view({"metadata": metadata, "spec": {"replicas": 2, "template": template, "selector": selector}})


def target(model_uri: str = "") -> Target:
    subject = Subject(api_version="apps/v1", kind="Deployment", namespace="team-a", name="llm", uid="u")
    return Target(key="team-a/llm", subject=subject, deployment="team-a/llm", model_uri=model_uri)


QWEN, BUCKET = cache("qwen", "hf://Qwen/Qwen3-8B"), cache("mine", "s3://bucket/models/mine/")
COPY = cache("copy", "pvc://share/weights")
CLAIMED = {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "qwen"}}]}


@pytest.mark.parametrize(
    ("uri", "pod", "found"),
    [
        pytest.param("hf://Qwen/Qwen3-8B", {}, "qwen", id="storageUri"),
        pytest.param("s3://bucket/models/mine", {}, "mine", id="storageUri without the last slash"),
        pytest.param("s3://bucket/models/mine/adapters", {}, "mine", id="a folder of it"),
        pytest.param("s3://bucket/models/mine2", {}, None, id="a neighbour"),
        pytest.param("pvc://qwen/models", {}, "qwen", id="storageUri of its claim"),
        pytest.param("pvc://share/weights", {}, None, id="the share, and not the copy of it"),
        pytest.param("pvc://copy", {}, "copy", id="the copy of a share"),
        pytest.param("", {"container": {"args": ["serve", "Qwen/Qwen3-8B"]}}, "qwen", id="vllm serve"),
        pytest.param("", {"container": {"args": ["--port=80", "--model", "Qwen/Qwen3-8B"]}}, "qwen", id="--model NAME"),
        pytest.param("", {"container": {"args": ["--model=Qwen/Qwen3-8B"]}}, "qwen", id="--model=NAME"),
        pytest.param(
            "", {"container": {"command": ["sh", "-c", "exec vllm serve Qwen/Qwen3-8B -tp 2"]}}, "qwen", id="in a shell"
        ),
        pytest.param(
            "",
            {"container": {"env": [{"name": "STORAGE_URI", "value": "hf://Qwen/Qwen3-8B"}]}},
            "qwen",
            id="STORAGE_URI",
        ),
        pytest.param("", CLAIMED, "qwen", id="a volume of its claim"),
        pytest.param("", {"container": {"args": ["--model=/mnt/models"]}}, None, id="a path says nothing"),
        pytest.param("hf://Qwen/Qwen3-0.6B", {}, None, id="another model"),
    ],
)
def test_a_service_reads_the_cache_of_what_it_is_told_to_serve(uri: str, pod: Object, found: str | None) -> None:
    view = cache_of(target(uri), deployment(**pod), [QWEN, BUCKET, COPY])

    assert (view.meta.name if view else None) == found


def test_of_two_caches_of_one_model_the_oldest_counts() -> None:
    young = cache("a", "hf://Qwen/Qwen3-8B", created="2026-11-20T11:00:00Z")

    found = cache_of(target("hf://Qwen/Qwen3-8B"), deployment(), [young, QWEN])

    assert found is QWEN


def node(name: str, gpus: str = "8", **labels: str) -> Any:
    status = {"allocatable": {"nvidia.com/gpu": gpus}, "conditions": [{"type": "Ready", "status": "True"}]}
    return node_view({"metadata": {"name": name, "labels": labels, "uid": name}, "status": status})


def group(name: str, limit: str, **labels: str) -> Any:
    expressions = [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]
    terms = [{"matchExpressions": expressions}] if expressions else []
    affinity = {"required": {"nodeSelectorTerms": terms}}
    spec = {"storageLimit": limit, "persistentVolumeSpec": {"nodeAffinity": affinity}}
    return group_view({"metadata": {"name": name}, "spec": spec})


def cluster(*nodes: Any) -> Cluster:
    found = Cluster(wake=lambda _key: None, table_changed=lambda: None)
    for view in nodes:
        found.node_changed(view.name, None, view)
    return found


def test_nodes_with_gpus_and_those_that_a_cache_selects_may_hold_models() -> None:
    seen = cluster(node("gpu"), node("cpu", gpus="0", disk="big"), node("other", gpus="0"))
    picky = cache("x", "hf://a/b", places={"selector": {"disk": "big"}})

    assert [one.name for one in nodes_seen(seen, [QWEN], None)] == ["gpu"]
    assert [one.name for one in nodes_seen(seen, [QWEN, picky], None)] == ["cpu", "gpu"]


@pytest.mark.parametrize(
    ("groups", "quota"),
    [
        pytest.param([], 7 * GIB, id="in none: the controller's"),
        pytest.param([group("a", "100Gi", gpu="h100")], 100 * GIB, id="in one"),
        pytest.param(
            [group("a", "100Gi", gpu="h100"), group("b", "40Gi", zone="z")], 40 * GIB, id="in two: the tightest"
        ),
        pytest.param([group("a", "100Gi", gpu="a100")], 7 * GIB, id="in another"),
        pytest.param([group("a", "100Gi")], 7 * GIB, id="a group without an affinity holds no node"),
    ],
)
def test_a_node_may_hold_what_its_group_says(groups: list[Any], quota: int) -> None:
    seen = cluster(node("gpu", gpu="h100", zone="z"))
    for view in groups:
        seen.node_group_changed(view.name, None, view)

    [one] = nodes_seen(seen, [QWEN], 7 * GIB)

    assert one.quota_bytes == quota


def test_a_use_says_where_its_pods_run_start_and_could_run() -> None:
    seen = cluster(node("a", kind="gpu"), node("b", kind="gpu"), node("c", kind="other"))
    view = deployment(container={"args": ["serve", "Qwen/Qwen3-8B"]}, nodeSelector={"kind": "gpu"})
    seen.model_cache_changed("team-a/qwen", None, QWEN)
    seen.deployment_changed("team-a/llm", None, view)
    for name, host, is_ready in [("x", "a", True), ("y", "b", False)]:
        metadata = {"name": name, "namespace": "team-a", "labels": {"app": "llm"}, "uid": name}
        conditions = (
            [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-20T10:00:00Z"}] if is_ready else []
        )
        pod = pod_view({"metadata": metadata, "spec": {"nodeName": host}, "status": {"conditions": conditions}})
        seen.pod_changed(f"team-a/{name}", None, pod)
    seen.refresh()

    [use] = uses_of(seen, lambda _key: None)

    assert (use.key, use.replicas, use.expected, use.gpus) == (QWEN.task.ref.storage_key, 2, 3, 1)
    assert (use.nodes, dict(use.running), use.starting) == (frozenset("ab"), {"a": 1, "b": 1}, frozenset("b"))


def told(uri: str) -> Object:
    return {"container": {"env": [{"name": "STORAGE_URI", "value": uri}]}}


@pytest.mark.parametrize(
    ("pod", "counts"),
    [
        pytest.param(told("hf://Qwen/Qwen3-8B"), True, id="the same source"),
        pytest.param({"container": {"args": ["serve", "Qwen/Qwen3-8B"]}}, True, id="the same repository"),
        pytest.param(CLAIMED, False, id="a claim of that name is another one there"),
        pytest.param(told("pvc://qwen/models"), False, id="also as an address"),
        pytest.param(told("pvc://share/weights"), False, id="a share that KServe mounts"),
    ],
)
def test_a_service_counts_for_the_cache_of_another_namespace_that_brings_its_source(pod: Object, counts: bool) -> None:
    seen, view = cluster(node("a")), deployment(**pod)
    for name, uri in (("qwen", "hf://Qwen/Qwen3-8B"), ("copy", "pvc://share/weights")):
        seen.model_cache_changed(f"ops/{name}", None, cache(name, uri, namespace="ops"))
    seen.deployment_changed("team-a/llm", None, view)
    seen.refresh()

    assert [use.service for use in uses_of(seen, lambda _key: None)] == ["team-a/llm"] * counts
