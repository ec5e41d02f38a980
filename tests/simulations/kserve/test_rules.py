"""The table of versions, and the same behaviour on a running stand-in: holds without the recorded observations."""

import pytest

from simulations.cluster.api import DEPLOYMENTS
from simulations.cluster.kserve import rules_for
from simulations.cluster.kserve.errors import UnknownVersionError
from simulations.cluster.kserve.rules import OBSERVED, AutoscalerClass, Write

# version: classes, pinned classes, how it writes, falls back to 1, stop deletes, canary
TABLE = {
    "0.13.1": ("external hpa", "", Write.REPLACE, True, False, False),
    "0.14.1": ("external hpa", "", Write.MERGE, False, False, False),
    "0.15.0": ("external hpa keda", "external", Write.MERGE, True, False, False),
    "0.15.1": ("external hpa keda none", "none", Write.TWO_WAY, False, False, False),
    "0.15.2": ("external hpa keda none", "none", Write.TWO_WAY, False, False, False),
    "0.16.0": ("external hpa keda none", "none", Write.TWO_WAY, False, True, False),
    "0.17.1": ("external hpa keda none", "none", Write.TWO_WAY, False, True, False),
    "0.18.1": ("external hpa keda none", "none", Write.TWO_WAY, False, True, False),
    "0.20.0": ("external hpa keda none", "none", Write.TWO_WAY, False, True, True),
}


@pytest.mark.parametrize("version", TABLE)
def test_each_version_has_its_rules(version: str) -> None:
    rules = rules_for(version)

    classes, pinned = (" ".join(sorted(group)) for group in (rules.classes, rules.pinned))
    assert (
        classes,
        pinned,
        rules.write,
        rules.resets_replicas,
        rules.stop_deletes,
        rules.has_canary,
    ) == TABLE[version]
    assert rules.version == version


def test_every_observed_version_is_in_the_table() -> None:
    assert set(OBSERVED) <= TABLE.keys()


@pytest.mark.parametrize("version", ["0.11.2", "0.21.0", "1.0.0", "0.16.0-rc0", "latest", ""])
def test_versions_nobody_has_observed_are_refused(version: str) -> None:
    with pytest.raises(UnknownVersionError, match="KServe"):
        rules_for(version)


def test_a_leading_v_is_the_same_version() -> None:
    assert rules_for("v0.17.1") == rules_for("0.17.1")


# replicas after: birth with min 2; a scale to 4; a label; class hpa; a scale to 5 and a label
REPLICAS = {
    "0.13.1": [1, 4, 1, 2, 2],
    "0.14.1": [1, 4, 4, 4, 5],
    "0.15.0": [2, 2, 2, 2, 2],
    "0.15.2": [1, 4, 4, 4, 5],
    "0.20.0": [1, 4, 4, 4, 5],
}


@pytest.mark.parametrize("version", REPLICAS)
async def test_who_owns_the_replicas_depends_on_the_version(cluster_of, version: str) -> None:
    cluster = cluster_of(version)
    seen = []
    async with cluster.run():
        await cluster.create()
        seen.append(await cluster.replicas())
        await cluster.scale(4)
        seen.append(await cluster.replicas())
        await cluster.patch({"metadata": {"labels": {"team": "a"}}})
        seen.append(await cluster.replicas())
        await cluster.set_class("hpa")
        seen.append(await cluster.replicas())
        await cluster.scale(5)
        await cluster.patch({"metadata": {"labels": {"team": "b"}}})
        seen.append(await cluster.replicas())

    assert seen == REPLICAS[version]


@pytest.mark.parametrize(("minimum", "expected"), [(None, 1), (0, 0), (3, 3)])
async def test_class_none_pins_the_minimum(cluster, service_of, minimum: int | None, expected: int) -> None:
    isvc = service_of(minReplicas=minimum or 0)
    if minimum is None:
        del isvc["spec"]["predictor"]["minReplicas"]
    isvc["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] = AutoscalerClass.NONE.value
    async with cluster.run():
        await cluster.create(isvc)
        born = await cluster.replicas()
        await cluster.scale(5)
        scaled = await cluster.replicas()

    assert (born, scaled) == (expected, expected)


# foreign annotation on the Deployment after a change of the template: is it still there?
FOREIGN = {"0.13.1": False, "0.14.1": True, "0.15.0": True, "0.15.2": False, "0.20.0": False}


@pytest.mark.parametrize("version", FOREIGN)
async def test_foreign_annotations_on_the_deployment_go_with_the_next_template(cluster_of, version: str) -> None:
    cluster = cluster_of(version)
    foreign = {"annotations": {"example.org/a": "1"}, "labels": {"example.org/l": "1"}}
    async with cluster.run():
        await cluster.create()
        await cluster.api.patch(DEPLOYMENTS, "default", "llm-predictor", {"metadata": foreign})
        await cluster.settle()
        untouched = (await cluster.deployment())["metadata"]
        await cluster.annotate("example.org/tick", "1")
        changed = (await cluster.deployment())["metadata"]

    assert untouched["annotations"]["example.org/a"] == untouched["labels"]["example.org/l"] == "1"
    assert ("example.org/a" in changed["annotations"], "example.org/l" in changed["labels"]) == (FOREIGN[version],) * 2
    assert changed["annotations"]["deployment.kubernetes.io/revision"] == "2"
