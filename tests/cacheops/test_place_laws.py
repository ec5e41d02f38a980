"""What holds for every placement."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cacheops.place import FETCHES_MAX, HOLD_S, Cause, Placement, place
from cacheops.seats import ModelDemand, NodeSeat

NOW_S = 1_000_000.0
KEYS = [f"m{n}" for n in range(6)]
CLASSES = ["h100", "a100"]


# Strategies are made once: made for each draw, they cost most of the time of these tests.
SOME_KEYS = st.lists(st.sampled_from(KEYS), unique=True)
FEW_KEYS = st.lists(st.sampled_from(KEYS), max_size=3)
SIZES = st.integers(0, 50)
GPUS = st.integers(0, 8)
FREE_GPUS = [st.integers(0, gpus) for gpus in range(9)]
CLASS = st.sampled_from(CLASSES)
CLASS_SETS = st.sampled_from([frozenset(), frozenset({"h100"}), frozenset(CLASSES)])
REPLICAS = st.integers(0, 12)
RATIO = st.floats(0, 1)
COPIES_MIN = st.integers(0, 3)
COPIES_MAX = st.none() | st.integers(3, 5)
YES_OR_NO = st.booleans()
ZONES = st.sampled_from("xyz")
ROOMS = st.integers(0, 120)
SINCE = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([NOW_S, NOW_S - HOLD_S]), max_size=3)
RUNNING = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 3), max_size=2)
ONE_OF_SIX = st.integers(0, 5)


@st.composite
def models(draw: st.DrawFn) -> list[ModelDemand]:
    return [
        ModelDemand(
            key=key,
            size_bytes=draw(SIZES),
            gpus=draw(GPUS),
            node_classes=draw(CLASS_SETS),
            replicas=draw(REPLICAS),
            need_ratio=draw(RATIO),
            copies_min=draw(COPIES_MIN),
            copies_max=draw(COPIES_MAX),
            is_pinned=draw(YES_OR_NO),
        )
        for key in draw(SOME_KEYS)
    ]


@st.composite
def nodes(draw: st.DrawFn) -> list[NodeSeat]:
    return [
        NodeSeat(
            name=f"n{number}",
            node_class=draw(CLASS),
            zone=draw(ZONES),
            gpus=(gpus := draw(GPUS)),
            free_gpus=draw(FREE_GPUS[gpus]),
            room_bytes=draw(ROOMS),
            cached=frozenset(draw(FEW_KEYS)),
            assigned=draw(SINCE),
            running=draw(RUNNING),
            is_usable=draw(ONE_OF_SIX) > 0,
        )
        for number in range(draw(GPUS))
    ]


def assigned(found: Placement) -> set[tuple[str, str]]:
    return {(assignment.node, assignment.key) for assignment in found.assignments}


def carried_out(found: Placement, seats: list[NodeSeat], *, later_s: float = 0.0) -> list[NodeSeat]:
    """The nodes once they were told, and so much later."""
    return [
        replace(seat, assigned={a.key: a.since_s - later_s for a in found.assignments if a.node == seat.name})
        for seat in seats
    ]


@given(demand=models(), seats=nodes())
def test_the_models_of_a_node_fit_its_room_and_run_only_where_they_may(
    demand: list[ModelDemand], seats: list[NodeSeat]
) -> None:
    found = place(demand, seats, now_s=NOW_S)

    by_key = {model.key: model for model in demand}
    exempt = (Cause.RUNS_THERE, Cause.NODE_AWAY)  # there already, and not to be taken away
    for seat in seats:
        here = found.on(seat.name)
        used_bytes = sum(by_key[a.key].size_bytes for a in here)
        assert used_bytes <= seat.room_bytes or any(a.cause in exempt for a in here)
        assert sum(a.cause in (Cause.FREE_GPUS, Cause.COPIES_MIN) for a in here) <= FETCHES_MAX
        for assignment in here:
            model = by_key[assignment.key]
            is_allowed = seat.gpus >= model.gpus and seat.node_class in (model.node_classes or CLASSES)
            assert assignment.cause in exempt or (seat.is_usable and is_allowed)


@given(demand=models(), seats=nodes())
def test_every_assignment_of_before_is_kept_or_dropped_with_a_reason(
    demand: list[ModelDemand], seats: list[NodeSeat]
) -> None:
    found = place(demand, seats, now_s=NOW_S)

    before = {(seat.name, key) for seat in seats for key in seat.assigned}
    dropped = {(drop.node, drop.key) for drop in found.dropped}
    assert dropped <= before
    assert before == (before & assigned(found)) | dropped
    assert not dropped & assigned(found)


@given(demand=models(), seats=nodes())
def test_what_runs_is_assigned_where_it_runs(demand: list[ModelDemand], seats: list[NodeSeat]) -> None:
    wanted = {model.key for model in demand}

    found = assigned(place(demand, seats, now_s=NOW_S))

    assert {(seat.name, key) for seat in seats for key in seat.running if key in wanted} <= found


@given(demand=models(), seats=nodes())
def test_placing_again_changes_nothing(demand: list[ModelDemand], seats: list[NodeSeat]) -> None:
    first = place(demand, seats, now_s=NOW_S)
    second = place(demand, carried_out(first, seats), now_s=NOW_S)

    fresh = {(a.node, a.key) for a in second.assignments if a.cause in (Cause.FREE_GPUS, Cause.COPIES_MIN)}
    assert second.dropped == () or first.dropped != ()
    assert fresh == set() or first.dropped != () or first.shortfalls != ()


@given(demand=models(), seats=nodes())
def test_the_same_demand_comes_to_rest_for_good(demand: list[ModelDemand], seats: list[NodeSeat]) -> None:
    for _round in range(8):
        found = place(demand, seats, now_s=NOW_S)
        told = carried_out(found, seats, later_s=2 * HOLD_S)
        if [set(seat.assigned) for seat in told] == [set(seat.assigned) for seat in seats]:
            return
        seats = told
    raise AssertionError("models wander for ever")


@given(demand=models(), seats=nodes(), seed=st.integers())
def test_the_order_of_models_and_nodes_does_not_matter(
    demand: list[ModelDemand], seats: list[NodeSeat], seed: int
) -> None:
    found = place(demand, seats, now_s=NOW_S)
    Random(seed).shuffle(demand)
    Random(seed).shuffle(seats)

    again = place(demand, seats, now_s=NOW_S)

    assert again == found


@given(demand=models(), seats=nodes())
def test_a_model_short_of_places_says_what_is_missing(demand: list[ModelDemand], seats: list[NodeSeat]) -> None:
    found = place(demand, seats, now_s=NOW_S)

    for short in found.shortfalls:
        assert short.replicas > 0 or short.copies > 0
        assert short.detail
