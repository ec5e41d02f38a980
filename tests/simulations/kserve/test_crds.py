"""The stand-in's own CRDs: what clients tell versions by, and what the API server makes of them."""

import pytest

from simulations.cluster.api import CRDS, DEPLOYMENTS, INFERENCE_SERVICES, SCALED_OBJECTS, ApiError, Object
from simulations.cluster.kserve import KServe, inference_service_crd, rules_for, scaled_object_crd
from simulations.cluster.workloads.settle import running


def spec_fields(crd: Object) -> set[str]:
    (version,) = crd["spec"]["versions"]
    return set(version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


@pytest.mark.parametrize(("version", "expected"), [("0.18.1", False), ("0.20.0", True)])
def test_canary_is_there_from_0_20_on(version: str, expected: bool) -> None:
    assert ("canary" in spec_fields(inference_service_crd(rules_for(version)))) is expected


async def test_unknown_predictor_fields_are_kept_and_bounds_are_typed(cluster, service_of) -> None:
    await cluster.kserve.install()
    kept = await cluster.api.create(INFERENCE_SERVICES, service_of(runtimeClassName="nvidia", tolerations=[{"a": "b"}]))

    assert kept["spec"]["predictor"]["runtimeClassName"] == "nvidia"
    with pytest.raises(ApiError, match="minReplicas") as refusal:
        await cluster.api.patch(INFERENCE_SERVICES, "default", "llm", {"spec": {"predictor": {"minReplicas": "two"}}})
    assert refusal.value.code == 422


async def test_status_is_a_subresource(cluster, service_of) -> None:
    await cluster.kserve.install()
    made = await cluster.api.create(INFERENCE_SERVICES, {**service_of(), "status": {"url": "x"}})

    assert "status" not in made


async def test_a_scaled_object_needs_a_target_and_triggers(cluster) -> None:
    await cluster.api.create(CRDS, scaled_object_crd())
    reference = {"name": "llm-predictor"}
    made = await cluster.api.create(
        SCALED_OBJECTS, {"metadata": {"name": "s"}, "spec": {"scaleTargetRef": reference, "triggers": []}}
    )

    assert made["spec"]["scaleTargetRef"] == reference
    with pytest.raises(ApiError, match="triggers"):
        await cluster.api.create(SCALED_OBJECTS, {"metadata": {"name": "t"}, "spec": {"scaleTargetRef": reference}})


async def test_installing_twice_and_over_a_foreign_crd_is_fine(cluster) -> None:
    other = inference_service_crd(rules_for("0.18.1"))
    await cluster.api.create(CRDS, other)
    await cluster.kserve.install()
    await cluster.kserve.install()

    (crd,) = await cluster.api.list(CRDS)
    assert "canary" not in spec_fields(crd)


async def test_the_controller_managers_image_names_the_version_and_runs_no_pod(cluster_of) -> None:
    cluster = cluster_of("0.15.0")
    async with cluster.run():
        await cluster.settle()
        found = await cluster.api.get(DEPLOYMENTS, "kserve", "kserve-controller-manager")

    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "kserve/kserve-controller:v0.15.0"
    assert found["spec"]["replicas"] == 0


async def test_services_that_were_there_before_the_controller_are_taken_up(cluster, service_of) -> None:
    await cluster.kserve.install()
    await cluster.api.create(INFERENCE_SERVICES, service_of())
    async with running(cluster.workloads, KServe(cluster.api, "0.20.0", cluster.clock)):
        await cluster.settle()

        assert await cluster.replicas() == 1
