"""Bad annotations and policies are told to whoever wrote them; the last good policy stays in force."""

from typing import Any

import pytest

BAD_SPECS = [
    pytest.param({"replicas": {"min": 9, "max": 4}}, "spec.replicas.min", "9", id="min above max"),
    pytest.param({"replicas": {"min": -1}}, "spec.replicas.min", "-1", id="negative"),
    pytest.param({"replicas": {"min": "two"}}, "spec.replicas.min", "two", id="text where a number is due"),
    pytest.param({"targets": {"queueLenght": 2}}, "spec.targets.queueLenght", "", id="unknown field"),
    pytest.param({"mode": "x" * 1_000_000}, "spec.mode", "xxxxxxxx", id="a value of 1 MB"),
]


async def bad_policy(town, spec: dict[str, Any]) -> None:
    """As an API server without our schema would take it: the CRD refuses most of this already."""
    await town.loosen("scalingpolicies.warmtide.dev")
    await town.policy(**spec)


@pytest.mark.parametrize(("spec", "field", "value"), BAD_SPECS)
async def test_a_bad_policy_is_named_and_the_last_good_one_stays_in_force(
    town, spec: dict[str, Any], field: str, value: str
) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        await town.after(20)
        await bad_policy(town, spec)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(60)

        condition = await town.condition("PolicyValid")
        assert condition["status"] == "False"
        for part in ("ScalingPolicy default/gold", field, value):
            assert part in condition["message"]
        assert ("InvalidPolicy", condition["message"]) in await town.events()
        assert len(condition["message"]) < 400
        assert await town.replicas() > 2  # the last good one still scales


async def test_a_policy_that_is_bad_from_the_start_scales_nothing(town) -> None:
    async with town.cluster():
        await bad_policy(town, {"replicas": {"min": 9, "max": 4}})
        async with town.controller():
            await town.deploy(replicas=2)
            town.engines.requests = lambda _now_s: 40.0
            await town.after(60)

            assert await town.replicas() == 2
            assert (await town.condition("PolicyValid"))["reason"] == "InvalidPolicy"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("Gold Standard", "Gold Standard", id="no name"),
        pytest.param("g" * 100_000, "gggg", id="far too long"),
    ],
)
async def test_a_bad_annotation_is_named_and_the_last_good_policy_stays_in_force(town, value: str, shown: str) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        await town.after(20)
        await town.annotate("llm", value)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(60)

        condition = await town.condition("PolicyValid")
        assert condition["reason"] == "InvalidAnnotation"
        for part in ("Deployment default/llm", "metadata.annotations[warmtide.dev/policy]", shown):
            assert part in condition["message"]
        assert ("InvalidAnnotation", condition["message"]) in await town.events()
        assert await town.replicas() > 2


async def test_an_annotation_that_is_bad_from_the_start_is_visible_too(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2, annotations={"warmtide.dev/policy": "Not A Name"})
        await town.after(20)

        assert (await town.condition("PolicyValid"))["reason"] == "InvalidAnnotation"
        assert [reason for reason, _ in await town.events()] == ["InvalidAnnotation"]
        assert await town.replicas() == 2


async def test_a_policy_that_does_not_exist_is_named_with_where_it_was_looked_for(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2, annotations={"warmtide.dev/policy": "silver"})
        await town.after(20)

        condition = await town.condition("PolicyValid")
        assert condition["reason"] == "PolicyNotFound"
        assert "ScalingPolicy silver in namespace default" in condition["message"]

        await town.policy("silver")
        await town.after(40)
        assert (await town.condition("PolicyValid"))["status"] == "True"


async def test_a_corrected_policy_is_in_force_at_once(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        await town.after(20)
        await town.policy(replicas={"min": 4, "max": 16})
        await town.after(3)

        assert await town.replicas() == 4


async def test_a_service_without_the_annotation_is_let_go(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=3)
        await town.after(20)
        await town.annotate("llm", None)
        await town.after(10)

        assert await town.replicas() == 3
        assert await town.scaled_services() == []


@pytest.mark.parametrize("mode", ["observe", "advise"])
async def test_modes_that_do_not_scale_write_no_scale(town, mode: str) -> None:
    async with town.cluster():
        await town.policy(mode=mode)
        async with town.controller() as client:
            await town.deploy(replicas=2)
            town.engines.requests = lambda _now_s: 40.0
            await town.after(90)

            assert await town.replicas() == 2
            assert not [path for verb, path in client.requests if verb == "patch" and path.endswith("/scale")]
            status = await town.status()
            assert status["mode"] == mode
            assert status["replicas"]["desired"] > 2
