"""Which node is given which model, case by case."""

from dataclasses import replace
from typing import Any

import pytest

from cacheops.place import FETCHES_MAX, HOLD_S, Cause, Lack, Placement, place
from cacheops.seats import ModelDemand, NodeSeat

GIB = 2**30
NOW_S = 1_000_000.0
LONG_AGO_S = NOW_S - 10 * HOLD_S


def model(key: str, gib: float = 10, **more: Any) -> ModelDemand:
    return ModelDemand(key=key, size_bytes=int(gib * GIB), **more)


def node(name: str, **more: Any) -> NodeSeat:
    usual = NodeSeat(name=name, node_class="h100", gpus=8, free_gpus=8, room_bytes=1000 * GIB)
    return replace(usual, **more)


def placed(models: list[ModelDemand], nodes: list[NodeSeat]) -> Placement:
    return place(models, nodes, now_s=NOW_S)


def told(found: Placement) -> list[tuple[str, str, Cause]]:
    return [(assignment.node, assignment.key, assignment.cause) for assignment in found.assignments]


def test_a_model_goes_where_its_replicas_could_start() -> None:
    found = placed([model("m", gpus=4, replicas=3)], [node("a", free_gpus=3), node("b"), node("c", free_gpus=5)])

    assert told(found) == [("b", "m", Cause.FREE_GPUS), ("c", "m", Cause.FREE_GPUS)]
    assert found.assignments[0].detail == "8 GPUs, 8 free for 4 each; 2 replicas run or could"
    assert found.shortfalls == ()


def test_copies_that_lie_somewhere_are_used_before_anything_is_fetched() -> None:
    nodes = [node("a"), node("b", free_gpus=2, cached=frozenset({"m"})), node("c", assigned={"m": LONG_AGO_S})]

    found = placed([model("m", replicas=8)], nodes)

    assert told(found) == [("b", "m", Cause.CACHED_THERE), ("c", "m", Cause.COMING_THERE)]


def test_a_copy_on_a_node_without_a_free_gpu_is_no_place_to_start() -> None:
    nodes = [node("a", free_gpus=0, cached=frozenset({"m"})), node("b")]

    found = placed([model("m", replicas=1)], nodes)

    assert told(found) == [("b", "m", Cause.FREE_GPUS)]


def test_what_a_replica_reads_stays_whatever_else_is_true() -> None:
    nodes = [node("a", free_gpus=0, room_bytes=0, running={"m": 1}, node_class="other")]

    found = placed([model("m", node_classes=frozenset({"h100"}))], nodes)

    assert told(found) == [("a", "m", Cause.RUNS_THERE)]


def test_running_replicas_count_towards_what_is_expected() -> None:
    nodes = [node("a", free_gpus=0, running={"m": 8}), node("b")]

    assert told(placed([model("m", replicas=8)], nodes)) == [("a", "m", Cause.RUNS_THERE)]


def test_copies_are_spread_over_zones() -> None:
    nodes = [node(f"{zone}{n}", zone=zone, free_gpus=free) for zone, free in (("x", 8), ("y", 4)) for n in (1, 2)]

    found = placed([model("m", gpus=4, replicas=3)], nodes)

    assert {assignment.node for assignment in found.assignments} == {"x1", "y1"}


@pytest.mark.parametrize(
    ("age_s", "cause"),
    [(HOLD_S - 1, Cause.HELD_FOR_NOW), (HOLD_S, None), (HOLD_S + 1, None)],
    ids=["just under", "at", "just over"],
)
def test_a_copy_too_many_stays_for_half_an_hour(age_s: float, cause: Cause | None) -> None:
    nodes = [node("a", cached=frozenset({"m"}), assigned={"m": LONG_AGO_S}), node("b", assigned={"m": NOW_S - age_s})]

    found = placed([model("m", replicas=2)], nodes)

    assert [a.cause for a in found.on("b")] == ([cause] if cause else [])
    assert [(drop.node, drop.cause) for drop in found.dropped] == ([] if cause else [("b", Cause.SURPLUS)])


def test_the_time_of_an_assignment_is_kept() -> None:
    nodes = [node("a", assigned={"m": LONG_AGO_S})]

    assert placed([model("m", replicas=1)], nodes).assignments[0].since_s == LONG_AGO_S
    assert placed([model("m", replicas=1)], [node("a")]).assignments[0].since_s == NOW_S


def test_a_node_that_is_away_keeps_its_models_but_another_gets_the_copy() -> None:
    away = node("a", cached=frozenset({"m"}), assigned={"m": LONG_AGO_S}, is_usable=False)

    found = placed([model("m", replicas=1)], [away, node("b")])

    assert told(found) == [("a", "m", Cause.NODE_AWAY), ("b", "m", Cause.FREE_GPUS)]


