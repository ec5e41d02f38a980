"""Who is enrolled, where its Deployment is, and what speaks against scaling it."""

from typing import Any

import pytest

from autoscaler.conflicts import Rivals, version_of
from autoscaler.enrol import Objects, Target, targets
from autoscaler.kube.views import deployment_view, hpa_view, scaled_object_view, scaled_service_view, service_view
from autoscaler.policy.spec import Mode
from autoscaler.refusal import RefusalReason

ANNOTATION = {"warmtide.dev/policy": "gold"}
EXTERNAL = {"serving.kserve.io/autoscalerClass": "external"}


def isvc(name: str = "chat", annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    status = spec.pop("status", {"deploymentMode": "Standard"})
    predictor = {"minReplicas": 2, "maxReplicas": 6} | spec.pop("predictor", {})
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "metadata": meta(name, ANNOTATION | EXTERNAL if annotations is None else annotations),
        "spec": {"predictor": predictor} | spec,
        "status": status,
    }


def meta(name: str, annotations: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"namespace": "team-a", "name": name, "uid": f"uid-{name}", "annotations": annotations} | more


def predictor(
    name: str = "chat-predictor", service: str = "chat", annotations: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """As KServe makes it: the service's annotations are copied, both labels are set, the service controls it."""
    labels = {"serving.kserve.io/inferenceservice": service, "component": more.pop("component", "predictor")}
    owner = {"apiVersion": "v1beta1", "kind": "InferenceService", "name": service, "controller": True}
    refs = [owner | {"uid": more.pop("owner_uid", f"uid-{service}")}]
    noted = ANNOTATION | EXTERNAL if annotations is None else annotations
    container = {"name": more.pop("container", "kserve-container")}
    return {
        "metadata": meta(name, noted, labels=labels, ownerReferences=refs),
        "spec": {
            "selector": {"matchLabels": {"app": f"isvc.{name}"}},
            "template": {"spec": {"containers": [container]}},
        },
    }


def plain(name: str = "solo", annotations: dict[str, str] | None = None) -> dict[str, Any]:
    noted = ANNOTATION if annotations is None else annotations
    return {"metadata": meta(name, noted), "spec": {"selector": {"matchLabels": {"app": name}}}}


def hpa(target: str, name: str = "rival") -> dict[str, Any]:
    return {
        "metadata": meta(name, {}),
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": target}},
        "status": {"desiredReplicas": 4},
    }


def scaled_object(target: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": meta("keda", annotations or {}), "spec": {"scaleTargetRef": {"name": target}}}


def scaled_service(name: str, kind: str, target: str, policy: str = "gold", **more: Any) -> dict[str, Any]:
    api_version = "apps/v1" if kind == "Deployment" else "serving.kserve.io/v1beta1"
    ref = {"apiVersion": api_version, "kind": kind, "name": target}
    return {"metadata": meta(name, {}, **more), "spec": {"targetRef": ref, "policyRef": {"name": policy}}}


def enrolled(
    *,
    services: tuple[dict[str, Any], ...] = (),
    deployments: tuple[dict[str, Any], ...] = (),
    rivals: tuple[Any, ...] = (),
    written: tuple[dict[str, Any], ...] = (),
    version: str | None = None,
) -> dict[str, Target]:
    def keyed(views: Any) -> dict[str, Any]:
        return {view.meta.key: view for view in views}

    return targets(
        Objects(
            services=keyed(service_view(one) for one in services),
            deployments=keyed(deployment_view(one) for one in deployments),
            scaled_services=keyed(scaled_service_view(one) for one in written),
            rivals=Rivals.of(rivals),
            kserve_version=version,
        )
    )


def reason_of(target: Target, mode: Mode = Mode.DIRECT) -> RefusalReason | None:
    refusal = target.refusal(mode)
    return refusal.reason if refusal else None


def test_an_annotated_service_finds_its_predictor_and_its_bounds() -> None:
    found = enrolled(services=(isvc(),), deployments=(predictor(),))

    assert set(found) == {"team-a/chat"}
    target = found["team-a/chat"]
    assert target.deployment == "team-a/chat-predictor"
    assert (target.native_min, target.native_max, target.policy) == (2, 6, "gold")
    assert reason_of(target) is None


def test_the_copy_of_an_annotation_on_a_deployment_enrols_nothing_more() -> None:
    found = enrolled(deployments=(predictor(),))

    assert found == {}


def test_an_annotated_deployment_is_enrolled_itself() -> None:
    target = enrolled(deployments=(plain(),))["team-a/solo"]

    assert (target.deployment, target.native_min) == ("team-a/solo", None)
    assert reason_of(target) is None


@pytest.mark.parametrize(
    "others",
    [
        pytest.param((predictor("chat-predictor-worker"),), id="workers of multi-node"),
        pytest.param((predictor("chat-transformer", component="transformer"),), id="a transformer"),
        pytest.param((predictor("chat-b-predictor"),), id="a canary"),
        pytest.param((predictor("alien", owner_uid="uid-of-another"),), id="another service's"),
        pytest.param((predictor("old", service="chat-2"),), id="another name's"),
        pytest.param((plain("labelled-by-hand", {}),), id="no predictor at all"),
    ],
)
def test_other_deployments_of_a_service_are_not_its_predictor(others: tuple[dict[str, Any], ...]) -> None:
    service = isvc(canary=[{"predictor": {"name": "b"}, "trafficPercent": 10}])

    target = enrolled(services=(service,), deployments=(predictor(), *others))["team-a/chat"]

    assert target.deployment == "team-a/chat-predictor"


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param("chat-predictor-default", {}, id="KServe up to 0.10"),
        pytest.param("chat-main-predictor", {"predictor": {"name": "main"}}, id="a named predictor, from 0.20"),
        pytest.param("anything-else", {}, id="a name that nobody expected"),
    ],
)
def test_a_predictor_is_found_by_its_owner_whatever_its_name(name: str, spec: dict[str, Any]) -> None:
    found = enrolled(services=(isvc(**spec),), deployments=(predictor(name),))

    assert found["team-a/chat"].deployment == f"team-a/{name}"


