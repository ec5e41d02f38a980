"""What counts as a difference from a live, defaulted object, and the patch that removes it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.cluster.apiserver.patches import merge_patch as apply
from simulations.cluster.kserve.diff import differs, merge_patch, object_patch
from simulations.cluster.kserve.rules import Write


@pytest.mark.parametrize(
    ("live", "wanted", "expected"),
    [
        pytest.param({"a": 1, "restartPolicy": "Always"}, {"a": 1}, False, id="a default is no difference"),
        pytest.param({"a": 1, "restartPolicy": "Always"}, {"restartPolicy": "Never", "a": 1}, True, id="unless named"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, True, id="an extra field is one"),
        pytest.param({"a": 1, "b": {}}, {"a": 1}, False, id="an empty extra field is none"),
        pytest.param({"labels": {"type": "x"}}, {"labels": {}}, True, id="a label may be called like a default"),
        pytest.param({"replicas": 3}, {}, False, id="replicas nobody insists on"),
        pytest.param({"replicas": 3}, {"replicas": 2}, True, id="replicas somebody insists on"),
        pytest.param({"c": [{"n": 1, "resources": {}}]}, {"c": [{"n": 1}]}, False, id="defaults within lists"),
        pytest.param({"c": [1, 2]}, {"c": [1]}, True, id="a shorter list"),
        pytest.param({"c": [1]}, {"c": [2]}, True, id="another element"),
    ],
)
def test_differences_are_what_a_dry_run_would_show(live: dict, wanted: dict, expected: bool) -> None:
    assert differs(live, wanted) is expected
    assert bool(merge_patch(live, wanted, removes=True)) is expected


def test_merge_never_removes_and_two_way_does() -> None:
    live = {"metadata": {"annotations": {"foreign": "1", "own": "1"}}, "spec": {"x": 1}}
    wanted = {"metadata": {"annotations": {"own": "2"}}, "spec": {"x": 1}}

    assert object_patch(live, wanted, Write.MERGE) == {"metadata": {"annotations": {"own": "2"}}}
    assert object_patch(live, wanted, Write.TWO_WAY) == {"metadata": {"annotations": {"own": "2", "foreign": None}}}


LEAVES = st.integers(0, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2), max_size=2)
TREES = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(live=TREES, wanted=TREES)
def test_after_the_patch_nothing_differs(live: dict, wanted: dict) -> None:
    patched = apply(live, merge_patch(live, wanted, removes=True))

    assert not differs(patched, wanted)
