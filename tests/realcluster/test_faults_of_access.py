"""Credentials that end, kinds that are deleted, namespaces that go: said, waited for, and recovered from."""

import pytest

from autoscaler.permissions import NAMESPACE
from simulations.cluster.api import CRDS, INFERENCE_SERVICES, NAMESPACES, Resource

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

REQUESTS_PER_S_MAX = 10.0
SECRETS = Resource("", "v1", "secrets", "Secret")
FINALIZER = "warmtide.dev/test"


async def test_a_revoked_token_stops_the_hands_until_a_new_one_is_there(town) -> None:
    """As a kubelet does it: the file is replaced, the process is not."""
    async with town.controller(token=await town.token(secret="short-lived")) as controller:
        await town.enrol(steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        await town.api.delete(SECRETS, NAMESPACE, "short-lived")
        await town.until(lambda: controller.metric("warmtide_api_requests_total", code="401"), within_s=45)
        town.crowd.wanted = 14
        requests_per_s = await town.rate(controller, 12.0)
        revoked = town.seen[:]
        controller.token_file.write_text(await town.token(), encoding="utf-8")
        await town.until_size(4, within_s=60)

        print(f"revoked: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert requests_per_s <= REQUESTS_PER_S_MAX
        assert revoked == [1, 2] or revoked == sorted(revoked)
        await town.check_only_grew()
        assert town.seen[-1] == 4
        assert controller.is_alive


@pytest.mark.parametrize("kind", ["scaledservices", "scalingpolicies"])
async def test_our_own_crd_deleted_and_installed_again(town, kind: str) -> None:
    async with town.controller() as controller:
        await town.enrol(steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        await town.api.delete(CRDS, "", f"{kind}.warmtide.dev")
        requests_per_s = await town.rate(controller, 3.0)
        town.crowd.wanted = 14
        requests_per_s = max(requests_per_s, await town.rate(controller, 8.0))
        await town.install()
        await town.until_size(4, within_s=60)

        async def is_told() -> bool:
            return bool((await town.status()).get("replicas", {}).get("desired") == 4)

        await town.until(is_told, within_s=60)

        print(f"{kind} deleted: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert requests_per_s <= REQUESTS_PER_S_MAX
        await town.check_only_grew()
        assert town.seen[-1] == 4
        assert controller.is_alive


async def test_a_namespace_that_is_going_is_no_trouble_for_others_nor_for_the_server(town) -> None:
    """A finalizer holds it, and its service with its pods, half deleted: nothing new may be created there."""
    async with town.controller() as controller:
        await town.enrol()
        town.crowd.wanted = 5
        await town.until_size(2)
        held = {"metadata": {"finalizers": [FINALIZER]}}
        await town.api.patch(INFERENCE_SERVICES, town.space, "llm", held)
        await town.api.delete(NAMESPACES, "", town.space)
        requests_per_s = await town.rate(controller, 12.0)
        await town.api.patch(INFERENCE_SERVICES, town.space, "llm", {"metadata": {"finalizers": None}})

        print(f"namespace going: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert requests_per_s <= REQUESTS_PER_S_MAX
        assert controller.is_alive
        assert "Traceback" not in controller.log
        assert "orbidden" not in controller.log  # nothing is missing but the namespace
        assert await controller.leads()


async def test_an_inference_service_crd_that_goes_takes_no_number_with_it(town) -> None:
    """Whoever removes KServe unenrols everything; a Deployment that still stands keeps its size."""
    async with town.controller() as controller:
        await town.enrol()
        town.crowd.wanted = 9
        await town.until_size(3)
        await town.api.delete(CRDS, "", f"{INFERENCE_SERVICES.plural}.{INFERENCE_SERVICES.group}")
        town.crowd.wanted = 0
        requests_per_s = await town.rate(controller, 10.0)
        await town.kserve.install()

        print(f"KServe removed: {requests_per_s:.1f} requests/s, replicas {town.seen}")
        assert requests_per_s <= REQUESTS_PER_S_MAX
        assert min(town.seen[1:]) > 1
        assert controller.is_alive
