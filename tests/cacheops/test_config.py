"""ModelCache and NodeModelCache: what is taken, what is refused and with which words; the files; an API server."""

import copy
from pathlib import Path
from typing import Any

import pytest

from cacheops.config import MODELS_MAX, SPEC_MAX_CHARS, parse_model_cache, parse_node_model_cache
from cacheops.crds import all_crds, as_yaml, main, model_cache, node_model_cache
from cacheops.errors import InvalidRequestError
from cacheops.model import ALLOW_DEFAULT, ModelRef, storage_key
from simulations.cluster.api import CRDS, NAMESPACES, ApiError, Resource
from simulations.cluster.apiserver import ApiServer
from simulations.cluster.apiserver.schema import Schema
from simulations.cluster.http_api import HttpApi

Object = dict[str, Any]

MANIFESTS = Path(__file__).parents[2] / "manifests"
URI = "hf://meta-llama/tiny"
MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "modelcaches", "ModelCache")
NODE_MODEL_CACHES = Resource("warmtide.dev", "v1alpha1", "nodemodelcaches", "NodeModelCache", namespaced=False)


def cache(spec: object) -> Object:
    metadata = {"namespace": "team-a", "name": "llama", "uid": "u", "generation": 3}
    return {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ModelCache", "metadata": metadata, "spec": spec}


def node(**spec: Any) -> Object:
    metadata = {"name": "node-1", "generation": 2}
    return {"apiVersion": "warmtide.dev/v1alpha1", "kind": "NodeModelCache", "metadata": metadata, "spec": spec}


def wanted(uri: str = URI, **more: Any) -> Object:
    return {"key": storage_key(uri), "uri": uri, "digest": "a" * 64, "bytes": 1000} | more


def test_a_uri_is_enough() -> None:
    task = parse_model_cache(cache({"source": {"uri": URI}}))

    assert task.ref == ModelRef(uri=URI, allow=ALLOW_DEFAULT)
    assert (task.namespace, task.name, task.uid, task.generation) == ("team-a", "llama", "u", 3)
    assert (task.copies_min, task.copies_max, task.is_pinned, task.has_volume) == (0, None, False, False)


def test_every_field_of_a_cache_arrives() -> None:
    spec = {
        "source": {"uri": URI, "revision": "v1", "allowPatterns": ["*"], "ignorePatterns": ["*.md"]},
        "places": {"selector": {"gpu": "h100"}, "min": 2, "max": 5},
        "pinned": True,
        "ttlSeconds": 3600,
        "volume": {"enabled": True, "storageClass": "local", "onlyWarmNodes": True},
    }

    task = parse_model_cache(cache(spec))

    assert task.ref == ModelRef(uri=URI, revision="v1", allow=("*",), ignore=("*.md",))
    assert (task.node_selector, task.copies_min, task.copies_max) == ({"gpu": "h100"}, 2, 5)
    assert (task.is_pinned, task.ttl_s, task.has_volume) == (True, 3600, True)
    assert (task.storage_class, task.only_warm_nodes) == ("local", True)


def test_what_a_node_should_hold_arrives_with_its_worth() -> None:
    limits = {"quotaBytes": 10_000, "highWatermark": 0.75, "lowWatermark": 0.6, "bytesPerSecond": 5, "warmBytes": 7}
    model = wanted(revision="c0ffee", need=0.25, replicas=3, refetchSeconds=9.5, pinned=True, due=True)

    task = parse_node_model_cache(node(models=[model], limits=limits))

    [wish] = task.wishes
    assert (wish.ref.uri, wish.ref.revision) == (URI, "c0ffee")
    assert (wish.tree.key, wish.tree.digest, wish.tree.size_bytes) == (storage_key(URI), "a" * 64, 1000)
    assert (wish.tree.need_ratio, wish.tree.replicas, wish.tree.refetch_s) == (0.25, 3, 9.5)
    assert (wish.tree.is_pinned, wish.tree.is_due) == (True, True)
    assert (task.quota_bytes, task.high_ratio, task.low_ratio) == (10_000, 0.75, 0.6)
    assert (task.bytes_per_s, task.warm_bytes, task.generation) == (5.0, 7, 2)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "ModelCache team-a/llama: spec.source: Field required"),
        ({"source": {"uri": "ftp://x/y"}}, 'spec.source.uri: "ftp://x/y": String should match'),
        ({"source": {"uri": URI, "rev": "x"}}, 'spec.source.rev: "x": Extra inputs are not permitted'),
        ({"source": {"uri": URI, "allowPatterns": ["*"] * 33}}, "at most 32 items"),
        ({"source": {"uri": URI}, "places": {"min": 3, "max": 2}}, "spec.places.min: 3 exceeds spec.places.max (2)"),
        ({"source": {"uri": URI}, "places": {"selector": {"-": "x"}}}, '"-" is no label key'),
        ({"source": {"uri": URI}, "ttlSeconds": 1}, "spec.ttlSeconds: 1: Input should be greater than or equal to 600"),
        ({"source": {"uri": URI}, "pinned": "yes"}, 'spec.pinned: "yes": Input should be a valid boolean'),
        ({"source": {"uri": "hf://" + "x" * SPEC_MAX_CHARS}}, f"at most {SPEC_MAX_CHARS}"),
        ([], "spec.source: Field required"),
        ("text", 'spec: "text": '),
    ],
)
def test_a_cache_that_cannot_be_used_is_refused_with_object_field_and_value(spec: object, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_model_cache(cache(spec))

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"models": [wanted(key="0" * 16)]}, f"spec.models[0].key: {'0' * 16} is not that of {URI}"),
        ({"models": [wanted(), wanted()]}, f"spec.models[1].key: {storage_key(URI)} is there twice"),
        ({"models": [wanted(digest="x")]}, 'spec.models[0].digest: "x"'),
        ({"limits": {"lowWatermark": 0.9}}, "lowWatermark: 0.9 exceeds spec.limits.highWatermark (0.8)"),
        ({"models": [wanted()] * (MODELS_MAX + 1)}, "at most 256 items"),
    ],
)
def test_a_node_s_wishes_that_cannot_be_used_are_refused(spec: Object, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_node_model_cache(node(**spec))

    assert str(caught.value).startswith("NodeModelCache node-1: spec")
    assert said in str(caught.value)


def test_nulls_are_absent_and_too_much_nesting_is_refused() -> None:
    deep: list[Any] = []
    for _level in range(100_000):
        deep = [deep]

    assert parse_model_cache(cache({"source": {"uri": URI, "revision": None}, "volume": None})).ref.revision is None
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        parse_model_cache(cache({"source": deep}))


@pytest.mark.parametrize("crd", all_crds(), ids=lambda crd: crd["metadata"]["name"])
def test_the_files_are_what_the_models_say(crd: Object) -> None:
    file = MANIFESTS / "crds" / f"{crd['metadata']['name']}.yaml"

    assert file.read_text(encoding="utf-8") == as_yaml(crd), "run `python -m cacheops.crds`"
    assert f"crds/{file.name}" in (MANIFESTS / "kustomization.yaml").read_text(encoding="utf-8")


def test_the_command_writes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cacheops.crds", str(tmp_path)])

    main()

    names = ["modelcaches.warmtide.dev.yaml", "nodemodelcaches.warmtide.dev.yaml"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    "spec",
    [
        {"source": {"uri": URI}},
        {"source": {"uri": "ftp://x/y"}},
        {"source": {"uri": URI}, "places": {"min": 3, "max": 2}},
        {"source": {"uri": URI}, "places": {"selector": {"gpu": "h" * 64}}},
        {"source": {"uri": URI}, "ttlSeconds": 600},
        {"source": {"uri": URI, "allowPatterns": []}, "pinned": True},
        {"source": {"uri": URI, "ignorePatterns": [""]}},
        {"source": {"uri": URI}, "volume": {"storageClass": "Local"}},
    ],
)
def test_the_api_server_and_the_controller_refuse_the_same(spec: Object) -> None:
    schema = Schema(model_cache()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    try:
        parse_model_cache(cache(spec))
        is_taken = True
    except InvalidRequestError:
        is_taken = False

    assert is_taken == (not schema.check(cache(copy.deepcopy(spec)), None))


async def test_an_api_server_takes_them_and_keeps_the_source(tmp_path: Path) -> None:
    async with ApiServer() as server, HttpApi.from_kubeconfig(server.write_kubeconfig(tmp_path / "kubeconfig")) as api:
        await api.create(NAMESPACES, {"metadata": {"name": "team-a"}})
        for crd in (model_cache(), node_model_cache()):
            await api.create(CRDS, crd)
        made = await api.create(MODEL_CACHES, cache({"source": {"uri": URI}}))
        held = await api.create(NODE_MODEL_CACHES, node(models=[wanted()]))

        with pytest.raises(ApiError, match="uri cannot be changed"):
            await api.patch(MODEL_CACHES, "team-a", "llama", {"spec": {"source": {"uri": "hf://a/b"}}})
        with pytest.raises(ApiError, match="lowWatermark must not exceed highWatermark"):
            await api.patch(NODE_MODEL_CACHES, "", "node-1", {"spec": {"limits": {"lowWatermark": 0.9}}})

    assert made["spec"] == {"source": {"uri": URI}}
    assert parse_node_model_cache(held).wishes[0].ref.uri == URI
