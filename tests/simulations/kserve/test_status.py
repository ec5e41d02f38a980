"""The status of an InferenceService tells what the real one tells, with its quirks."""

from typing import Any

import pytest

from simulations.cluster.api import INFERENCE_SERVICES, ApiError, Object
from simulations.cluster.kserve import names
from simulations.cluster.workloads import FixedStartup


def conditions(isvc: Object) -> dict[str, str]:
    return {one["type"]: one["status"] for one in isvc["status"]["conditions"]}


async def test_a_running_service_is_ready_and_counts_its_copies(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.scale(3)
        isvc = await cluster.service()
        deployment = await cluster.deployment()

    assert conditions(isvc) == {"IngressReady": "True", "PredictorReady": "True", "Ready": "True", "Stopped": "False"}
    status = isvc["status"]
    assert status["deploymentMode"] == "Standard"
    assert status["url"] == "http://llm-default.example.com"
    assert status["address"]["url"] == "http://llm-predictor.default.svc.cluster.local"
    assert status["components"]["predictor"]["url"] == "http://llm-predictor-default.example.com"
    assert status["modelStatus"] == {
        "copies": {"totalCopies": 3, "failedCopies": 0},
        "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
        "transitionStatus": "UpToDate",
    }
    assert status["observedGeneration"] == deployment["metadata"]["generation"]


async def test_observed_generation_is_the_deployments_and_grows_with_every_scale(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        before = await cluster.service()
        await cluster.scale(2)
        after = await cluster.service()

    assert after["status"]["observedGeneration"] == before["status"]["observedGeneration"] + 1
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def test_at_zero_replicas_the_service_stays_ready_with_its_model_pending(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.scale(0)
        isvc = await cluster.service()

    assert conditions(isvc)["Ready"] == "True"
    assert isvc["status"]["modelStatus"]["copies"]["totalCopies"] == 0
    assert isvc["status"]["modelStatus"]["transitionStatus"] == "InProgress"
    assert isvc["status"]["modelStatus"]["states"]["targetModelState"] == "Pending"


@pytest.mark.parametrize(
    ("before", "after", "stays_ready"),
    [(1, 2, False), (2, 3, False), (3, 4, True), (4, 5, True), (7, 8, True), (4, 8, False)],
)
async def test_a_scale_up_flips_ready_unless_it_is_small(
    cluster_of, before: int, after: int, stays_ready: bool
) -> None:
    cluster = cluster_of("0.20.0", FixedStartup(load_s=60.0))
    async with cluster.run():
        await cluster.create()
        await cluster.scale(before)
        await cluster.clock.sleep(61)
        steady = await cluster.is_ready()
        await cluster.scale(after)
        during = await cluster.service()
        await cluster.clock.sleep(61)
        done = await cluster.is_ready()

    assert (steady, done) == (True, True)
    assert (conditions(during)["Ready"] == "True") is stays_ready
    assert conditions(during)["IngressReady"] == "True"


async def test_a_load_longer_than_the_deadline_is_told_in_the_services_words(cluster_of) -> None:
    cluster = cluster_of("0.20.0", FixedStartup(load_s=900.0))
    async with cluster.run():
        await cluster.create()
        await cluster.clock.sleep(605)
        (late,) = [one for one in (await cluster.service())["status"]["conditions"] if one["type"] == "Ready"]
        await cluster.clock.sleep(300)
        done = await cluster.is_ready()

    assert (late["status"], late["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert done


async def test_a_stopped_service_says_so(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.annotate(names.STOP, "true")
        isvc = await cluster.service()

    expected = {"IngressReady": "False", "PredictorReady": "False", "Ready": "False", "Stopped": "True"}
    assert conditions(isvc) == expected
    assert "url" not in isvc["status"]
    assert {one.get("reason") for one in isvc["status"]["conditions"] if one["type"] == "Ready"} == {"Stopped"}


@pytest.mark.parametrize(("version", "mode"), [("0.15.2", "RawDeployment"), ("0.16.0", "Standard")])
async def test_the_mode_is_called_as_the_version_calls_it(cluster_of, version: str, mode: str) -> None:
    cluster = cluster_of(version)
    async with cluster.run():
        await cluster.create()

        assert (await cluster.service())["status"]["deploymentMode"] == mode


async def test_a_service_in_knative_mode_is_told_that_this_cluster_has_none(cluster, service_of) -> None:
    isvc = service_of()
    isvc["metadata"]["annotations"][names.MODE] = "Knative"
    async with cluster.run():
        await cluster.create(isvc)
        (ready,) = (await cluster.service())["status"]["conditions"]

        assert await cluster.deployment() is None
    assert (ready["status"], ready["reason"]) == ("False", "ServerlessModeRejected")


@pytest.mark.parametrize(("version", "is_frozen"), [("0.15.2", False), ("0.20.0", True)])
async def test_a_ready_service_may_ask_to_be_left_alone(cluster_of, version: str, is_frozen: bool) -> None:
    cluster = cluster_of(version)
    async with cluster.run():
        await cluster.create()
        await cluster.annotate(names.DISABLE_AUTO_UPDATE, "true")
        before = await cluster.replica_sets()
        await cluster.annotate("example.org/tick", "1")

        assert (await cluster.replica_sets() == before) is is_frozen


def patched(isvc: Object, **predictor: Any) -> Object:
    isvc["spec"]["predictor"] |= predictor
    return isvc


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        ({"minReplicas": -1}, "MinReplicas cannot be less than 0."),
        ({"maxReplicas": -1}, "MaxReplicas cannot be less than 0."),
        ({"minReplicas": 7}, "MinReplicas cannot be greater than MaxReplicas."),
    ],
)
async def test_the_webhook_refuses_impossible_bounds(cluster, service_of, predictor: dict, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refusal:
        cluster.kserve.admit(patched(service_of(), **predictor))

    assert refusal.value.code == 403


@pytest.mark.parametrize(
    ("version", "value", "is_admitted"),
    [
        ("0.14.1", "none", False),
        ("0.14.1", "keda", False),
        ("0.15.0", "keda", True),
        ("0.15.0", "none", False),
        ("0.15.2", "none", True),
        ("0.20.0", "kpa", False),
    ],
)
async def test_the_webhook_knows_the_classes_of_its_version(
    cluster_of, version: str, value: str, is_admitted: bool
) -> None:
    cluster = cluster_of(version)
    async with cluster.run():
        await cluster.create()

        assert await cluster.set_class(value) is is_admitted


async def test_what_the_webhook_would_have_refused_changes_nothing_when_nobody_asked_it(cluster) -> None:
    async with cluster.run():
        await cluster.create()
        await cluster.scale(4)
        annotations = {names.CLASS: "kpa", "example.org/a": "1"}
        await cluster.api.patch(INFERENCE_SERVICES, "default", "llm", {"metadata": {"annotations": annotations}})
        await cluster.settle()

        assert (await cluster.replicas(), await cluster.replica_sets()) == (4, 1)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            {
                "type": "External",
                "external": {"metric": {"backend": "prometheus", "query": ""}, "target": {"value": 1}},
            },
            "empty",
        ),
        ({"type": "External", "external": {"metric": {"backend": "prometheus"}}}, "External metric needs"),
        ({"type": "PodMetric"}, "PodMetric"),
        ({"type": "Resource", "resource": {"name": "cpu"}}, "Resource metric needs"),
        ({}, "None"),
    ],
    ids=["no query", "no target", "a type of later", "a resource without target", "nothing"],
)
async def test_the_webhook_refuses_triggers_that_are_not_whole(cluster, service_of, metric: dict, message: str) -> None:
    isvc = patched(service_of(), autoScaling={"metrics": [metric]})
    cluster.kserve.admit(isvc)
    isvc["metadata"]["annotations"][names.CLASS] = "keda"

    with pytest.raises(ApiError, match=message):
        cluster.kserve.admit(isvc)
