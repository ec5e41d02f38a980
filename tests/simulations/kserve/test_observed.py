"""The stand-in does, step by step, what the real controllers of eight versions were seen to do."""

import asyncio
import csv
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from simulations.cluster.api import DEPLOYMENTS, INFERENCE_SERVICES, PODS, Resource
from simulations.cluster.http_api import HttpApi
from simulations.cluster.kserve import names
from simulations.cluster.kserve.rules import OBSERVED

RECORD = Path(__file__).parents[3] / ".." / "shared" / "kserve" / "observed_replicas.csv"
Seen = tuple[str, str, str, str]  # replicas, replica sets, HPA, ready


def recorded(version: str) -> list[tuple[str, Seen]]:
    with RECORD.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kserve_version"] == version]
    columns = ("deployment_spec_replicas", "replica_sets_so_far", "kserve_hpa_exists", "isvc_ready")
    return [(row["action"], tuple(row[name] for name in columns)) for row in rows]


async def observed(cluster) -> Seen:
    replicas = await cluster.replicas()
    return (
        "" if replicas is None else str(replicas),
        str(await cluster.replica_sets()),
        "yes" if await cluster.has_hpa() else "no",
        str(await cluster.is_ready()),
    )


async def change_image(cluster) -> None:
    isvc = await cluster.service()
    containers = isvc["spec"]["predictor"]["containers"]
    containers[0]["image"] += "-next"
    await cluster.patch({"spec": {"predictor": {"containers": containers}}})


async def annotate_deployment(cluster) -> None:
    foreign = {"annotations": {"example.org/foreign": "1"}, "labels": {"example.org/foreign": "1"}}
    await cluster.api.patch(DEPLOYMENTS, "default", "llm-predictor", {"metadata": foreign})
    await cluster.settle()
    await cluster.annotate("example.org/tick", "1")


async def scale_and_touch(cluster) -> None:
    await cluster.scale(5)
    await cluster.annotate("example.org/tick", "2")


ACTIONS: dict[str, Callable[..., Awaitable[object]]] = {
    "created, class external, min 2 max 6": lambda cluster: cluster.create(),
    "scale to 4": lambda cluster: cluster.scale(4),
    "maxReplicas 8": lambda cluster: cluster.patch({"spec": {"predictor": {"maxReplicas": 8}}}),
    "minReplicas 3": lambda cluster: cluster.patch({"spec": {"predictor": {"minReplicas": 3}}}),
    "label added to the service": lambda cluster: cluster.patch({"metadata": {"labels": {"team": "a"}}}),
    "annotation added to the service": lambda cluster: cluster.annotate("example.org/note", "1"),
    "image changed": change_image,
    "deployment annotated, then template changed": annotate_deployment,
    "scale to 0": lambda cluster: cluster.scale(0),
    "class none (min 3)": lambda cluster: cluster.set_class("none"),
    "scale to 5 under none": lambda cluster: cluster.scale(5),
    "class hpa": lambda cluster: cluster.set_class("hpa"),
    "scale to 5 under hpa, template changed": scale_and_touch,
    "class external again": lambda cluster: cluster.set_class("external"),
    "stop=true": lambda cluster: cluster.annotate(names.STOP, "true"),
    "stop removed": lambda cluster: cluster.annotate(names.STOP, None),
}


async def replay(
    cluster, steps: list[tuple[str, Seen]], look: Callable[..., Awaitable[Seen]]
) -> list[tuple[str, Seen]]:
    """Do every recorded action and look after each."""
    seen = []
    for action, expected in steps:
        await ACTIONS[action](cluster)
        seen.append((action, await look(cluster, expected)))
        if action == "scale to 0":
            await cluster.scale(2)
    return seen


async def look_at_once(cluster, expected: Seen) -> Seen:
    """In virtual time everything has settled."""
    del expected
    return await observed(cluster)


async def look_for_a_while(cluster, expected: Seen) -> Seen:
    """Real controllers take their time: wait for what is expected, then see whether it stays."""
    calm_looks = 0
    for _ in range(400):
        calm_looks = calm_looks + 1 if await observed(cluster) == expected else 0
        if calm_looks == 10:
            break
        await asyncio.sleep(0.1)
    return await observed(cluster)


needs_record = pytest.mark.skipif(
    not RECORD.exists(), reason="the observations of the real controllers (../shared/kserve) are not here"
)


@needs_record
@pytest.mark.parametrize("version", OBSERVED)
async def test_every_recorded_step_is_reproduced(cluster_of, version: str) -> None:
    steps = recorded(version)
    cluster = cluster_of(version)
    async with cluster.run():
        await cluster.settle()
        seen = await replay(cluster, steps, look_at_once)

    assert seen == steps
    assert len(steps) == 16


@needs_record
@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", OBSERVED)
async def test_the_same_with_the_real_workload_controllers(cluster_of, version: str) -> None:
    """python tests/controlplane/plane.py --controllers -- .venv/bin/python -m pytest tests/simulations/kserve"""
    if "KUBECONFIG" not in os.environ:
        pytest.skip("no real cluster: KUBECONFIG is not set")
    steps = recorded(version)
    async with HttpApi.from_kubeconfig(Path(os.environ["KUBECONFIG"])) as api:
        if not await has_controllers(api):
            pytest.skip("no controller manager runs on the cluster of KUBECONFIG")
        cluster = cluster_of(version, real_api=api)
        async with cluster.run():
            seen = await replay(cluster, steps, look_for_a_while)
            await clean_up(api)
    await asyncio.sleep(
        0.5
    )  # aiohttp closes TLS connections a moment after their session, and pytest looks for open ones

    assert seen == steps


async def has_controllers(api: HttpApi) -> bool:
    """A controller manager publishes its root certificate in every namespace within moments."""
    for _ in range(50):
        found = await api.list(Resource("", "v1", "configmaps", "ConfigMap"), "default")
        if any(one["metadata"]["name"] == "kube-root-ca.crt" for one in found):
            return True
        await asyncio.sleep(0.1)
    return False


async def clean_up(api: HttpApi) -> None:
    """Leave nothing for the next version; the real garbage collector learns of a new CRD within half a minute."""
    await api.delete(INFERENCE_SERVICES, "default", "llm")
    for _ in range(900):
        if not await api.list(PODS, "default") and not await api.list(DEPLOYMENTS, "default"):
            return
        await asyncio.sleep(0.1)
    pytest.fail("pods of the last version are still there")
