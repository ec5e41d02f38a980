"""We fight nobody: who scales the same workload is named, and when they are gone we scale again."""

from typing import Any

import pytest

from autoscaler.errors import Forbidden
from simulations.cluster.api import DEPLOYMENTS, HPAS, PODS, Object


def hpa(target: str = "llm") -> Object:
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    spec = {"scaleTargetRef": ref, "minReplicas": 2, "maxReplicas": 4, "metrics": [metric]}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "rival"},
        "spec": spec,
    }


async def test_an_hpa_on_the_same_deployment_stops_us_until_it_is_gone(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        await town.api.create(HPAS, hpa())
        town.engines.requests = lambda _now_s: 40.0
        await town.after(60)

        condition = await town.condition("NotContested")
        assert await town.replicas() == 2
        assert (condition["status"], condition["reason"]) == ("False", "HPAConflict")
        assert "HorizontalPodAutoscaler default/rival" in condition["message"]
        assert ("HPAConflict", condition["message"]) in await town.events()
        assert town.problems() == {
            f'warmtide_service_problem{{condition="{kind}",reason="HPAConflict",service="default/llm"}} 1.0'
            for kind in ("NotContested", "ScalingActive")
        }

        await town.api.delete(HPAS, "default", "rival")
        await town.after(60)
        assert await town.replicas() > 2
        assert (await town.condition("NotContested"))["status"] == "True"
        assert town.problems() == set()


async def test_in_advise_mode_the_hpa_is_the_incumbent(town) -> None:
    async with town.cluster():
        await town.policy(mode="advise")
        async with town.controller():
            await town.deploy(replicas=2)
            await town.api.create(HPAS, hpa())
            await town.api.patch(HPAS, "default", "rival", {"status": {"desiredReplicas": 3}}, "status")
            await town.after(90)

            assert (await town.status())["replicas"]["incumbent"] >= 1
            assert (await town.condition("NotContested"))["status"] == "True"


async def undo(town, replicas: int, span_s: float) -> int:
    """Somebody who sets the number back whenever it changes; how often that was needed."""
    undone = 0
    end_s = town.clock.now_s() + span_s
    while town.clock.now_s() < end_s:
        if await town.replicas() != replicas:
            undone += 1
            await town.api.patch(DEPLOYMENTS, "default", "llm", {"spec": {"replicas": replicas}})
        await town.after(1.0)
    return undone


async def test_whoever_undoes_our_writes_again_and_again_is_left_alone_with_it(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        town.engines.requests = lambda _now_s: 40.0
        undone = await undo(town, replicas=2, span_s=240.0)

        condition = await town.condition("NotContested")
        assert undone == 3
        assert condition["reason"] == "Contested"
        assert "Deployment default/llm: spec.replicas was set back to 2" in condition["message"]

        await town.after(700.0)
        assert await town.replicas() > 2  # after a while we try again


async def test_one_manual_change_is_no_fight(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(60)
        await town.api.patch(DEPLOYMENTS, "default", "llm", {"spec": {"replicas": 3}})
        await town.after(60)

        assert await town.replicas() > 3
        assert (await town.condition("NotContested"))["status"] == "True"


async def test_a_deployment_that_moved_on_is_read_again_before_it_is_scaled(town) -> None:
    """Status writes move the version all the time; a stale one must cost a read, not a pass."""
    async with town.cluster(), town.controller() as client:
        await town.deploy(replicas=2)
        await town.after(30)
        town.engines.requests = lambda _now_s: 40.0
        for turn in range(40):
            await town.api.patch(DEPLOYMENTS, "default", "llm", {"metadata": {"labels": {"turn": str(turn)}}})
            await town.after(1.0)

        assert await town.replicas() >= 5
        assert (await town.condition("ScalingActive"))["status"] == "True"
        assert client.requests


async def shrink(town) -> None:
    """A fleet larger than its load, until it is smaller by one or more."""
    await town.deploy(replicas=6)
    town.engines.requests = lambda _now_s: 4.0
    await town.after(150)


async def test_the_pod_to_go_is_marked_before_the_number_falls(town) -> None:
    async with town.cluster(), town.controller() as client:
        await shrink(town)

        writes = [
            path.rpartition("/")[2] for verb, path in client.requests if verb == "patch" and "/status" not in path
        ]
        pods = [i for i, name in enumerate(writes) if name.startswith("llm-")]
        assert await town.replicas() < 6
        assert pods
        assert writes[pods[0] + 1] == "scale"


async def test_without_permission_to_mark_pods_it_shrinks_all_the_same(town) -> None:
    async with town.cluster(), town.controller() as client:
        no = Forbidden(403, "Forbidden", "pods may not be patched")
        client.refuse = lambda verb, path: no if verb == "patch" and "/pods/" in path else None
        await shrink(town)

        tries = [path for verb, path in client.requests if verb == "patch" and "/pods/" in path]
        assert await town.replicas() < 6
        assert len(tries) == 1  # and not again for a while
        assert not [p for p in await town.api.list(PODS) if p["metadata"].get("annotations", {}).get("cost")]


@pytest.mark.parametrize("granted", [True, False])
async def test_a_scale_that_is_forbidden_is_said(town, granted: bool) -> None:
    def refuse(verb: str, path: str) -> Any:
        is_scale = verb == "patch" and path.endswith("/scale")
        return Forbidden(403, "Forbidden", "deployments/scale is forbidden") if is_scale else None

    async with town.cluster(), town.controller() as client:
        client.refuse = refuse
        await town.deploy(replicas=2)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(60)
        condition = await town.condition("ScalingActive")
        assert (condition["status"], condition["reason"]) == ("False", "ScaleRefused")
        assert "Deployment default/llm" in condition["message"]

        if granted:
            client.refuse = lambda _verb, _path: None
        await town.after(60)
        assert (await town.replicas() > 2) is granted