def test_two_predictors_of_which_neither_is_expected_are_refused_by_name() -> None:
    target = enrolled(services=(isvc(),), deployments=(predictor("a"), predictor("b")))["team-a/chat"]

    assert reason_of(target, Mode.ADVISE) is RefusalReason.AMBIGUOUS
    assert "a, b" in target.refusals[0].message


STOPPED = ANNOTATION | {"serving.kserve.io/stop": "True"}
KEDA = "autoscaling.keda.sh/"
RIVAL_CASES = [
    pytest.param(hpa_view(hpa("chat-predictor")), RefusalReason.HPA_CONFLICT, id="an HPA"),
    pytest.param(
        scaled_object_view(scaled_object("chat-predictor")), RefusalReason.SCALED_OBJECT_CONFLICT, id="a ScaledObject"
    ),
    pytest.param(
        scaled_object_view(scaled_object("chat-predictor", {f"{KEDA}paused": "true"})), None, id="a paused ScaledObject"
    ),
    pytest.param(
        scaled_object_view(scaled_object("chat-predictor", {f"{KEDA}paused-replicas": "3"})),
        RefusalReason.SCALED_OBJECT_CONFLICT,
        id="one paused at a number still writes",
    ),
    pytest.param(
        scaled_object_view(scaled_object("chat-predictor", {f"{KEDA}paused-scale-in": "true"})),
        RefusalReason.SCALED_OBJECT_CONFLICT,
        id="one paused in one direction still writes",
    ),
    pytest.param(hpa_view(hpa("another")), None, id="an HPA of something else"),
]


@pytest.mark.parametrize(("rival", "reason"), RIVAL_CASES)
def test_whoever_scales_the_same_deployment_is_named(rival: Any, reason: RefusalReason | None) -> None:
    target = enrolled(services=(isvc(),), deployments=(predictor(),), rivals=(rival,))["team-a/chat"]

    assert reason_of(target) is reason
    assert reason_of(target, Mode.ADVISE) is None
    if reason is not None:
        assert rival.meta.key in target.refusals[0].message
        assert "team-a/chat-predictor" in target.refusals[0].message


