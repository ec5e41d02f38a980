"""CRDs: defaults, pruning, validation with the paths of what is wrong, rules in CEL."""

from pathlib import Path

import pytest
import yaml

from simulations.cluster.api import CRDS
from simulations.cluster.apiserver import LocalApi

CRDS_FOLDER = Path(__file__).parents[3] / ".." / "shared" / "crds"


@pytest.fixture
async def path(cluster, widgets):
    return cluster.path("widgets", group=widgets)


async def test_a_custom_resource_gets_its_defaults(cluster, path, widget):
    spec = (await cluster.ask("POST", path, widget(nested={}))).ok()["spec"]

    assert spec == {"size": 1, "min": 1, "max": 8, "mode": "slow", "nested": {"deep": "down"}}


async def test_defaults_do_not_bring_objects_into_being(cluster, path, widget):
    assert "nested" not in (await cluster.ask("POST", path, widget())).ok()["spec"]


async def test_null_takes_the_default_unless_the_field_may_be_null(cluster, path, widget):
    spec = (await cluster.ask("POST", path, widget(mode=None, note=None))).ok()["spec"]

    assert spec["mode"] == "slow"
    assert spec["note"] is None


async def test_unknown_fields_are_pruned_but_where_they_are_free(cluster, path, widget):
    body = widget(bogus=1, free={"any": {"thing": 1}}, nested={"other": 2, "deep": "x"}, byName={"a": 1})

    spec = (await cluster.ask("POST", path, body)).ok()["spec"]

    assert "bogus" not in spec
    assert spec["nested"] == {"deep": "x"}
    assert spec["free"] == {"any": {"thing": 1}}
    assert spec["byName"] == {"a": 1}


async def test_strict_validation_refuses_unknown_fields_by_name(cluster, path, widget):
    answer = await cluster.ask("POST", path, widget(bogus=1), params={"fieldValidation": "Strict"})

    assert answer.code == 400
    assert 'strict decoding error: unknown field "spec.bogus"' in answer.body["message"]


@pytest.mark.parametrize("validation", ["Warn", "Ignore"])
async def test_other_validation_lets_them_pass(cluster, path, widget, validation):
    answer = await cluster.ask("POST", path, widget(bogus=1), params={"fieldValidation": validation})

    assert answer.code == 201
    warning = answer.headers.get("Warning")
    assert warning == (r'299 - "unknown field \"spec.bogus\""' if validation == "Warn" else None)


WRONG = {
    "too small": ({"size": -1}, "spec.size", "FieldValueInvalid", "should be greater than or equal to 0"),
    "too large": ({"size": 11}, "spec.size", "FieldValueInvalid", "should be less than or equal to 10"),
    "not above": ({"share": 0}, "spec.share", "FieldValueInvalid", "should be greater than 0"),
    "text for a number": ({"size": "1"}, "spec.size", "FieldValueTypeInvalid", "must be of type integer"),
    "number for a text": ({"label": 1}, "spec.label", "FieldValueTypeInvalid", "must be of type string"),
    "not in the enum": ({"mode": "warp"}, "spec.mode", "FieldValueNotSupported", 'supported values: "fast", "slow"'),
    "no match": ({"label": "A"}, "spec.label", "FieldValueInvalid", "should match '^[a-z]*$'"),
    "too long": ({"label": "abcdef"}, "spec.label", "FieldValueTooLong", "5"),
    "too many": ({"tags": ["a", "b", "c"]}, "spec.tags", "FieldValueTooMany", "must have at most 2 items"),
    "wrong item": ({"tags": ["a", 1]}, "spec.tags[1]", "FieldValueTypeInvalid", "must be of type string"),
    "wrong value": ({"byName": {"a": "x"}}, "spec.byName.a", "FieldValueTypeInvalid", "must be of type integer"),
    "neither": ({"port": True}, "spec.port", "FieldValueTypeInvalid", "integer,string"),
    "null": (
        {"nested": {"deep": None}, "label": None, "size": None},
        "spec.size",
        "FieldValueRequired",
        "Required value",
    ),
    "a broken rule": ({"min": 5, "max": 4}, "spec.min", "FieldValueInvalid", "min must not exceed max"),
}


