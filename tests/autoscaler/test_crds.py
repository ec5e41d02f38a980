"""The CRDs: what the files say, what an API server makes of them, and that both refuse what the controller refuses.

    python tests/controlplane/plane.py -- .venv/bin/python -m pytest tests/autoscaler/test_crds.py

runs the tests with an API server against a real one too.
"""

import asyncio
import copy
import json
import math
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.crds import all_crds, as_yaml, main, scaled_service, scaling_policy
from autoscaler.errors import BadSpecError, Invalid, NotFound, Throttled
from autoscaler.kube.client import KubeClient
from autoscaler.parse import parse_policy
from cacheops.schema import structural
from simulations.cluster.apiserver import ApiServer
from simulations.cluster.apiserver.schema import Schema

Object = dict[str, Any]

MANIFESTS = Path(__file__).parents[2] / "manifests"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "/apis/warmtide.dev/v1alpha1/namespaces/default/scalingpolicies"
SERVICES = "/apis/warmtide.dev/v1alpha1/namespaces/default/scaledservices"
# What a structural schema may say, of what we use.
KEYWORDS = {
    *("type", "description", "default", "enum", "pattern", "properties", "required", "items", "additionalProperties"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
    *("x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}


def root(crd: Object) -> Object:
    schema: Object = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Object, place: str = "") -> Iterator[tuple[str, Object]]:
    """Every node of a schema with its place."""
    yield place, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{place}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{place}[]")


@pytest.mark.parametrize("crd", all_crds(), ids=lambda crd: crd["metadata"]["name"])
def test_the_files_are_what_the_models_say(crd: Object) -> None:
    file = MANIFESTS / "crds" / f"{crd['metadata']['name']}.yaml"

    assert file.read_text(encoding="utf-8") == as_yaml(crd), "run `python -m autoscaler.crds`"


def test_the_command_writes_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["autoscaler.crds", str(tmp_path / "out")])

    main()

    written = sorted((tmp_path / "out").iterdir())
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "out" / f"{c['metadata']['name']}.yaml") for c in all_crds()
    ]
    assert [yaml.safe_load(file.read_text(encoding="utf-8")) for file in written] == [
        scaled_service(),
        scaling_policy(),
    ]


@pytest.mark.parametrize("crd", all_crds(), ids=lambda crd: crd["metadata"]["name"])
def test_schemas_are_structural_and_say_what_every_field_is_for(crd: Object) -> None:
    for place, node in nodes(root(crd)):
        assert set(node) <= KEYWORDS, place
        assert node.get("type") or node.get("x-kubernetes-preserve-unknown-fields"), place
        assert node.get("type") != "array" or "items" in node, place
        assert node.get("description") or place == ".metadata" or place.endswith("[]"), place


def test_text_and_lists_that_rules_look_at_are_bounded() -> None:
    """A real API server estimates what a rule may cost, and refuses a CRD whose rules could cost too much."""
    windows = root(scaling_policy())["properties"]["spec"]["properties"]["schedules"]

    assert windows["maxItems"] <= 32
    assert all(windows["items"]["properties"][name]["maxLength"] <= 128 for name in ("start", "end"))


def test_only_the_mode_is_stored_as_a_default() -> None:
    stored = {place for crd in all_crds() for place, node in nodes(root(crd)) if "default" in node}

    assert stored == {".spec.mode"}


def test_an_optional_model_and_a_constant_become_plain_nodes() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}], "default": None, "description": "An A."},
            "b": {"const": "x", "type": "string", "description": "B.", "default": "x"},
        },
        "$defs": {"A": {"type": "object", "description": "Any A.", "properties": {"n": {"type": "integer"}}}},
    }

    assert structural(schema)["properties"] == {
        "a": {"type": "object", "description": "An A.", "properties": {"n": {"type": "integer"}}},
        "b": {"type": "string", "description": "B. Default: x.", "enum": ["x"]},
    }


# --- the schema and the controller agree ---

SPEC = Schema(root(scaling_policy()))
CRON = st.sampled_from(["0 8 * * *", "30 19 * * 1-5", "*/5 * * * *"])
WORDS = {"start": CRON, "end": CRON, "timeZone": st.sampled_from(["UTC", "Europe/Berlin"])}


