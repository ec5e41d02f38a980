"""InferenceServices, ScaledServices and Events in the API: written once, kept in line, written again when deleted."""

import logging

import pytest

from autoscaler.kube.publish import EVENTS_MAX
from simulations.cluster.api import (
    CRDS,
    DEPLOYMENTS,
    INFERENCE_SERVICES,
    NAMESPACES,
    SCALED_SERVICES,
    SCALING_POLICIES,
    Object,
)
from simulations.cluster.enrolled import vllm_deployment

OWN = {"warmtide.dev/policy": "gold", "serving.kserve.io/autoscalerClass": "external"}


async def install_kserve(town) -> None:
    """The one CRD that we read, without its 20,000 lines of schema."""
    names = {"plural": "inferenceservices", "singular": "inferenceservice", "kind": "InferenceService"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "serving.kserve.io", "scope": "Namespaced", "names": names, "versions": [version]}
    metadata = {"name": "inferenceservices.serving.kserve.io"}
    await town.api.create(CRDS, {"apiVersion": CRDS.api_version, "kind": CRDS.kind, "metadata": metadata, "spec": spec})


async def serve(town, name: str = "chat", replicas: int = 1) -> None:
    """An annotated InferenceService, and its Deployment as KServe makes it: born with one replica."""
    body = {
        "apiVersion": INFERENCE_SERVICES.api_version,
        "kind": INFERENCE_SERVICES.kind,
        "metadata": {"name": name, "namespace": "default", "annotations": OWN},
        "spec": {"predictor": {"minReplicas": 3, "maxReplicas": 5}},
    }
    created = await town.api.create(INFERENCE_SERVICES, body)
    deployment: Object = vllm_deployment(f"{name}-predictor", replicas, annotations=OWN)
    owner = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": name, "controller": True}
    deployment["metadata"] |= {
        "labels": {"serving.kserve.io/inferenceservice": name, "component": "predictor"},
        "ownerReferences": [owner | {"uid": created["metadata"]["uid"]}],
    }
    await town.api.create(DEPLOYMENTS, deployment)


async def test_an_annotated_inference_service_is_scaled_within_its_own_bounds(town) -> None:
    async with town.cluster():
        await install_kserve(town)
        await town.policy(replicas={"min": None, "max": None})
        async with town.controller():
            await serve(town)
            await town.after(20)
            assert await town.replicas("chat-predictor") == 3

            town.engines.requests = lambda _now_s: 80.0
            await town.after(120)

            assert await town.replicas("chat-predictor") == 5
            scaled = (await town.scaled_services())[0]
            assert scaled["spec"]["targetRef"]["kind"] == "InferenceService"
            assert scaled["metadata"]["ownerReferences"][0]["name"] == "chat"
            assert (await town.status("chat"))["target"] == "Deployment default/chat-predictor"


async def test_an_inference_service_that_is_installed_later_is_found(town) -> None:
    async with town.cluster(), town.controller():
        await town.after(10)
        await install_kserve(town)
        await town.policy(replicas={"min": None, "max": None})
        await serve(town)
        await town.after(120)

        assert await town.replicas("chat-predictor") == 3


async def test_a_change_of_its_bounds_is_followed(town) -> None:
    async with town.cluster():
        await install_kserve(town)
        await town.policy(replicas={"min": None, "max": None})
        async with town.controller():
            await serve(town)
            await town.after(20)
            predictor = {"spec": {"predictor": {"minReplicas": 4}}}
            await town.api.patch(INFERENCE_SERVICES, "default", "chat", predictor)
            await town.after(10)

            assert await town.replicas("chat-predictor") == 4


async def test_a_kserve_that_fights_is_refused_by_version(town) -> None:
    async with town.cluster():
        await install_kserve(town)
        controller = vllm_deployment("kserve-controller-manager", 0, annotations={})
        controller["spec"]["template"]["spec"]["containers"][0]["image"] = "kserve/kserve-controller:v0.15.0"
        await town.api.create(DEPLOYMENTS, controller)
        async with town.controller():
            await serve(town)
            await town.after(20)

            condition = await town.condition("NotContested", "chat")
            assert condition["reason"] == "UnsupportedKServe"
            assert "0.15.1" in condition["message"]


async def test_a_scaled_service_that_was_deleted_is_written_again(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=6)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(20)
        await town.api.delete(SCALED_SERVICES, "default", "llm")
        await town.after(90)

        assert (await town.status())["replicas"]["current"] == 6


