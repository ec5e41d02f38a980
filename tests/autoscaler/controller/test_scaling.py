"""The controller scales services on what their servers say, and says why."""


async def test_a_ramp_is_followed_up_and_explained(town) -> None:
    async with town.cluster(), town.controller():
        await town.deploy(replicas=2)
        await town.after(30)
        assert await town.replicas() == 2

        town.engines.requests = lambda _now_s: 40.0
        await town.after(120)

        status = await town.status()
        assert await town.replicas() >= 5
        assert status["replicas"]["desired"] == await town.replicas()
        assert status["decision"]["steps"]
        assert status["recentChanges"][-1]["before"] == 2
        assert (await town.condition("ScalingActive"))["status"] == "True"


async def test_statuses_that_take_long_to_write_hold_up_no_decision(town) -> None:
    """Many services change at once, and each status takes longer than the next change."""
    names = [f"llm-{i:02d}" for i in range(20)]
    async with town.cluster(), town.controller() as client:
        for name in names:
            await town.deploy(replicas=1, name=name)
        await town.after(30)
        client.takes_s = lambda _verb, path: 9.0 if path.endswith("/status") else 0.0
        for replicas in (2, 3, 4):
            await town.policy(replicas={"min": replicas, "max": 8})
            await town.after(2.0)

            assert [await town.replicas(name) for name in names] == [replicas] * len(names)

        await town.after(40.0)
        assert [(await town.status(name))["replicas"]["desired"] for name in names] == [4] * len(names)


async def test_replicas_that_come_are_no_reason_to_warn(town) -> None:
    """A pod that became ready a moment ago was not heard yet: nobody has to look."""
    async with town.cluster(), town.controller():
        await town.deploy(replicas=1)
        town.engines.requests = lambda _now_s: 40.0
        await town.after(120)

        assert await town.replicas() >= 5
        assert not {"PartlyBlind", "NoFreshData", "Fresh"} & {reason for reason, _ in await town.events()}