def test_what_nobody_wants_is_dropped() -> None:
    found = placed([], [node("a", cached=frozenset({"m", "n"}), assigned={"m": LONG_AGO_S})])

    assert [(drop.node, drop.key, drop.cause) for drop in found.dropped] == [("a", "m", Cause.NOT_WANTED)]


def test_least_copies_are_kept_ready_even_where_no_gpu_is_free() -> None:
    nodes = [node("a", free_gpus=0), node("b", free_gpus=0), node("c", free_gpus=0)]

    found = placed([model("m", copies_min=2)], nodes)

    assert told(found) == [("a", "m", Cause.COPIES_MIN), ("b", "m", Cause.COPIES_MIN)]


def test_no_more_copies_than_allowed() -> None:
    found = placed([model("m", replicas=50, copies_max=2)], [node(name) for name in "abcd"])

    assert len(found.assignments) == 2
    assert found.shortfalls == ()  # as asked for


def test_models_choose_in_turn_and_find_the_gpus_that_are_left() -> None:
    models = [model("small", gpus=8, replicas=1, need_ratio=0.5), model("crowd", gpus=8, replicas=2)]

    found = placed(models, [node(name) for name in "abc"])

    assert told(found) == [
        ("a", "crowd", Cause.FREE_GPUS),
        ("b", "crowd", Cause.FREE_GPUS),
        ("c", "small", Cause.FREE_GPUS),
    ]


def test_what_is_only_likely_takes_only_a_share_of_the_gpus() -> None:
    models = [model("sure", gpus=2, replicas=1), model("maybe", gpus=4, replicas=1, need_ratio=0.5)]

    found = placed([*models, model("third", gpus=4, replicas=1, need_ratio=0.1)], [node("a")])

    assert [assignment.key for assignment in found.assignments] == ["maybe", "sure", "third"]


def test_a_roomy_node_found_late_spares_the_others() -> None:
    nodes = [node("a", zone="x", free_gpus=1), node("b", zone="y", free_gpus=8)]

    found = placed([model("m", replicas=8)], nodes)

    assert [assignment.node for assignment in found.assignments] == ["b"]


@pytest.mark.parametrize(
    ("more", "lack", "detail"),
    [
        ({"node_class": "l40s"}, Lack.NO_SUCH_NODE, "of 1 other nodes: 1 NoSuchNode"),
        ({"gpus": 1}, Lack.NO_SUCH_NODE, "of 1 other nodes: 1 NoSuchNode"),
        ({"is_usable": False}, Lack.NO_SUCH_NODE, "of 1 other nodes: 1 NoSuchNode"),
        ({"room_bytes": 10 * GIB - 1}, Lack.NO_ROOM, "of 1 other nodes: 1 NoRoom"),
        ({"free_gpus": 1}, Lack.NO_FREE_GPUS, "of 1 other nodes: 1 NoFreeGpus"),
        (
            {"assigned": {f"m{n}": NOW_S for n in range(FETCHES_MAX)}},
            Lack.BUSY_FETCHING,
            "of 1 other nodes: 1 BusyFetching",
        ),
    ],
    ids=["class", "too few GPUs", "away", "room", "busy GPUs", "busy line"],
)
def test_what_could_not_be_placed_is_told_with_its_reason(more: dict[str, Any], lack: Lack, detail: str) -> None:
    found = placed([model("m", gpus=2, replicas=2, node_classes=frozenset({"h100"}))], [node("a", **more)])

    [short] = found.shortfalls
    assert (short.key, short.replicas, short.lack, short.detail) == ("m", 2, lack, detail)
    assert found.assignments == ()


def test_without_any_node_there_is_nothing_to_explain() -> None:
    assert placed([model("m", replicas=1)], []).shortfalls[0].detail == "no other node"


def test_only_nodes_of_the_selector_are_used() -> None:
    found = placed([model("m", replicas=16, nodes=frozenset({"b"}))], [node("a"), node("b")])

    assert [assignment.node for assignment in found.assignments] == ["b"]


def test_an_assignment_that_the_selector_no_longer_allows_is_dropped() -> None:
    found = placed([model("m", replicas=1, nodes=frozenset({"b"}))], [node("a", assigned={"m": NOW_S}), node("b")])

    assert [(drop.node, drop.cause) for drop in found.dropped] == [("a", Cause.NOT_ALLOWED)]


def test_a_model_without_gpus_needs_one_copy() -> None:
    assert len(placed([model("cpu", gpus=0, replicas=5)], [node("a", gpus=0, free_gpus=0)]).assignments) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gpus": -1}, "a figure is negative"),
        ({"need_ratio": 1.5}, "need_ratio 1.5"),
        ({"copies_min": 3, "copies_max": 2}, "copies_max 2 is below 3"),
    ],
)
def test_demands_that_make_no_sense_cannot_be_built(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model("m", **more)
