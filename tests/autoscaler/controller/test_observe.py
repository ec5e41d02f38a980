"""What one pass sees of pods, bounds and time."""

from dataclasses import replace
from typing import Any

import pytest

from autoscaler.enrol import Subject, Target
from autoscaler.kube.views import NodeView, PodView, deployment_view, pod_view
from autoscaler.observe import STALE_PODS_S, Scene, hold_when_stale, model_label, observation, phase_of
from autoscaler.policy.spec import Mode, PolicySpec
from autoscaler.policy.types import Decision, PodPhase, Reason, Step, Tier
from autoscaler.schedule import Schedule
from autoscaler.settings import ServicePolicy
from metrics.sample import PodSignals

TARGET = Target(
    key="default/llm",
    subject=Subject(api_version="v1beta1", kind="InferenceService", namespace="default", name="llm", uid="u"),
    native_min=2,
    native_max=9,
    model_uri="hf://org/model",
)
DEPLOYMENT = deployment_view(
    {"metadata": {"name": "llm", "namespace": "default", "resourceVersion": "7"}, "spec": {"replicas": 3}}
)
NOON_S = 1_767_268_800.0  # 2026-01-01 12:00 UTC


def pod(name: str = "a", **more: Any) -> PodView:
    return replace(pod_view({"metadata": {"name": name, "uid": name}, "spec": {"nodeName": "gpu-0"}}), **more)


def scene(*pods: PodView, **more: Any) -> Scene:
    fields: dict[str, Any] = {
        "target": TARGET,
        "policy": ServicePolicy(name="default/gold", spec=PolicySpec(mode=Mode.DIRECT)),
        "deployment": DEPLOYMENT,
        "pods": pods,
        "nodes": {},
        "signals": lambda _uid: None,
    }
    return Scene(**fields | more)


def test_bounds_number_and_version_are_those_of_the_objects() -> None:
    seen = observation(scene(free_replicas=4, incumbent_replicas=5), now_s=NOON_S)

    assert (seen.service, seen.replicas, seen.version) == ("default/llm", 3, "7")
    assert (seen.native_min, seen.native_max, seen.schedulable_replicas) == (2, 9, 4)
    assert seen.incumbent_replicas is None  # whoever scales in direct mode is us


def test_in_advise_mode_the_incumbent_is_seen() -> None:
    policy = ServicePolicy(name="default/gold", spec=PolicySpec(mode=Mode.ADVISE))

    assert observation(scene(policy=policy, incumbent_replicas=5), now_s=NOON_S).incumbent_replicas == 5


def test_a_window_that_is_open_is_a_floor() -> None:
    lunch = Schedule(name="lunch", start="0 12 * * *", end="0 13 * * *", time_zone="UTC", replicas_min=6)
    policy = ServicePolicy(name="default/gold", spec=PolicySpec(), schedules=(lunch,))

    assert observation(scene(policy=policy), now_s=NOON_S).schedule_floor == 6
    assert observation(scene(policy=policy), now_s=NOON_S - 1.0).schedule_floor is None


@pytest.mark.parametrize(
    ("more", "phase"),
    [
        pytest.param({"ready_at_s": 1.0}, PodPhase.READY, id="ready"),
        pytest.param({}, PodPhase.STARTING, id="starting"),
        pytest.param({"is_unschedulable": True}, PodPhase.UNSCHEDULABLE, id="no node has room"),
        pytest.param({"is_gated": True}, PodPhase.GATED, id="waits for a quota"),
        pytest.param({"is_terminating": True, "ready_at_s": 1.0}, PodPhase.TERMINATING, id="ready, but on its way out"),
    ],
)
def test_each_pod_has_one_phase(more: dict[str, Any], phase: PodPhase) -> None:
    assert phase_of(pod(**more)) is phase


def test_pods_that_are_over_are_no_replicas() -> None:
    assert [p.name for p in observation(scene(pod("a"), pod("b", is_over=True)), now_s=NOON_S).pods] == ["a"]


def test_no_label_makes_a_claim_warm_that_is_mounted_where_it_is() -> None:
    assert model_label(replace(TARGET, model_uri="pvc://share/weights")) is None


def test_the_tier_says_what_the_start_had_to_bring() -> None:
    label = model_label(TARGET)
    assert label is not None
    warm = NodeView(
        name="gpu-0", node_class="H100", labels={label: ""}, gpus=(), is_usable=True, taint_keys=frozenset()
    )
    cold = replace(warm, labels={})
    asleep = PodSignals(observed_at_s=NOON_S, window_s=0.0, is_awake=False)

    def tier(**more: Any) -> tuple[Tier, str]:
        one = observation(scene(more.pop("pod", pod()), **more), now_s=NOON_S).pods[0]
        return one.tier, one.node_class

    assert tier(nodes={"gpu-0": warm}) == (Tier.WARM, "H100")
    assert tier(nodes={"gpu-0": cold}) == (Tier.COLD, "H100")
    assert tier() == (Tier.COLD, "")
    assert tier(nodes={"gpu-0": cold}, signals=lambda _uid: asleep)[0] is Tier.HOT
    assert tier(pod=pod(labels={"internal.serving.kserve.io/localmodel": "m"}))[0] is Tier.WARM


@pytest.mark.parametrize(
    ("replicas", "stale_for_s", "held"),
    [
        pytest.param(2, STALE_PODS_S - 0.1, 2, id="just under"),
        pytest.param(2, STALE_PODS_S, 2, id="at"),
        pytest.param(2, STALE_PODS_S + 0.1, 3, id="just over"),
        pytest.param(5, 1e6, 5, id="growing is never held"),
        pytest.param(3, 1e6, 3, id="staying needs no step"),
    ],
)
def test_stale_pods_hold_a_scale_in_and_nothing_else(replicas: int, stale_for_s: float, held: int) -> None:
    decision = Decision(
        service="default/llm",
        decided_at_s=0.0,
        current_replicas=3,
        replicas=replicas,
        reason=Reason.FOLLOWING_KV_CACHE,
        steps=(Step(replicas=replicas, reason=Reason.FOLLOWING_KV_CACHE),),
        victim="a",
    )

    after = hold_when_stale(decision, stale_for_s=stale_for_s)

    assert after.replicas == after.steps[-1].replicas == held
    assert (after.reason is Reason.NO_FRESH_DATA) is (held != replicas)
    assert (after.victim is None) is (held != replicas)


def test_pods_times_are_brought_from_the_servers_clock_to_ours() -> None:
    seen = observation(
        scene(
            pod(created_at_s=NOON_S - 660.0, ready_at_s=NOON_S - 640.0),
            pod("b", created_at_s=NOON_S - 605.0),
            server_ahead_s=-600.0,
        ),
        now_s=NOON_S,
    )

    assert [(one.created_at_s - NOON_S, one.ready_at_s) for one in seen.pods] == [(-60.0, NOON_S - 40.0), (-5.0, None)]
