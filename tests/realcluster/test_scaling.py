"""Enrol, scale out, scale in: the controller as shipped on a real control plane."""

import pytest

from simulations.cluster.api import DEPLOYMENTS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]


async def test_a_service_is_enrolled_grows_with_its_load_shrinks_after_it_and_loses_no_request(town) -> None:
    async with town.controller() as controller:
        await town.enrol()
        town.crowd.wanted = 2
        await town.until_size(1)
        await town.keeps(3)
        town.crowd.wanted = 9
        await town.until_size(3)
        await town.keeps(4)
        town.crowd.wanted = 0
        await town.until_size(1, within_s=60)

        async def is_told() -> bool:
            return bool((await town.status())["replicas"]["desired"] == 1)

        await town.until(is_told, within_s=10)  # the status follows within seconds
        status = await town.status()
        deployment = await town.api.get(DEPLOYMENTS, town.space, town.deployment)
        managers = {
            entry["manager"]
            for entry in deployment["metadata"]["managedFields"]
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        }
        assert town.seen[0] == 1
        assert town.seen[-1] == 1
        assert max(town.seen) == 3
        assert town.crowd.broken == []
        assert town.crowd.served > 12
        assert managers == {"warmtide"}
        assert status["conditions"]
        assert await controller.stop() == 0
        assert await town.leader() == ""
        assert "rror" not in controller.log
