"""Free GPUs: counted where the nodes are all there is, unknown where more can come."""

from dataclasses import replace

import pytest

from autoscaler.gpus import GpuLedger
from autoscaler.kube.views import DeploymentView, NodeView, PodView, deployment_view, pod_view

GPU = "nvidia.com/gpu"


def node(name: str = "n", gpus: int = 8, **labels: str) -> NodeView:
    return NodeView(
        name=name, node_class="", labels=labels, gpus=((GPU, gpus),), is_usable=True, taint_keys=frozenset()
    )


def pod(name: str, gpus: int, node_name: str | None, **more: object) -> PodView:
    limits = {"limits": {GPU: str(gpus)}}
    spec = {"containers": [{"name": "c", "resources": limits}]} | ({"nodeName": node_name} if node_name else {})
    return replace(pod_view({"metadata": {"name": name}, "spec": spec}), **more)


def asking(gpus: int, **spec: object) -> DeploymentView:
    container = {"name": "c", "resources": {"limits": {GPU: str(gpus)}}}
    template = {"spec": {"containers": [container]} | spec}
    return deployment_view({"metadata": {"name": "d"}, "spec": {"selector": {}, "template": template}})


def ledger(*nodes: NodeView) -> GpuLedger:
    it = GpuLedger()
    for one in nodes:
        it.node_changed(one.name, one)
    return it


def test_free_gpus_are_counted_per_node_and_replica() -> None:
    it = ledger(node("a", 8), node("b", 8))
    it.pod_changed(None, pod("p", 6, "a"))

    assert it.free_replicas(asking(4)) == 2  # 2 left on a fit none, 8 on b fit two
    assert it.free_replicas(asking(1)) == 10


def test_a_pod_that_ends_gives_its_gpus_back() -> None:
    it = ledger(node("a", 8))
    running = pod("p", 8, "a")
    it.pod_changed(None, running)
    assert it.free_replicas(asking(8)) == 0

    it.pod_changed(running, replace(running, is_over=True))
    assert it.free_replicas(asking(8)) == 1


def test_pods_that_wait_for_a_node_come_first() -> None:
    it = ledger(node("a", 8))
    it.pod_changed(None, pod("w", 4, None))
    assert it.free_replicas(asking(2)) == 2

    it.pod_changed(None, pod("gated", 4, None, is_gated=True))
    assert it.free_replicas(asking(2)) == 2


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param((), id="nodes may not be read"),
        pytest.param((node("a", 8, **{"karpenter.sh/nodepool": "gpu"}),), id="Karpenter adds nodes"),
        pytest.param((node("a", 8), node("b", 8, **{"cloud.google.com/gke-nodepool": "x"})), id="one group can grow"),
    ],
)
def test_where_nodes_can_come_the_limit_is_unknown(nodes: tuple[NodeView, ...]) -> None:
    assert ledger(*nodes).free_replicas(asking(1)) is None


def test_a_workload_without_gpus_has_no_limit_here() -> None:
    no_gpus = deployment_view({"metadata": {"name": "d"}, "spec": {"selector": {}}})

    assert ledger(node()).free_replicas(no_gpus) is None


@pytest.mark.parametrize(
    ("other", "free"),
    [
        pytest.param(replace(node("b"), is_usable=False), 8, id="cordoned or not ready"),
        pytest.param(replace(node("b"), taint_keys=frozenset({"team-b"})), 8, id="a taint that is not tolerated"),
        pytest.param(replace(node("b"), taint_keys=frozenset({GPU})), 16, id="the device's own taint"),
        pytest.param(replace(node("b"), gpus=(("amd.com/gpu", 8),)), 8, id="another device"),
    ],
)
def test_only_nodes_that_fit_count(other: NodeView, free: int) -> None:
    assert ledger(node("a"), other).free_replicas(asking(1)) == free


def test_a_node_selector_and_tolerations_are_heeded() -> None:
    it = ledger(node("a", 8, zone="x"), replace(node("b", 8, zone="y"), taint_keys=frozenset({"team-b"})))

    assert it.free_replicas(asking(1, nodeSelector={"zone": "x"})) == 8
    assert it.free_replicas(asking(1, tolerations=[{"key": "team-b"}])) == 16
    assert it.free_replicas(asking(1, tolerations=[{"operator": "Exists"}])) == 16