async def test_another_policy_in_the_annotation_reaches_the_scaled_service(town) -> None:
    async with town.cluster(), town.controller():
        await town.policy("silver", replicas={"min": 4, "max": 8})
        await town.deploy(replicas=2)
        await town.after(20)
        await town.annotate("llm", "silver")
        await town.after(20)

        assert await town.replicas() == 4
        assert (await town.scaled_services())[0]["spec"]["policyRef"]["name"] == "silver"
        assert (await town.status())["policy"] == "default/silver"


async def test_a_users_own_scaled_service_enrols_and_stays_when_let_go(town) -> None:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm"}
    body = {
        "apiVersion": SCALED_SERVICES.api_version,
        "kind": SCALED_SERVICES.kind,
        "metadata": {"name": "mine", "namespace": "default"},
        "spec": {"targetRef": ref, "policyRef": {"name": "gold"}},
    }
    async with town.cluster(), town.controller():
        await town.policy(replicas={"min": 3, "max": 8})
        await town.deploy(replicas=1, annotations={})
        await town.after(10)
        assert await town.replicas() == 1

        await town.api.create(SCALED_SERVICES, body)
        await town.after(10)
        assert await town.replicas() == 3
        assert (await town.condition("Enrolled", "mine"))["status"] == "True"

        await town.api.delete(DEPLOYMENTS, "default", "llm")
        await town.after(40)
        assert (await town.condition("Enrolled", "mine"))["reason"] == "DeploymentMissing"


async def test_a_flapping_service_sends_no_flood_of_events(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        await town.after(10)
        for turn in range(20):
            await town.annotate("llm", "gold" if turn % 2 else "Not A Name")
            await town.after(20)

        assert len(await town.events()) <= EVENTS_MAX


async def test_a_steady_service_is_written_about_once_a_minute(town) -> None:
    async with town.cluster(), town.controller() as client:
        await town.deploy(replicas=6)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(120)
        client.requests.clear()
        await town.after(600)

        writes = [path for verb, path in client.requests if verb == "patch" and path.endswith("/status")]
        assert 8 <= len(writes) <= 12


async def test_a_bug_in_one_service_stops_no_other(town, caplog: pytest.LogCaptureFixture) -> None:
    def broken(verb: str, path: str) -> None:
        if verb == "patch" and path.endswith("/sick/scale"):
            raise ZeroDivisionError("a bug")

    async with town.cluster(), town.controller() as client:
        client.refuse = broken
        await town.deploy(replicas=1, name="sick")
        await town.deploy(replicas=1, name="well")
        await town.policy(replicas={"min": 3, "max": 8})
        with caplog.at_level(logging.ERROR):
            await town.after(30)

        assert await town.replicas("well") == 3
        assert await town.replicas("sick") == 1
        assert any("default/sick: pass failed" in record.getMessage() for record in caplog.records)


async def test_a_controller_of_one_namespace_leaves_the_others_alone(town) -> None:
    async with town.cluster(), town.controller(namespace="default"):
        await town.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
        elsewhere = vllm_deployment("llm", 1, annotations=OWN)
        elsewhere["metadata"]["namespace"] = "other"
        await town.api.create(DEPLOYMENTS, elsewhere)
        await town.policy(replicas={"min": 3, "max": 8})
        await town.deploy(replicas=1)
        await town.after(20)

        assert await town.replicas() == 3
        assert (await town.api.get(DEPLOYMENTS, "other", "llm"))["spec"]["replicas"] == 1


async def test_a_service_whose_namespace_goes_is_let_go_in_silence(town, caplog: pytest.LogCaptureFixture) -> None:
    """Something holds the namespace, and the watch has not yet told that the Deployment went."""
    caplog.set_level(logging.INFO)
    async with town.cluster():
        await town.api.create(NAMESPACES, {"metadata": {"name": "going"}})
        held = {"name": "held", "namespace": "going", "finalizers": ["example.org/hold"]}
        await town.api.create(SCALING_POLICIES, {"metadata": held, "spec": {}})
        deployment = vllm_deployment("llm", 2)
        deployment["metadata"]["namespace"] = "going"
        await town.api.create(DEPLOYMENTS, deployment)
        async with town.controller() as client:
            await town.after(60)
            client.hides = lambda path: "/deployments" in path
            await town.api.delete(NAMESPACES, "", "going")
            caplog.clear()
            requests = len(client.requests)
            await town.after(120)

            creates = [path for verb, path in client.requests[requests:] if verb == "create" and "/going/" in path]

    said = [record for record in caplog.records if "going" in record.getMessage()]
    assert [(record.levelname, record.getMessage()) for record in said] == [
        ("INFO", "namespace going is being terminated: nothing is written there any more")
    ]
    assert creates
