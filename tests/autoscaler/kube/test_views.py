"""What is kept of pods, Deployments and nodes; where metrics pages are found."""

from typing import Any

import pytest

from autoscaler.kube.address import metrics_address
from autoscaler.kube.selector import selector_of
from autoscaler.kube.views import deployment_view, node_view, pod_view, scaled_service_view, service_view


def pod(**spec: Any) -> dict[str, Any]:
    annotations = spec.pop("annotations", {})
    container = {"name": "kserve-container"} | spec
    sidecar = {"name": "agent", "ports": [{"containerPort": 9091}]}
    return {"metadata": {"name": "p", "annotations": annotations}, "spec": {"containers": [sidecar, container]}}


@pytest.mark.parametrize(
    ("document", "port", "path"),
    [
        pytest.param(
            pod(
                annotations={"prometheus.kserve.io/port": "8081", "prometheus.kserve.io/path": "/m"}, args=["--port=1"]
            ),
            8081,
            "/m",
            id="the runtime's annotation first",
        ),
        pytest.param(
            pod(annotations={"prometheus.io/port": "9091"}),
            9091,
            "/metrics",
            id="a port announced and exposed",
        ),
        pytest.param(
            pod(annotations={"prometheus.io/port": "9088"}, ports=[{"containerPort": 8080}]),
            8080,
            "/metrics",
            id="a queue-proxy port that nobody exposes is a trap",
        ),
        pytest.param(
            pod(ports=[{"containerPort": 7000, "name": "grpc"}, {"containerPort": 8000, "name": "http1"}]),
            8000,
            "/metrics",
            id="a port named http",
        ),
        pytest.param(pod(ports=[{"containerPort": 7000}]), 7000, "/metrics", id="else the first port"),
        pytest.param(pod(args=["--model", "m", "--port", "8001"]), 8001, "/metrics", id="--port N"),
        pytest.param(pod(args=["--http_port=8002"]), 8002, "/metrics", id="--http_port=N"),
        pytest.param(pod(command=["sh", "-c", "vllm serve m --port 8003"]), 8003, "/metrics", id="in a shell line"),
        pytest.param(pod(args=["--data-parallel-rpc-port", "13345"]), 8080, "/metrics", id="other ports are not it"),
        pytest.param(pod(), 8080, "/metrics", id="KServe's default"),
        pytest.param(
            pod(annotations={"prometheus.kserve.io/port": "http", "prometheus.kserve.io/path": "no path"}),
            8080,
            "/metrics",
            id="nonsense is ignored",
        ),
        pytest.param(
            pod(annotations={"prometheus.kserve.io/port": "99999"}), 8080, "/metrics", id="no such port number"
        ),
        pytest.param({"metadata": {"name": "p"}, "spec": {}}, 8080, "/metrics", id="a pod without containers"),
    ],
)
def test_the_metrics_page_is_found_in_kserves_order(document: dict[str, Any], port: int, path: str) -> None:
    found = metrics_address(document)

    assert (found.port, found.path) == (port, path)


@pytest.mark.parametrize(
    ("selector", "labels", "selects"),
    [
        pytest.param({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True, id="labels"),
        pytest.param({"matchLabels": {"a": "1"}}, {"a": "2"}, False, id="another value"),
        pytest.param(
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {"a": "1"}, True, id="In"
        ),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True, id="NotIn"),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False, id="Exists"),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True, id="DoesNotExist"),
        pytest.param({"matchExpressions": [{"key": "a", "operator": "Like"}]}, {"a": "1"}, False, id="unknown"),
        pytest.param({}, {"a": "1"}, False, id="an empty one selects nothing"),
    ],
)
def test_selectors_select_as_kubernetes_does(selector: dict[str, Any], labels: dict[str, str], selects: bool) -> None:
    assert selector_of(selector).selects(labels) is selects


def test_a_pods_states_are_told_apart() -> None:
    def seen(status: dict[str, Any], **spec: Any) -> Any:
        return pod_view({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec} | status)

    def condition(kind: str, value: str, **more: str) -> dict[str, Any]:
        return {"status": {"conditions": [{"type": kind, "status": value} | more]}}

    ready = seen(condition("Ready", "True", lastTransitionTime="2026-01-01T00:01:00Z"), nodeName="n")
    waiting = seen(condition("PodScheduled", "False", reason="Unschedulable"))
    gated = seen(condition("PodScheduled", "False", reason="SchedulingGated"), schedulingGates=[{"name": "kueue"}])
    over = seen({"status": {"phase": "Failed"}})

    assert ready.ready_at_s is not None
    assert ready.ready_at_s - ready.created_at_s == 60.0
    assert (waiting.is_unschedulable, waiting.is_gated) == (True, False)
    assert (gated.is_unschedulable, gated.is_gated) == (False, True)
    assert over.is_over


def test_a_deployment_without_a_number_has_one_replica() -> None:
    document = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "1"}}}}

    assert deployment_view(document).replicas == 1
    assert deployment_view(document | {"spec": {"replicas": 0}}).replicas == 0


def test_a_maximum_of_0_is_kserves_none() -> None:
    predictor = {"minReplicas": 2, "maxReplicas": 0, "model": {"storageUri": "hf://a/b"}}
    view = service_view({"metadata": {"name": "s"}, "spec": {"predictor": predictor}})

    assert (view.replicas_min, view.replicas_max, view.model_uri) == (2, None, "hf://a/b")


def test_a_node_says_its_class_and_what_it_offers() -> None:
    node = {
        "metadata": {"name": "n", "labels": {"nvidia.com/gpu.product": "H100"}},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, {"key": "soft", "effect": "PreferNo"}]},
        "status": {
            "allocatable": {"nvidia.com/gpu": "8", "cpu": "64", "memory": "1Ti"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    view = node_view(node)

    assert (view.node_class, view.gpus, view.is_usable) == ("H100", (("nvidia.com/gpu", 8),), True)
    assert view.taint_keys == {"nvidia.com/gpu"}


def test_a_status_comes_back_as_it_was() -> None:
    status = {"learned": "x" * 5000, "conditions": [{"type": "Enrolled"}]}
    view = scaled_service_view({"metadata": {"name": "s"}, "status": status})

    assert view.status == status
    assert len(view.status_packed) < 200
    assert scaled_service_view({"metadata": {"name": "s"}}).status == {}
