"""Volumes and claims of published trees: what is made, adopted, resized, deleted and left alone."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheops.model import storage_key
from cacheops.provision import Act, Change, Object, ServedTree, Why, changes, claim, size_bytes, volume

GIB = 2**30
KEY = storage_key("hf://meta-llama/tiny")
TREE = ServedTree(
    namespace="team-a",
    cache="llama",
    cache_uid="uid-1",
    key=KEY,
    size_bytes=16 * GIB,
    root="/var/lib/warmtide",
    node_selector={"gpu": "h100"},
)


def told(found: tuple[Change, ...]) -> list[tuple[Act, str, Why]]:
    return [(change.act, change.kind.removeprefix("PersistentVolume") or "Volume", change.why) for change in found]


def bound(tree: ServedTree = TREE) -> tuple[Object, Object]:
    """Volume and claim as an API server shows them once they found each other."""
    pv, pvc = copy.deepcopy(volume(tree)), copy.deepcopy(claim(tree))
    pvc["metadata"] |= {"uid": "claim-uid", "resourceVersion": "7"}
    pv["metadata"] |= {"uid": "volume-uid", "resourceVersion": "9"}
    pv["spec"]["claimRef"] |= {"uid": "claim-uid", "resourceVersion": "6"}
    pv["status"] = pvc["status"] = {"phase": "Bound"}
    return pv, pvc


def test_a_volume_is_one_tree_read_only_and_reserved_for_one_claim() -> None:
    pv = volume(TREE)

    assert pv["spec"]["local"] == {"path": f"/var/lib/warmtide/models/{KEY}"}
    assert pv["spec"]["claimRef"] == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": "team-a",
        "name": "llama",
    }
    assert (pv["spec"]["accessModes"], pv["spec"]["mountOptions"]) == (["ReadOnlyMany"], ["ro"])
    assert pv["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert pv["spec"]["capacity"] == {"storage": "16384Mi"}
    assert pv["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]}
    ]


def test_a_claim_asks_for_its_volume_and_goes_with_its_cache() -> None:
    pvc = claim(TREE)

    assert pvc["spec"]["volumeName"] == volume(TREE)["metadata"]["name"]
    assert pvc["spec"]["resources"] == {"requests": {"storage": "16384Mi"}}
    assert pvc["spec"]["storageClassName"] == ""
    assert [(o["kind"], o["name"], o["uid"]) for o in pvc["metadata"]["ownerReferences"]] == [
        ("ModelCache", "llama", "uid-1")
    ]


def test_the_same_model_of_two_namespaces_has_two_volumes_with_names_that_labels_can_hold() -> None:
    other = replace(TREE, namespace="b" * 63, cache="c" * 63)

    names = {volume(TREE)["metadata"]["name"], volume(other)["metadata"]["name"]}

    assert len(names) == 2
    assert all(len(value) <= 63 for value in volume(other)["metadata"]["labels"].values())
    assert max(len(name) for name in names) <= 63


@pytest.mark.parametrize(
    ("more", "expressions"),
    [
        ({}, [{"key": "gpu", "operator": "In", "values": ["h100"]}]),
        ({"node_selector": {}}, [{"key": "kubernetes.io/hostname", "operator": "Exists"}]),
        (
            {"only_warm_nodes": True},
            [
                {"key": "gpu", "operator": "In", "values": ["h100"]},
                {"key": f"warmtide.dev/model-{KEY}", "operator": "Exists"},
            ],
        ),
    ],
    ids=["selector", "anywhere", "only warm"],
)
def test_where_pods_with_the_claim_may_go(more: dict[str, Any], expressions: list[Object]) -> None:
    terms = volume(replace(TREE, **more))["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]

    assert terms == [{"matchExpressions": expressions}]


def test_both_are_made_the_volume_first() -> None:
    found = changes([TREE], [], [])

    assert told(found) == [(Act.CREATE, "Volume", Why.MISSING), (Act.CREATE, "Claim", Why.MISSING)]
    assert [change.body for change in found] == [volume(TREE), claim(TREE)]


def test_what_is_as_it_should_be_is_left_alone() -> None:
    pv, pvc = bound()

    assert changes([TREE], [pv], [pvc]) == ()


def test_a_volume_whose_claim_was_deleted_is_given_to_the_next_one() -> None:
    pv, _pvc = bound()

    found = changes([TREE], [pv | {"status": {"phase": "Released"}}], [])

    assert told(found) == [(Act.ADOPT, "Volume", Why.CLAIM_IS_GONE), (Act.CREATE, "Claim", Why.MISSING)]
    assert found[0].body == {
        "metadata": {"resourceVersion": "9"},
        "spec": {"claimRef": {"uid": None, "resourceVersion": None}},
    }


def test_a_claim_made_by_hand_is_given_its_volume() -> None:
    by_hand = claim(TREE)
    by_hand["metadata"] = {"name": "llama", "namespace": "team-a", "uid": "u", "resourceVersion": "3"}
    del by_hand["spec"]["volumeName"]

    found = changes([TREE], [], [by_hand])

    assert told(found) == [(Act.CREATE, "Volume", Why.MISSING), (Act.ADOPT, "Claim", Why.MADE_BY_HAND)]
    assert found[1].body["spec"] == {"volumeName": TREE.volume_name}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"volumeName": "pv-7"}, "is bound to volume pv-7"),
        ({"storageClassName": "standard"}, "asks for storage class 'standard', not ''"),
        ({"accessModes": ["ReadWriteOnce"]}, "asks for access ReadWriteOnce; a published tree is ReadOnlyMany"),
        ({"accessModes": ["ReadOnlyMany", "ReadWriteMany"]}, "asks for access ReadOnlyMany, ReadWriteMany;"),
    ],
)
def test_a_claim_that_is_someone_else_s_is_not_touched(spec: Object, said: str) -> None:
    theirs = claim(TREE)
    theirs["metadata"] = {"name": "llama", "namespace": "team-a"}
    theirs["spec"] |= spec

    [found] = changes([TREE], [], [theirs])

    assert (found.act, found.why) == (Act.REFUSE, Why.TAKEN)
    assert said in found.detail


def test_a_claim_that_asks_for_more_gets_a_volume_that_says_so() -> None:
    by_hand = claim(TREE)
    by_hand["metadata"] = {"name": "llama", "namespace": "team-a"}
    by_hand["spec"]["resources"]["requests"]["storage"] = "100Gi"

    [made] = changes([TREE], [], [by_hand])

    assert made.body["spec"]["capacity"] == {"storage": "102400Mi"}


def test_a_claim_on_its_way_out_is_waited_for() -> None:
    pv, pvc = bound()
    pvc["metadata"]["deletionTimestamp"] = "2026-11-21T07:00:00Z"

    [found] = changes([TREE], [pv], [pvc])

    assert (found.act, found.detail) == (Act.REFUSE, "is being deleted")


def test_a_volume_of_that_name_that_is_not_ours_is_not_touched() -> None:
    theirs = volume(TREE)
    theirs["metadata"]["labels"] = {}

    [found] = changes([TREE], [theirs], [])

    assert (found.act, found.kind, found.why) == (Act.REFUSE, "PersistentVolume", Why.TAKEN)


def test_a_larger_revision_makes_the_volume_larger_and_a_smaller_one_leaves_it() -> None:
    pv, pvc = bound()

    larger = changes([replace(TREE, size_bytes=20 * GIB)], [pv], [pvc])
    smaller = changes([replace(TREE, size_bytes=16 * GIB)], [pv], [pvc])

    assert told(larger) == [(Act.RESIZE, "Volume", Why.GREW)]
    assert larger[0].body["spec"] == {"capacity": {"storage": "20480Mi"}}
    assert smaller == ()


@pytest.mark.parametrize(("phase", "act"), [("Bound", Act.REFUSE), ("Available", Act.DELETE), ("Released", Act.DELETE)])
def test_a_volume_at_another_path_is_made_anew_unless_it_is_bound(phase: str, act: Act) -> None:
    pv, pvc = bound()

    found = changes([replace(TREE, root="/mnt/models")], [pv | {"status": {"phase": phase}}], [pvc])

    assert told(found) == [(act, "Volume", Why.CANNOT_BE_CHANGED)]
    assert found[0].detail.startswith("differs in local")


def test_what_is_not_wanted_any_more_goes_the_claim_before_its_volume() -> None:
    pv, pvc = bound()

    first = changes([], [pv], [pvc])
    second = changes([], [pv], [])

    assert told(first) == [(Act.DELETE, "Claim", Why.NOT_WANTED)]
    assert told(second) == [(Act.DELETE, "Volume", Why.NOT_WANTED)]


def test_what_is_going_already_is_not_deleted_twice() -> None:
    pv, pvc = bound()
    for obj in (pv, pvc):
        obj["metadata"]["deletionTimestamp"] = "2026-11-21T07:00:00Z"

    assert changes([], [pv], [pvc]) == ()
    assert changes([], [pv], []) == ()


def test_objects_of_others_are_never_deleted() -> None:
    pv, pvc = bound()
    for obj in (pv, pvc):
        obj["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "warmtide"}

    assert changes([], [pv], [pvc]) == ()


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1024", 1024), ("1Ki", 1024), ("16Gi", 16 * GIB), ("2k", 2000), ("3G", 3 * 10**9), ("1Pi", 2**50), ("?", 0)],
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, bytes_: int) -> None:
    assert size_bytes(text) == bytes_


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"key": "../x"}, "key '../x' is no storage key"),
        ({"root": "x"}, "root 'x'"),
        ({"root": "/a/../b"}, "no absolute"),
    ],
)
def test_a_tree_that_would_mount_something_else_cannot_be_built(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TREE, **more)


@given(
    sizes=st.lists(st.integers(0, 10**13), max_size=4),
    drop=st.sets(st.integers(0, 7)),
)
def test_doing_what_is_said_until_nothing_is_left_ends_with_what_is_wanted(sizes: list[int], drop: set[int]) -> None:
    trees = [replace(TREE, cache=f"c{n}", size_bytes=size) for n, size in enumerate(sizes)]
    stale = [bound(replace(TREE, cache=f"c{n}")) for n in range(8) if n not in drop]
    objects = {(pv["kind"], pv["metadata"]["name"]): pv for pair in stale for pv in pair}

    for _round in range(4):
        found = changes(trees, *split(objects))
        for change in found:
            carry_out(change, objects)

    assert changes(trees, *split(objects)) == ()
    assert sorted(name for _kind, name in objects) == sorted(
        name for tree in trees for name in (tree.volume_name, tree.cache)
    )


def split(objects: dict[tuple[str, str], Object]) -> tuple[list[Object], list[Object]]:
    return (
        [obj for (kind, _name), obj in objects.items() if kind == "PersistentVolume"],
        [obj for (kind, _name), obj in objects.items() if kind == "PersistentVolumeClaim"],
    )


def carry_out(change: Change, objects: dict[tuple[str, str], Object]) -> None:
    """What an API server would have afterwards."""
    place = (change.kind, change.name)
    match change.act:
        case Act.CREATE:
            assert place not in objects
            objects[place] = copy.deepcopy(change.body)
        case Act.DELETE:
            del objects[place]
        case Act.RESIZE | Act.ADOPT:
            for name, value in change.body["spec"].items():
                if isinstance(value, dict):
                    merged = objects[place]["spec"].setdefault(name, {}) | value
                    objects[place]["spec"][name] = {key: part for key, part in merged.items() if part is not None}
                else:
                    objects[place]["spec"][name] = value
        case Act.REFUSE:
            raise AssertionError(change)