@pytest.mark.parametrize(("spec", "field", "reason", "why"), WRONG.values(), ids=WRONG)
async def test_a_wrong_field_is_refused_by_path_and_reason(cluster, path, widget, spec, field, reason, why):
    answer = await cluster.ask("POST", path, widget(**spec))

    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    causes = [cause for cause in answer.body["details"]["causes"] if cause["field"] == field]
    assert causes, answer.body
    assert causes[0]["reason"] == reason
    assert why in causes[0]["message"]


async def test_a_missing_field_is_required(cluster, path, widget):
    body = widget()
    del body["spec"]["size"]

    answer = await cluster.ask("POST", path, body)

    assert answer.causes["spec.size"] == "Required value"


async def test_every_wrong_field_is_told_at_once(cluster, path, widget):
    answer = await cluster.ask("POST", path, widget(size=-1, mode="warp"))

    assert {"spec.size", "spec.mode"} <= set(answer.causes)
    assert answer.body["message"].startswith(f'Widget.{path.split("/")[2]} "one" is invalid: [')


@pytest.mark.parametrize("port", [80, "http"])
async def test_int_or_string_takes_both(cluster, path, widget, port):
    assert (await cluster.ask("POST", path, widget(port=port))).ok()["spec"]["port"] == port


async def test_a_patch_is_held_to_the_rules_too(cluster, path, widget):
    (await cluster.ask("POST", path, widget())).ok()

    answer = await cluster.patch(f"{path}/one", {"spec": {"min": 9}})

    assert answer.code == 422
    assert "min must not exceed max" in answer.causes["spec.min"]


async def test_a_transition_rule_compares_with_what_was(cluster, path, widget):
    (await cluster.ask("POST", path, widget(**{"class": "a"}))).ok()

    same = await cluster.patch(f"{path}/one", {"spec": {"class": "a", "size": 2}})
    other = await cluster.patch(f"{path}/one", {"spec": {"class": "b"}})

    assert same.code == 200
    assert "class is immutable" in other.causes["spec.class"]


async def test_a_transition_rule_says_nothing_about_a_field_that_comes(cluster, path, widget):
    (await cluster.ask("POST", path, widget())).ok()

    assert (await cluster.patch(f"{path}/one", {"spec": {"class": "a"}})).code == 200


async def test_a_put_must_name_the_version_it_replaces(cluster, path, widget):
    (await cluster.ask("POST", path, widget())).ok()

    answer = await cluster.ask("PUT", f"{path}/one", widget(size=2))

    assert answer.code == 422
    assert "must be specified for an update" in answer.causes["metadata.resourceVersion"]


async def test_the_kind_must_be_the_one_of_the_path(cluster, path, widget):
    answer = await cluster.ask("POST", path, widget() | {"kind": "Gadget"})

    assert answer.code == 422
    assert "must be Widget" in answer.causes["kind"]


@pytest.mark.parametrize("field", ["kind", "apiVersion"])
async def test_a_custom_resource_must_say_what_it_is(cluster, path, widget, field):
    answer = await cluster.ask("POST", path, {name: value for name, value in widget().items() if name != field})

    assert answer.code == 400


async def test_the_version_must_be_the_one_of_the_path(cluster, path, widget):
    answer = await cluster.ask("POST", path, widget() | {"apiVersion": "other.dev/v1"})

    assert answer.code == 400


