"""Who goes first when a replica set shrinks."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.workloads.pods import DELETION_COST
from simulations.cluster.workloads.victims import victims

NOW_S = 1_750_000_000.0


def pod(name: str, **facts: Any) -> dict[str, Any]:
    """A ready, running pod on its own node, ten hours old, but for the facts given."""
    ready_for_s = facts.get("ready_for_s", 36_000)
    conditions = []
    if ready_for_s is not None:
        since = timestamp(NOW_S - ready_for_s)
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
    return {
        "metadata": {
            "name": name,
            "uid": facts.get("uid", name),
            "creationTimestamp": timestamp(NOW_S - facts.get("age_s", 36_000)),
            "annotations": {DELETION_COST: facts["cost"]} if "cost" in facts else {},
        },
        "spec": {"nodeName": facts.get("node", f"node of {name}")},
        "status": {
            "phase": facts.get("phase", "Running"),
            "conditions": conditions,
            "containerStatuses": [{"restartCount": facts.get("restarts", 0)}],
        },
    }


def first(pods: list[dict[str, Any]], crowds: dict[str, int] | None = None) -> str:
    return str(victims(pods, 1, crowds=crowds or {}, now_s=NOW_S)[0]["metadata"]["name"])


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        pytest.param({"node": ""}, {"phase": "Pending", "ready_for_s": None}, id="unassigned before assigned"),
        pytest.param({"phase": "Pending", "ready_for_s": None}, {"ready_for_s": None}, id="pending before running"),
        pytest.param({"ready_for_s": None, "cost": "9"}, {"cost": "1"}, id="not ready before ready, whatever the cost"),
        pytest.param({"cost": "-5"}, {}, id="lower cost before the default of 0"),
        pytest.param({"cost": "3"}, {"cost": "20"}, id="costs are numbers, not texts"),
        pytest.param({"cost": "1", "ready_for_s": 90_000}, {"cost": "2", "ready_for_s": 9}, id="cost before age"),
        pytest.param({"ready_for_s": 60}, {"ready_for_s": 36_000}, id="ready for less time first"),
        pytest.param({"restarts": 3}, {"restarts": 1}, id="more restarts first"),
        pytest.param({"age_s": 60}, {"age_s": 36_000}, id="younger first"),
        pytest.param(
            {"uid": "a", "ready_for_s": 36_000}, {"uid": "b", "ready_for_s": 35_990}, id="within one power: uid"
        ),
    ],
)
def test_of_two_pods_the_right_one_goes(goes: dict[str, Any], stays: dict[str, Any]) -> None:
    one, other = pod("one", **goes), pod("other", **stays)

    assert first([one, other]) == first([other, one]) == "one"


def test_a_crowded_node_gives_first() -> None:
    pods = [pod("a", node="n1"), pod("b", node="n2"), pod("c", node="n2")]

    assert first(pods, {"n1": 1, "n2": 2}) in {"b", "c"}


def test_a_cost_that_is_no_number_counts_as_zero() -> None:
    assert first([pod("a", cost="cheap"), pod("b", cost="1")]) == "a"
    assert first([pod("a", cost="cheap"), pod("b", cost="-1")]) == "b"


@settings(deadline=None)
@given(costs=st.lists(st.integers(-100, 100), min_size=1, max_size=12), data=st.data())
def test_the_dearest_pods_stay(costs: list[int], data: st.DataObject) -> None:
    pods = [pod(f"p{number}", cost=str(cost)) for number, cost in enumerate(costs)]
    count = data.draw(st.integers(0, len(pods)))

    gone = victims(data.draw(st.permutations(pods)), count, crowds={}, now_s=NOW_S)

    names = {one["metadata"]["name"] for one in gone}
    assert len(names) == count
    kept = [int(one["metadata"]["annotations"][DELETION_COST]) for one in pods if one["metadata"]["name"] not in names]
    assert sorted(costs)[count:] == sorted(kept)
