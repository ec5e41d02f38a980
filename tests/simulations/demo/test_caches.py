"""The demo's first act: what its parts are, without the processes; the whole act runs in test_demo."""

from pathlib import Path

import pytest
import yaml

from cacheops.model import storage_key
from simulations.cluster.workloads.startup import model_of
from simulations.cluster.workloads.weights import NodeFolders
from simulations.demo import objects
from simulations.demo.caches import WarmStart, clean, make_model
from simulations.demo.setting import MODEL_BYTES, MODEL_URI
from simulations.hub import ModelHub, serve

MANIFEST = Path(__file__).parents[3] / "manifests" / "components" / "node-agent" / "rbac.yaml"


def test_the_agents_may_do_what_their_manifest_grants() -> None:
    granted = {obj["kind"]: obj for obj in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))}

    for obj in objects.agent_rbac():
        assert granted[obj["kind"]] == obj


def test_the_model_has_its_size_and_goes_again(tmp_path: Path) -> None:
    make_model(tmp_path, seed=1)

    weights = list(tmp_path.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) == MODEL_BYTES
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


def pod() -> dict:
    service = objects.cached_service()
    return {"metadata": {"name": "cached-1"}, "spec": service["spec"]["predictor"]}


def test_the_cached_services_pod_names_the_model_that_the_cache_brings() -> None:
    assert model_of(pod()) == MODEL_URI == objects.model_cache()["spec"]["source"]["uri"]


async def test_a_pod_fetches_from_the_hub_unless_its_node_has_the_tree(tmp_path: Path) -> None:
    model = tmp_path / "hub" / MODEL_URI.removeprefix("hf://")
    model.mkdir(parents=True)
    (model / "weights.safetensors").write_bytes(b"x" * 3_000_000)
    hub = ModelHub(tmp_path / "hub")
    runner, endpoint = await serve(hub)
    folders = NodeFolders(root=tmp_path / "nodes", hub=endpoint)
    try:
        await folders.bring(pod(), "gpu-1")
        assert hub.settings.sent_bytes == 3_000_000

        tree = tmp_path / "nodes" / "gpu-1" / "models" / storage_key(MODEL_URI)
        tree.mkdir(parents=True)
        (tree / ".manifest.json").write_text("{}")
        await folders.bring(pod(), "gpu-1")
        assert hub.settings.sent_bytes == 3_000_000

        await folders.bring(pod(), "gpu-2")
        assert hub.settings.sent_bytes == 6_000_000
    finally:
        await runner.cleanup()


def test_what_is_told_at_the_end() -> None:
    told = WarmStart(model_bytes=200_000_000, cold_s=9.04, prefetch_s=4.0, warm_s=1.2).text()

    assert told.startswith("model cache      200 MB of weights: a replica is ready after 9.0 s from the hub, 1.2 s")


@pytest.mark.parametrize("model", ["llama", ""])
def test_pods_without_a_hubs_model_keep_their_startup_model(tmp_path: Path, model: str) -> None:
    other = {"metadata": {}, "spec": {"containers": [{"image": "vllm", "args": [f"--model={model}"]}]}}

    assert not NodeFolders(root=tmp_path, hub="http://127.0.0.1:1").serves(other)
