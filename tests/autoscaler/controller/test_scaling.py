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