@pytest.mark.parametrize(
    ("service", "deployment", "version", "reason"),
    [
        pytest.param(isvc(annotations=STOPPED), None, None, RefusalReason.STOPPED, id="stopped"),
        pytest.param(isvc(), None, None, RefusalReason.DEPLOYMENT_MISSING, id="not created yet"),
        pytest.param(isvc(predictor={"workerSpec": {}}), predictor(), None, RefusalReason.MULTI_NODE, id="multi-node"),
        pytest.param(
            isvc(status={"deploymentMode": "Knative"}), predictor(), None, RefusalReason.KNATIVE_MODE, id="Knative"
        ),
        pytest.param(
            isvc(status={"deploymentMode": "Serverless"}), predictor(), None, RefusalReason.KNATIVE_MODE, id="old name"
        ),
        pytest.param(
            isvc(annotations=ANNOTATION | {"serving.kserve.io/deploymentMode": "ModelMesh"}, status={}),
            None,
            None,
            RefusalReason.MODEL_MESH,
            id="ModelMesh",
        ),
        pytest.param(
            isvc(), predictor(annotations=ANNOTATION), None, RefusalReason.NOT_EXTERNAL, id="class hpa by default"
        ),
        pytest.param(
            isvc(),
            predictor(annotations=ANNOTATION | {"serving.kserve.io/autoscalerClass": "none"}),
            None,
            RefusalReason.NOT_EXTERNAL,
            id="the Deployment's own class counts",
        ),
        pytest.param(isvc(), predictor(), "0.15.0", RefusalReason.UNSUPPORTED_KSERVE, id="KServe 0.15.0"),
        pytest.param(isvc(), predictor(), "0.16.0-rc0", RefusalReason.UNSUPPORTED_KSERVE, id="KServe 0.16.0-rc0"),
        pytest.param(isvc(), predictor(), "0.15.1", None, id="KServe 0.15.1"),
        pytest.param(isvc(status={"deploymentMode": "RawDeployment"}), predictor(), None, None, id="Standard before"),
        pytest.param(
            isvc(),
            predictor(annotations=ANNOTATION | EXTERNAL | {"llm-d.ai/managed": "true"}),
            None,
            RefusalReason.MANAGED_BY_LLMD,
            id="managed by llm-d",
        ),
        pytest.param(
            isvc(),
            predictor(annotations=ANNOTATION | EXTERNAL | {"llm-d.ai/managed": "false"}),
            None,
            None,
            id="not managed by llm-d",
        ),
    ],
)
def test_what_cannot_be_scaled_is_refused_with_a_reason(
    service: dict[str, Any], deployment: dict[str, Any] | None, version: str | None, reason: RefusalReason | None
) -> None:
    deployments = (deployment,) if deployment else ()

    target = enrolled(services=(service,), deployments=deployments, version=version)["team-a/chat"]

    assert reason_of(target) is reason


def test_a_users_scaled_service_enrols_without_an_annotation() -> None:
    found = enrolled(
        services=(isvc(annotations=EXTERNAL),),
        deployments=(predictor(annotations=EXTERNAL),),
        written=(scaled_service("mine", "InferenceService", "chat"),),
    )

    assert set(found) == {"team-a/mine"}
    target = found["team-a/mine"]
    assert target.is_user_written
    assert (target.deployment, target.policy, target.native_max) == ("team-a/chat-predictor", "gold", 6)


def test_our_own_scaled_services_enrol_nothing() -> None:
    ours = scaled_service("chat", "InferenceService", "chat", labels={"app.kubernetes.io/managed-by": "warmtide"})

    assert enrolled(services=(isvc(annotations=EXTERNAL),), deployments=(predictor(),), written=(ours,)) == {}


def test_annotation_and_scaled_service_that_say_the_same_are_one() -> None:
    found = enrolled(
        services=(isvc(),), deployments=(predictor(),), written=(scaled_service("mine", "InferenceService", "chat"),)
    )

    assert set(found) == {"team-a/mine"}
    assert reason_of(found["team-a/mine"]) is None


@pytest.mark.parametrize(
    "written",
    [
        pytest.param((scaled_service("mine", "InferenceService", "chat", policy="silver"),), id="another policy"),
        pytest.param((scaled_service("mine", "Deployment", "chat-predictor"),), id="its Deployment"),
    ],
)
def test_two_enrolments_of_one_deployment_are_both_refused(written: tuple[dict[str, Any], ...]) -> None:
    found = enrolled(services=(isvc(),), deployments=(predictor(),), written=written)

    assert len(found) == 2
    assert {reason_of(target, Mode.OBSERVE) for target in found.values()} == {RefusalReason.ENROLLED_TWICE}
    for target in found.values():
        assert "ScaledService team-a/mine" in target.refusals[0].message
        assert "InferenceService team-a/chat" in target.refusals[0].message


def test_kinds_that_share_a_name_get_two_keys() -> None:
    found = enrolled(services=(isvc(),), deployments=(predictor(), plain("chat")))

    assert set(found) == {"team-a/chat", "team-a/deployment-chat"}
    assert found["team-a/chat"].subject.kind == "InferenceService"


def test_a_scaled_service_that_cannot_be_read_says_what_is_wrong() -> None:
    broken = scaled_service("mine", "StatefulSet", "db")

    target = enrolled(written=(broken,))["team-a/mine"]

    assert target.problem is not None
    assert "targetRef" in str(target.problem)
    assert target.deployment is None


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("kserve/kserve-controller:v0.15.0", "0.15.0"),
        ("quay.io/x/kserve-controller:0.16.0-rc0@sha256:abc", "0.16.0-rc0"),
        ("kserve/kserve-controller:latest", None),
        ("kserve/kserve-agent:v0.15.0", None),
    ],
)
def test_kserves_version_is_its_controllers_tag(image: str, version: str | None) -> None:
    assert version_of([image]) == version
