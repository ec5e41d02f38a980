"""The API in memory behaves as the real one where the controller relies on it."""

import pytest

from autoscaler.cluster import Cluster
from autoscaler.errors import Conflict, NotFound
from autoscaler.kube.memory import MemoryApi, merged
from autoscaler.kube.resources import DEPLOYMENTS, SCALED_SERVICES
from autoscaler.kube.views import deployment_view


@pytest.fixture
def cluster() -> Cluster:
    it = Cluster(wake=lambda _key: None, table_changed=lambda: None)
    metadata = {"name": "llm", "namespace": "default", "resourceVersion": "5"}
    it.deployment_changed("default/llm", None, deployment_view({"metadata": metadata, "spec": {"replicas": 2}}))
    return it


async def test_a_scale_expects_the_version_seen_and_comes_back_by_the_watch(cluster: Cluster) -> None:
    scaled: list[tuple[str, int]] = []
    api = MemoryApi(cluster, lambda key, replicas: scaled.append((key, replicas)))
    path = DEPLOYMENTS.path("default", "llm", "scale")

    answer = await api.patch(path, {"metadata": {"resourceVersion": "5"}, "spec": {"replicas": 4}})

    assert scaled == [("default/llm", 4)]
    assert cluster.deployments["default/llm"].replicas == 4
    assert cluster.deployments["default/llm"].meta.version == answer["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await api.patch(path, {"metadata": {"resourceVersion": "5"}, "spec": {"replicas": 9}})


async def test_a_scaled_service_is_kept_patched_and_deleted(cluster: Cluster) -> None:
    api = MemoryApi(cluster)
    path = SCALED_SERVICES.path("default", "llm")
    with pytest.raises(NotFound):
        await api.get(path)

    await api.create(SCALED_SERVICES.path("default"), {"metadata": {"name": "llm", "namespace": "default"}, "spec": {}})
    await api.patch(f"{path}/status", {"status": {"mode": "direct"}})

    assert (await api.get(path))["status"] == {"mode": "direct"}
    assert cluster.scaled_services["default/llm"].status == {"mode": "direct"}
    await api.delete(path)
    with pytest.raises(NotFound):
        await api.get(path)


def test_merge_patch_is_that_of_rfc_7386() -> None:
    document = {"a": "b", "c": {"d": "e", "f": "g"}}

    assert merged(document, {"a": "z", "c": {"f": None}}) == {"a": "z", "c": {"d": "e"}}
    assert merged(document, {"c": ["list"]}) == {"a": "b", "c": ["list"]}
    assert merged({"a": []}, {"a": {"b": 1}}) == {"a": {"b": 1}}
