"""The stand-in does, step by step, what the real controllers of eight versions were seen to do."""

import csv
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from simulations.cluster.api import DEPLOYMENTS, INFERENCE_SERVICES
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


@pytest.mark.parametrize("version", OBSERVED)
async def test_every_recorded_step_is_reproduced(cluster_of, version: str) -> None:
    if not RECORD.exists():
        pytest.skip("the observations of the real controllers (../shared/kserve) are not here")
    steps = recorded(version)
    cluster = cluster_of(version)
    seen = []

    async with cluster.run():
        await cluster.settle()
        for action, _ in steps:
            await ACTIONS[action](cluster)
            seen.append((action, await observed(cluster)))
            if action == "scale to 0":
                await cluster.scale(2)

    assert seen == steps
    assert len(steps) == 16
    assert {INFERENCE_SERVICES.kind} == {(await cluster.service())["kind"]}
