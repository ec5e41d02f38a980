"""What KServe makes of an InferenceService: names, labels, annotations, the Service, the scalers."""

from typing import Any

import pytest

from simulations.cluster.api import (
    CRDS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    HPAS,
    INFERENCE_SERVICES,
    PODS,
    SCALED_OBJECTS,
    SERVICES,
    ApiError,
    Object,
)
from simulations.cluster.kserve import names, scaled_object_crd
from simulations.cluster.kserve.objects import deployment_for, hpa_for, scaled_object_for
from simulations.cluster.kserve.rules import rules_for
from simulations.cluster.workloads.mirror import owner_of

RULES = rules_for("0.20.0")


def with_uid(isvc: Object) -> Object:
    isvc["metadata"]["uid"] = "u"
    return isvc


async def test_the_deployment_is_named_labelled_and_owned_as_kserve_does(cluster, service_of) -> None:
    isvc = service_of(labels={"tier": "gold"}, annotations={"example.org/p": "1"})
    isvc["metadata"]["labels"] = {"team": "a"}
    async with cluster.run():
        await cluster.create(isvc)
        deployment = await cluster.deployment()
        pods = await cluster.api.list(PODS, "default")
        uid = (await cluster.service())["metadata"]["uid"]

    own = {"app": "isvc.llm-predictor", names.SERVICE_LABEL: "llm", "component": "predictor"}
    assert deployment["metadata"]["labels"] == {"team": "a", "tier": "gold", **own}
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": "isvc.llm-predictor"}}
    assert owner_of(deployment) == uid
    (pod,) = pods
    assert {"team": "a", "tier": "gold", **own}.items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["annotations"]["example.org/p"] == "1"
    assert pod["metadata"]["annotations"]["warmtide.dev/policy"] == "gold"
    assert {"name": "INFERENCE_SERVICE_NAME", "value": "llm"} in pod["spec"]["containers"][0]["env"]


@pytest.mark.parametrize("name", sorted(names.NOT_COPIED))
def test_annotations_on_the_deny_list_stay_on_the_service(service_of, name: str) -> None:
    isvc = with_uid(service_of())
    isvc["metadata"]["annotations"][name] = "x"

    deployment = deployment_for(isvc, RULES)

    assert name not in deployment["metadata"]["annotations"]
    assert name not in deployment["spec"]["template"]["metadata"]["annotations"]


async def test_a_new_annotation_is_a_new_template_and_a_new_bound_is_not(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.patch({"spec": {"predictor": {"minReplicas": 1, "maxReplicas": 9, "scaleTarget": 7}}})
        same = await cluster.replica_sets()
        await cluster.annotate("kubectl.kubernetes.io/last-applied-configuration", "{}")
        denied = await cluster.replica_sets()
        await cluster.annotate("example.org/a", "1")
        new = await cluster.replica_sets()

    assert (same, denied, new) == (1, 1, 2)


async def test_the_service_leads_to_the_ready_pods(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.scale(3)
        service = await cluster.api.get(SERVICES, "default", "llm-predictor")
        (one,) = await cluster.api.list(ENDPOINT_SLICES, "default")

    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8080)
    assert len(one["endpoints"]) == 3
    assert one["ports"][0]["port"] == 8080


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        pytest.param(2, 6, (2, 6), id="as asked"),
        pytest.param(0, 4, (1, 4), id="zero is silently one"),
        pytest.param(3, None, (3, 3), id="no maximum: the minimum"),
        pytest.param(None, None, (1, 1), id="nothing said"),
    ],
)
def test_the_hpa_has_bounds_as_kserve_gives_them(
    service_of, low: int | None, high: int | None, expected: tuple[int, int]
) -> None:
    spec = hpa_for(with_uid(service_of(minReplicas=low, maxReplicas=high)))["spec"]

    assert (spec["minReplicas"], spec["maxReplicas"]) == expected
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm-predictor"}
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 80


async def test_without_a_class_there_is_an_hpa(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        before = await cluster.has_hpa()
        await cluster.set_class(None)
        after = await cluster.has_hpa()

    assert (before, after) == (False, True)


PROMETHEUS: dict[str, Any] = {
    "metrics": [
        {
            "type": "External",
            "external": {
                "metric": {"backend": "prometheus", "serverAddress": "http://p:9090", "query": "sum(x)"},
                "target": {"type": "Value", "value": "5"},
            },
        }
    ]
}


def test_the_scaled_object_carries_the_query(service_of) -> None:
    spec = scaled_object_for(with_uid(service_of(minReplicas=0, autoScaling=PROMETHEUS)))["spec"]

    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 6)
    assert spec["triggers"] == [
        {"type": "prometheus", "metadata": {"serverAddress": "http://p:9090", "query": "sum(x)", "threshold": "5"}}
    ]


def test_the_scaled_object_carries_utilisation(service_of) -> None:
    target = {"type": "Utilization", "averageUtilization": 60}
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]

    spec = scaled_object_for(with_uid(service_of(autoScaling={"metrics": metrics})))["spec"]

    assert spec["triggers"] == [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}]


