"""Who else scales the same Deployment, on a real control plane: named, left alone, and taken over from when it goes."""

import asyncio
from typing import Any

import pytest

from simulations.cluster.api import DEPLOYMENTS, HPAS, SCALED_OBJECTS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]


def hpa(namespace: str, target: str) -> dict[str, Any]:
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    spec = {"scaleTargetRef": ref, "minReplicas": 1, "maxReplicas": 2, "metrics": [metric]}
    return {"metadata": {"name": "rival", "namespace": namespace}, "spec": spec}


def scaled_object(namespace: str, target: str) -> dict[str, Any]:
    trigger = {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *"}}
    spec = {"scaleTargetRef": {"name": target}, "minReplicaCount": 1, "triggers": [trigger]}
    return {"metadata": {"name": "rival", "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "rival", "reason"),
    [
        pytest.param(HPAS, hpa, "HPAConflict", id="HPA"),
        pytest.param(SCALED_OBJECTS, scaled_object, "ScaledObjectConflict", id="ScaledObject"),
    ],
)
async def test_a_rival_is_named_and_left_alone_until_it_goes(town, kind, rival, reason: str) -> None:
    async with town.controller() as controller:
        await town.enrol()
        town.crowd.wanted = 2
        await town.until_size(1)
        await town.api.create(kind, rival(town.space, town.deployment))

        async def is_named() -> bool:
            return bool((await town.condition("NotContested"))["reason"] == reason)

        await town.until(is_named)
        town.crowd.wanted = 9
        await town.keeps(6)
        while_contested = list(town.seen)
        condition = await town.condition("NotContested")
        events = await town.events()
        refusals = await controller.metric("warmtide_refusals_total", reason=reason)

        await town.api.delete(kind, town.space, "rival")
        await town.until_size(3)

        async def is_taken_back() -> bool:
            return bool((await town.condition("NotContested"))["status"] == "True")

        await town.until(is_taken_back, within_s=10)  # the status follows within seconds

        assert while_contested == [1]
        assert condition["status"] == "False"
        assert f"{kind.kind} {town.space}/rival" in condition["message"]
        assert f"{town.space}/{town.deployment}" in condition["message"]
        assert events[reason] == condition["message"]
        assert refusals == 1


async def test_an_owner_that_sets_the_number_back_is_left_alone_with_it_and_named(town) -> None:
    """A GitOps tool, say: three reverts are a fight."""

    async def revert() -> None:
        while True:
            if await town.replicas() > 1:
                await town.api.patch(DEPLOYMENTS, town.space, town.deployment, {"spec": {"replicas": 1}})
            await town.clock.sleep(0.5)

    async with town.controller() as controller:
        await town.enrol()
        town.crowd.wanted = 9
        async with asyncio.TaskGroup() as group:
            owner = group.create_task(revert())

            async def is_named() -> bool:
                return bool((await town.condition("NotContested"))["reason"] == "Contested")

            await town.until(is_named, within_s=60)
            written = town.seen[:]
            await town.keeps(8)
            owner.cancel()

        message = (await town.condition("NotContested"))["message"]
        assert town.seen in (written, [*written, 1])  # we keep off
        assert "set back to 1 again and again by" in message
        assert "managedFields do not name" not in message
        assert (await town.events())["Contested"] == message
        assert await controller.metric("warmtide_refusals_total", reason="Contested") == 1