async def test_a_crd_says_when_it_is_served(cluster, widgets):
    name = f"widgets.{widgets.partition('/')[0]}"

    crd = (await cluster.ask("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")).ok()

    conditions = {one["type"]: one["status"] for one in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert crd["status"]["acceptedNames"]["kind"] == "Widget"
    assert crd["status"]["storedVersions"] == ["v1"]


ANY = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


def crd_version(name="v1", **changes):
    return {"name": name, "served": True, "storage": True, "schema": ANY} | changes


def list_map(required=None, **key):
    """A schema of objects with a list of items that are told apart by their name."""
    item = {"type": "object", "properties": {"name": {"type": "string"} | key}}
    marks = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    items = {"type": "array", "items": item | ({"required": required} if required else {})} | marks
    spec = {"type": "object", "properties": {"items": items}}
    return {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}


def crd_with(group, **changes):
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [crd_version()]} | changes
    return {"metadata": {"name": f"gadgets.{group}"}, "spec": spec}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"scope": "Everywhere"}, "spec.scope", id="unknown scope"),
        pytest.param({"names": {"plural": "things", "kind": "Thing"}}, "metadata.name", id="another name"),
        pytest.param({"versions": [crd_version(storage=False)]}, "spec.versions", id="nothing stored"),
        pytest.param(
            {"versions": [crd_version(subresources={"scale": {"statusReplicasPath": ".status.replicas"}})]},
            "subresources.scale.specReplicasPath",
            id="no way to scale",
        ),
        pytest.param(
            {"versions": [crd_version(schema=None)]}, "spec.versions[0].schema.openAPIV3Schema", id="no schema"
        ),
        pytest.param(
            {"versions": [crd_version(schema=list_map())]},
            "properties[spec].properties[items].items.properties[name].default",
            id="the key of a list map may be missing",
        ),
        pytest.param(
            {"versions": [crd_version(schema=list_map(["name"], nullable=True))]},
            "properties[spec].properties[items].items.properties[name].nullable",
            id="the key of a list map may be null",
        ),
    ],
)
async def test_a_crd_that_cannot_be_served_is_refused(cluster, changes, field):
    body = crd_with("broken.warmtide.dev", **changes)

    answer = await cluster.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)

    assert answer.code == 422
    assert any(found.endswith(field) for found in answer.causes)  # with one version, the real server says spec.FIELD


@pytest.mark.parametrize("schema", [list_map(["name"]), list_map(default="")], ids=["required", "defaulted"])
async def test_a_list_map_whose_key_is_always_there_is_taken(cluster, schema):
    body = crd_with(f"{cluster.space}.maps.dev", versions=[crd_version(schema=schema)])

    answer = await cluster.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)

    assert answer.code == 201


async def test_two_versions_show_the_same_objects(cluster):
    group = f"{cluster.space}.two.dev"
    versions = [crd_version(), crd_version("v1beta1", storage=False)]
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    (await cluster.ask("POST", crds, crd_with(group, versions=versions))).ok()

    async def served():
        return (await cluster.ask("GET", f"/apis/{group}/v1beta1/gadgets")).code == 200

    await cluster.until(served)
    body = {"apiVersion": f"{group}/v1beta1", "kind": "Gadget", "metadata": {"name": "one"}, "size": 3}
    made = (await cluster.ask("POST", cluster.path("gadgets", group=f"{group}/v1beta1"), body)).ok()

    shown = (await cluster.ask("GET", cluster.path("gadgets", "one", group=f"{group}/v1"))).ok()

    assert made["apiVersion"] == f"{group}/v1beta1"
    assert shown["apiVersion"] == f"{group}/v1"
    assert shown["size"] == 3
    await cluster.ask("DELETE", f"{crds}/gadgets.{group}")


async def test_a_deleted_crd_takes_its_objects_along(cluster, widgets, widget):
    (await cluster.ask("POST", cluster.path("widgets", group=widgets), widget())).ok()
    name = f"widgets.{widgets.partition('/')[0]}"

    await cluster.ask("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")

    async def is_gone():
        return (await cluster.ask("GET", f"/apis/{widgets}/widgets")).code == 404

    await cluster.until(is_gone)


MET = (  # those that Warmtide reads, installs beside, or stays away from
    "keda.sh_scaledobjects",
    "serving.kserve.io_inferenceservices.minimal",
    "serving.kserve.io_llminferenceservices.minimal",
    "serving.kserve.io_localmodelnodes",
    "leaderworkerset.x-k8s.io_leaderworkersets",
    "inference.networking.k8s.io_inferencepools",
    "knative_podautoscaler",
    "monitoring.coreos.com_podmonitors",
)


@pytest.mark.skipif(not CRDS_FOLDER.is_dir(), reason="needs the CRDs of ../shared/crds beside the repository")
@pytest.mark.parametrize("file", MET)
async def test_the_crds_of_the_systems_around_install(file):
    api = LocalApi.on_new_store()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = yaml.load_all((CRDS_FOLDER / f"{file}.yaml").read_text(encoding="utf-8"), Loader=loader)
    crds = [document for document in documents if document and document["kind"] == "CustomResourceDefinition"]

    made = [await api.create(CRDS, crd) for crd in crds]

    assert made
    assert all(crd["status"]["conditions"][1]["type"] == "Established" for crd in made)