async def test_class_keda_makes_a_scaled_object_where_keda_is_installed_and_leaves_it_behind(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.set_class("keda")
        with pytest.raises(ApiError):
            await cluster.api.list(SCALED_OBJECTS, "default")
        await cluster.api.create(CRDS, scaled_object_crd())
        await cluster.patch({"spec": {"predictor": {"maxReplicas": 7}}})
        (made,) = await cluster.api.list(SCALED_OBJECTS, "default")
        await cluster.patch({"spec": {"predictor": {"maxReplicas": 8, "autoScaling": PROMETHEUS}}})
        (changed,) = await cluster.api.list(SCALED_OBJECTS, "default")
        await cluster.set_class("external")
        left = await cluster.api.list(SCALED_OBJECTS, "default")
        await cluster.annotate(names.STOP, "true")
        after_stop = await cluster.api.list(SCALED_OBJECTS, "default")

    assert made["metadata"]["name"] == "llm-predictor"
    assert (made["spec"]["maxReplicaCount"], changed["spec"]["maxReplicaCount"]) == (7, 8)
    assert changed["spec"]["triggers"][0]["metadata"]["query"] == "sum(x)"
    assert len(left) == 1  # the real one forgets it too
    assert after_stop == []


HPA: Object = {
    "metadata": {"name": "llm-predictor", "namespace": "default"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm-predictor"},
        "maxReplicas": 3,
    },
}


@pytest.mark.parametrize(("version", "stays"), [("0.14.1", False), ("0.15.0", False), ("0.15.2", True)])
async def test_a_foreign_hpa_of_the_same_name(cluster_of, version: str, stays: bool) -> None:
    cluster = cluster_of(version)
    async with cluster.run():
        await cluster.create()
        await cluster.api.create(HPAS, HPA)
        await cluster.annotate("example.org/tick", "1")

        assert await cluster.has_hpa() is stays


@pytest.mark.parametrize(
    ("version", "component", "stays"),
    [("0.18.1", "predictor", True), ("0.20.0", "predictor", False), ("0.20.0", "transformer", True)],
)
async def test_a_foreign_deployment_with_labels_of_the_service(
    cluster_of, version: str, component: str, stays: bool
) -> None:
    cluster = cluster_of(version)
    labels = {names.SERVICE_LABEL: "llm", "component": component, "app": "mine"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"app": "mine"}}, "template": template}
    async with cluster.run():
        await cluster.create()
        await cluster.api.create(DEPLOYMENTS, {"metadata": {"name": "mine", "labels": labels}, "spec": spec})
        await cluster.annotate("example.org/tick", "1")
        found = {one["metadata"]["name"] for one in await cluster.api.list(DEPLOYMENTS, "default")}

    assert ("mine" in found) is stays
    assert "llm-predictor" in found


async def test_a_model_becomes_the_vllm_runtime_with_its_metrics_annotations(cluster, service_of) -> None:
    isvc = service_of()
    resources = {"limits": {"nvidia.com/gpu": "2"}}
    model = {"modelFormat": {"name": "vllm"}, "storageUri": "hf://org/m", "args": ["--x=1"], "resources": resources}
    isvc["spec"]["predictor"] = {"model": model, "nodeSelector": {"kubernetes.io/os": "linux"}}
    async with cluster.run():
        await cluster.create(isvc)
        (pod,) = await cluster.api.list(PODS, "default")
        status = (await cluster.service())["status"]

    (server,) = pod["spec"]["containers"]
    assert server["name"] == "kserve-container"
    assert server["args"] == ["--port=8080", "--served-model-name=llm", "--model=/mnt/models", "--x=1"]
    assert server["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert pod["spec"]["initContainers"][0]["args"] == ["hf://org/m", "/mnt/models"]
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    annotations = pod["metadata"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == "8080"
    assert annotations["prometheus.kserve.io/path"] == "/metrics"
    assert annotations[names.SOURCE_URI] == "hf://org/m"
    assert status["clusterServingRuntimeName"] == "kserve-vllmserver"


async def test_a_named_predictor_gives_its_name_to_all(cluster, service_of) -> None:
    async with cluster.run():
        await cluster.create(service_of(name="blue"))
        found = {one["metadata"]["name"] for one in await cluster.api.list(DEPLOYMENTS, "default")}

    assert found == {"llm-blue-predictor"}


async def test_a_deployment_strategy_is_passed_on(cluster, service_of) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    async with cluster.run():
        await cluster.create(service_of(deploymentStrategy=rolling))
        deployment = await cluster.deployment()

    assert deployment["spec"]["strategy"] == rolling


async def test_a_deleted_service_takes_everything_along(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.api.delete(INFERENCE_SERVICES, "default", "llm")
        await cluster.settle()

        for resource in (DEPLOYMENTS, SERVICES, PODS, ENDPOINT_SLICES):
            assert await cluster.api.list(resource, "default") == []


async def test_a_deleted_deployment_comes_back(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.api.delete(DEPLOYMENTS, "default", "llm-predictor")
        await cluster.settle()

        assert await cluster.replicas() == 1


async def test_stop_takes_the_service_away_and_gives_it_back_with_one_replica(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.scale(4)
        await cluster.annotate(names.STOP, "TRUE")
        stopped = await cluster.replicas()
        pods = await cluster.api.list(PODS, "default")
        services = await cluster.api.list(SERVICES, "default")
        await cluster.annotate(names.STOP, None)
        back = await cluster.replicas()

    assert (stopped, pods, services, back) == (None, [], [], 1)