def numbers(node: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Just under, at and just over each bound, and what is no number."""
    step = 1 if node["type"] == "integer" else 0.001
    edges = [node[key] for key in ("minimum", "maximum") if key in node]
    near = [edge + side * step for edge in edges for side in (-1, 0, 1)]
    good = [value for value in (0, 0.5, 0.9, 1, 2, 5, 20) if in_bounds(value, node)]
    return st.sampled_from(good * 6 + [*near, "3", True, 1.5])  # most of them good: sections have many fields


def in_bounds(value: float, node: Mapping[str, Any]) -> bool:
    low, high = node.get("minimum", -math.inf), node.get("maximum", math.inf)
    return low < value < high and (node["type"] == "number" or value == int(value))


def values(name: str, node: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a field might be given, most of them good."""
    match node.get("type"):
        case "object":
            parts = {key: values(key, part) for key, part in node["properties"].items()}
            required = {key: parts.pop(key) for key in node.get("required", ())}
            return st.fixed_dictionaries(required, optional=parts)
        case "array":
            return st.lists(values(name, node["items"]), max_size=2)
        case "boolean":
            return st.booleans()
        case "string":
            known = node.get("enum") or ["/metrics" if name == "path" else "a"]
            return WORDS.get(name, st.sampled_from([*known * 6, "A", "x" * 70, ""]))
        case None:
            return st.sampled_from([0, 0.05, 0.999, 1, 1.5, -0.1, "0.05", "50m", "1", "m", ""])
    return numbers(node)


PLAUSIBLE = {
    name: values(name, part) for name, part in root(scaling_policy())["properties"]["spec"]["properties"].items()
}


@settings(max_examples=400)
@given(spec=st.fixed_dictionaries({}, optional=PLAUSIBLE))
def test_the_api_server_and_the_controller_refuse_the_same_policies(spec: Object) -> None:
    """Few fields at a time would be taken by both most of the time; hypothesis leaves most of them out."""
    compare(spec)


@settings(max_examples=400)
@given(data=st.data(), names=st.sets(st.sampled_from(sorted(PLAUSIBLE)), min_size=1, max_size=2))
def test_they_agree_on_one_section_and_on_two(data: st.DataObject, names: set[str]) -> None:
    compare({name: data.draw(PLAUSIBLE[name]) for name in sorted(names)})


def compare(spec: Object) -> None:
    obj = {"metadata": {"namespace": "team-a", "name": "gold"}, "spec": copy.deepcopy(spec)}
    causes = SPEC.check(obj, None)
    names = [window["name"] for window in spec.get("schedules", ())]
    is_taken_there = not causes and len(names) == len(set(names))  # the list's map key is the server's own check

    try:
        parse_policy({"metadata": {"namespace": "team-a", "name": "gold"}, "spec": spec})
        is_taken_here, said = True, ""
    except BadSpecError as exc:
        is_taken_here, said = False, str(exc)

    assert is_taken_here == is_taken_there, (said, causes)


# --- an API server takes them ---


def throw_away_kubeconfig() -> Path:
    """Only ever a server of plane.py: nobody's cluster gets CRDs because a shell has KUBECONFIG set."""
    path = Path(os.environ.get("KUBECONFIG") or "/nonexistent")
    if not path.is_file() or yaml.safe_load(path.read_text(encoding="utf-8")).get("current-context") != "plane":
        pytest.skip("no real API server: KUBECONFIG is not set (tests/controlplane/plane.py starts one)")
    return path


async def real() -> AsyncIterator[KubeClient]:
    async with KubeClient.from_config(throw_away_kubeconfig()) as client:
        yield client


async def embedded(folder: Path) -> AsyncIterator[KubeClient]:
    async with (
        ApiServer() as server,
        KubeClient.from_config(server.write_kubeconfig(folder / "kubeconfig")) as client,
    ):
        yield client


@pytest.fixture(params=["embedded", "real"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KubeClient]:
    """A client of an API server with the CRDs installed."""
    names = [crd["metadata"]["name"] for crd in all_crds()]
    async for opened in embedded(tmp_path) if request.param == "embedded" else real():
        for crd in all_crds():
            await opened.create(CRDS, crd)
        try:
            for path in (POLICIES, SERVICES):
                await until_there(opened, path, is_there=True)
            yield opened
        finally:
            for name in names:
                await opened.delete(f"{CRDS}/{name}")
            for name in names:
                await until_there(opened, f"{CRDS}/{name}", is_there=False)


async def until_there(client: KubeClient, path: str, *, is_there: bool) -> None:
    """A real API server serves a new kind, and forgets an old one, a moment after it said yes."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.get(path)
                found = True
            except (NotFound, Throttled):
                found = False
            if found is is_there:
                return
            await asyncio.sleep(0.02)


def policy(name: str, spec: object) -> Object:
    return {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ScalingPolicy", "metadata": {"name": name}, "spec": spec}


async def test_what_is_stored_is_what_we_installed(client: KubeClient) -> None:
    for crd in all_crds():
        stored = await client.get(f"{CRDS}/{crd['metadata']['name']}")

        assert stored["spec"]["versions"] == crd["spec"]["versions"]
        conditions = {c["type"]: c["status"] for c in stored["status"]["conditions"]}
        assert conditions.get("NonStructuralSchema", "False") == "False"


async def test_a_policy_is_stored_as_written_with_its_mode(client: KubeClient) -> None:
    spec = {"behavior": {"scaleUp": {"tolerance": 0.05}, "scaleDown": {"tolerance": "50m"}}}

    stored = await client.create(POLICIES, policy("tolerant", spec))

    assert stored["spec"] == spec | {"mode": "advise"}


WINDOW = {"name": "day", "start": "0 8 * * *", "end": "0 18 * * *", "minReplicas": 2}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"replicas": {"min": 9, "max": 4}}, "min must not exceed max"),
        ({"zero": {"enabled": True}, "replicas": {"min": 1}}, "zero.enabled needs replicas.min to be 0 or absent"),
        ({"zero": {"enabled": True}}, "zero.enabled needs upstream.query, a PromQL query"),
        ({"upstream": {"query": ""}}, "spec.upstream.query: Invalid value"),
        ({"upstream": {"query": "up", "periodSeconds": 30}}, "upstream.periodSeconds must be below"),
        ({"metrics": {"idlePeriodSeconds": 30}}, "metrics.idlePeriodSeconds must be below targets.maxAgeSeconds"),
        ({"metrics": {"caFile": "ca"}}, "caFile has a meaning only with scheme https"),
        ({"schedules": [WINDOW | {"end": WINDOW["start"]}]}, "start and end must differ"),
        ({"behavior": {"scaleUp": {"tolerance": 1}}}, "should be less than 1"),
        ({"mode": "fast"}, "supported values"),
    ],
)
async def test_what_breaks_a_rule_is_refused_with_its_words(client: KubeClient, spec: Object, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        await client.create(POLICIES, policy("bad", spec))


async def test_what_a_service_scales_cannot_be_changed(client: KubeClient) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"}
    spec = {"targetRef": target, "policyRef": {"name": "gold"}}
    body = {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ScaledService", "metadata": {"name": "qwen"}, "spec": spec}
    await client.create(SERVICES, body)

    await client.patch(f"{SERVICES}/qwen", {"spec": {"policyRef": {"name": "silver"}}})
    with pytest.raises(Invalid, match="targetRef cannot be changed"):
        await client.patch(f"{SERVICES}/qwen", {"spec": {"targetRef": {"name": "other"}}})


async def test_a_status_comes_back_whole(client: KubeClient) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"}
    spec = {"targetRef": target, "policyRef": {"name": "gold"}}
    body = {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ScaledService", "metadata": {"name": "qwen"}, "spec": spec}
    await client.create(SERVICES, body)
    status = {"mode": "direct", "summary": {"forecast": "6"}, "freshness": {"scrapeFailures": {"Timeout": 2}}}

    stored = await client.patch(f"{SERVICES}/qwen/status", {"status": status})

    assert json.loads(json.dumps(stored["status"])) == status
