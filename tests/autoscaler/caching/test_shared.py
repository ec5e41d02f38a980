"""One model that services of several namespaces read: who pins it, and who holds its last copy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from autoscaler.caching.claims import claims_of, folders_of
from autoscaler.caching.gather import uses_of
from autoscaler.caching.sight import sight_of
from autoscaler.caching.values import Holding, Resolved
from autoscaler.caching.views import CacheView, cache_view, order_view
from autoscaler.cluster import Cluster
from autoscaler.kube.views import deployment_view, node_view, pod_view
from autoscaler.observe import Scene, observation
from autoscaler.policy.spec import PolicySpec
from autoscaler.settings import ServicePolicy

Object = dict[str, Any]
URI, DIGEST, OTHER_DIGEST = "hf://Qwen/Qwen3-8B", "a" * 64, "b" * 64
POLICY = ServicePolicy(name="gold", spec=PolicySpec())


@dataclass
class Team:
    """A namespace with a ModelCache, or without one, and a service of one replica."""

    name: str
    pod_created: str
    is_pinned: bool | None = None  # None: no ModelCache
    digest: str = DIGEST

    def cache(self) -> CacheView:
        metadata = {"name": "qwen", "namespace": self.name, "uid": self.name, "creationTimestamp": self.pod_created}
        status = {"resolved": {"digest": self.digest}}
        spec = {"source": {"uri": URI}, "pinned": bool(self.is_pinned)}
        return cache_view({"metadata": metadata, "spec": spec, "status": status})

    def holding(self) -> Holding:
        view = self.cache()
        assert view.task is not None
        resolved = Resolved(request="r", revision="", digest=self.digest, files=1, size_bytes=1, unsworn=0, at_s=0.0)
        return Holding(task=view.task, created_at_s=view.created_at_s, resolved=resolved)

    def settle(self, cluster: Cluster) -> None:
        container = {"name": "vllm", "env": [{"name": "STORAGE_URI", "value": URI}]}
        labels = {"app": "llm"}
        metadata = {"name": "llm", "namespace": self.name, "annotations": {"warmtide.dev/policy": "gold"}}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"spec": {"containers": [container]}}}
        cluster.deployment_changed(f"{self.name}/llm", None, deployment_view({"metadata": metadata, "spec": spec}))
        pod = {"name": f"llm-{self.name}", "namespace": self.name, "uid": self.name, "labels": labels}
        pod |= {"creationTimestamp": self.pod_created}
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": self.pod_created}
        view = pod_view({"metadata": pod, "spec": {"nodeName": "n"}, "status": {"conditions": [ready]}})
        cluster.pod_changed(f"{self.name}/{pod['name']}", None, view)
        if self.is_pinned is not None:
            cluster.model_cache_changed(f"{self.name}/qwen", None, self.cache())


def kept(*teams: Team, change: Callable[[Cluster], None] = lambda _cluster: None) -> dict[str, frozenset[str]]:
    """What each service's policy is told of pods that must not go."""
    cluster = Cluster(wake=lambda _key: None, table_changed=lambda: None)
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    cluster.node_changed("n", None, node_view({"metadata": {"name": "n", "uid": "n"}, "status": status}))
    for team in teams:
        team.settle(cluster)
    cluster.refresh()
    claims, refused = claims_of(team.holding() for team in teams if team.is_pinned is not None)
    cluster.folders = folders_of(claims, refused, uses_of(cluster, lambda _key: None))
    change(cluster)
    return {key: _told(cluster, key) for key in sorted(cluster.targets())}


def _told(cluster: Cluster, key: str) -> frozenset[str]:
    target, deployment = cluster.targets()[key], cluster.deployments[key]
    pods = cluster.pods_of(deployment)
    scene = Scene(
        target=target,
        policy=POLICY,
        deployment=deployment,
        pods=pods,
        nodes=cluster.nodes,
        signals=lambda _uid: None,
        model=sight_of(cluster, target, deployment),
    )
    return observation(scene, now_s=2e9).last_warm_copies


OLD, YOUNG = "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z"


@pytest.mark.parametrize(
    ("teams", "keepers"),
    [
        pytest.param([Team("a", OLD, True), Team("b", YOUNG, True)], {"a"}, id="both pin it: once"),
        pytest.param([Team("a", YOUNG, True), Team("b", OLD, True)], {"b"}, id="the oldest, whoever's it is"),
        pytest.param([Team("a", YOUNG, True), Team("b", OLD, False)], {"b"}, id="pinned by one: for all"),
        pytest.param([Team("a", YOUNG, True), Team("b", OLD)], {"b"}, id="one has no ModelCache"),
        pytest.param([Team("a", OLD, False), Team("b", YOUNG, False)], set(), id="pinned by none"),
        pytest.param(
            [Team("a", OLD, True), Team("b", YOUNG, True, digest=OTHER_DIGEST)],
            {"a", "b"},
            id="other bytes are another model",
        ),
    ],
)
def test_one_replica_of_all_namespaces_holds_the_last_copy(teams: list[Team], keepers: set[str]) -> None:
    assert kept(*teams) == {
        f"{team.name}/llm": frozenset({f"llm-{team.name}"} if team.name in keepers else ()) for team in teams
    }


def test_before_the_caches_were_looked_at_each_keeps_its_own() -> None:
    def forget(cluster: Cluster) -> None:
        cluster.folders = {}

    assert kept(Team("a", OLD, True), Team("b", YOUNG, True), change=forget) == {
        "a/llm": {"llm-a"},
        "b/llm": {"llm-b"},
    }


def test_who_is_gone_keeps_nothing() -> None:
    def go(cluster: Cluster) -> None:
        pod = cluster.pods["a/llm-a"]
        cluster.pod_changed("a/llm-a", pod, replace(pod, is_terminating=True))

    assert kept(Team("a", OLD, True), Team("b", YOUNG, True), change=go) == {"a/llm": set(), "b/llm": {"llm-b"}}


def test_a_copy_on_a_node_is_enough_for_all() -> None:
    def bring(cluster: Cluster) -> None:
        key = cluster.folders["a/llm"].key
        tree = {"key": key, "phase": "Ready", "digest": DIGEST}
        cluster.node_order_changed("n", None, order_view({"metadata": {"name": "n"}, "status": {"models": [tree]}}))

    assert kept(Team("a", OLD, True), Team("b", YOUNG), change=bring) == {"a/llm": set(), "b/llm": set()}
