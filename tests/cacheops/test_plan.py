"""What a node fetches, keeps, evicts and warms, case by case."""

from dataclasses import replace
from typing import Any

import pytest

from cacheops.budget import Disk
from cacheops.plan import PARTIAL_KEPT_S, SWAP_GAIN_RATIO, YOUNG_S, Limits, Plan, plan
from cacheops.stock import Cause, HeldTree, Inventory, Partial, Verb, WantedTree

GIB = 2**30
NOW_S = 1_000_000.0


def want(key: str, gib: float = 10, **more: Any) -> WantedTree:
    return WantedTree(key=key, digest=more.pop("digest", f"d-{key}"), size_bytes=int(gib * GIB), **more)


def have(key: str, gib: float = 10, **more: Any) -> HeldTree:
    usual = HeldTree(key=key, digest=f"d-{key}", size_bytes=int(gib * GIB), published_at_s=NOW_S - 7 * 86_400)
    return replace(usual, **more)


def disk(quota_gib: float, **more: Any) -> Disk:
    """A disk of a TiB with nothing else on it: only the quota binds."""
    return Disk(capacity_bytes=1024 * GIB, free_bytes=1024 * GIB, quota_bytes=int(quota_gib * GIB), **more)


def planned(
    *wanted: WantedTree, held: tuple[HeldTree, ...] = (), partials: tuple[Partial, ...] = (), **limits: Any
) -> Plan:
    limits.setdefault("disk", disk(100))
    return plan(wanted, Inventory(trees=held, partials=partials), Limits(**limits), now_s=NOW_S)


def told(found: Plan) -> list[tuple[Verb, str, Cause]]:
    return [(action.verb, action.key or action.digest, action.cause) for action in found.actions]


def test_what_is_wanted_and_absent_is_fetched_the_most_valuable_byte_first() -> None:
    found = planned(want("rare", need_ratio=0.1), want("sure"), want("crowd", replicas=8))

    assert told(found) == [(Verb.FETCH, key, Cause.WANTED) for key in ("crowd", "sure", "rare")]


def test_a_pinned_model_comes_first_then_the_one_of_replicas_that_start_soon() -> None:
    found = planned(want("crowd", replicas=8), want("due", need_ratio=0.5, is_due=True), want("pin", is_pinned=True))

    assert [action.key for action in found.actions] == ["pin", "due", "crowd"]


def test_what_is_there_is_kept_and_says_why() -> None:
    held = (
        have("wanted"),
        have("mounted", leases=2),
        have("pinned", is_pinned=True),
        have("fresh", published_at_s=NOW_S - 5),
        have("idle"),
    )

    found = planned(want("wanted"), held=held)

    assert {(key, cause) for _verb, key, cause in told(found)} == {
        ("wanted", Cause.WANTED),
        ("mounted", Cause.IN_USE),
        ("pinned", Cause.PINNED),
        ("fresh", Cause.TOO_YOUNG),
        ("idle", Cause.ROOM_ENOUGH),
    }


def test_idle_trees_stay_until_their_room_is_needed_and_the_longest_idle_goes_first() -> None:
    held = (have("old", 40, used_at_s=NOW_S - 5 * 86_400), have("recent", 40, used_at_s=NOW_S - 3600))

    found = planned(want("new", 40), held=held)

    assert told(found) == [
        (Verb.EVICT, "old", Cause.MAKES_ROOM),
        (Verb.FETCH, "new", Cause.WANTED),
        (Verb.KEEP, "recent", Cause.ROOM_ENOUGH),
    ]


@pytest.mark.parametrize(
    ("gain", "is_swapped"),
    [(SWAP_GAIN_RATIO * 0.99, False), (SWAP_GAIN_RATIO, False), (SWAP_GAIN_RATIO * 1.01, True)],
    ids=["just under", "at", "just over"],
)
def test_a_wanted_tree_makes_room_only_for_something_clearly_better(gain: float, is_swapped: bool) -> None:
    kept = want("kept", 60, need_ratio=0.5, refetch_s=100.0)
    better = want("better", 60, need_ratio=0.5, refetch_s=100.0 * gain)

    found = planned(kept, better, held=(have("kept", 60),))

    assert ((Verb.EVICT, "kept", Cause.MAKES_ROOM) in told(found)) is is_swapped
    assert ((Verb.WAIT, "better", Cause.INSUFFICIENT_CAPACITY) in told(found)) is not is_swapped


def test_a_small_model_does_not_push_out_a_large_one_that_is_worth_more_as_a_whole() -> None:
    big = want("big", 90, need_ratio=0.5)
    small = want("small", 20)  # twice the value per byte, less than half of the value

    found = planned(big, small, held=(have("big", 90),))

    assert told(found) == [(Verb.WAIT, "small", Cause.INSUFFICIENT_CAPACITY), (Verb.KEEP, "big", Cause.WANTED)]


def test_only_as_much_goes_as_is_needed() -> None:
    held = (have("a", 10, used_at_s=NOW_S - 90_000), have("b", 40, used_at_s=NOW_S - 80_000), have("c", 40))

    found = planned(want("new", 45), held=held)

    assert [action.key for action in found.actions if action.verb is Verb.EVICT] == ["c"]


@pytest.mark.parametrize(
    "guard",
    [{"leases": 1}, {"is_pinned": True}, {"published_at_s": NOW_S - YOUNG_S + 1}],
    ids=["mounted", "pinned", "young"],
)
def test_a_guarded_tree_makes_no_room_even_for_a_pinned_model(guard: dict[str, Any]) -> None:
    found = planned(want("pin", 60, is_pinned=True), held=(have("held", 60, **guard),))

    assert (Verb.WAIT, "pin", Cause.INSUFFICIENT_CAPACITY) in told(found)


def test_a_tree_is_young_for_ten_minutes_and_the_plan_says_when_that_ends() -> None:
    held = have("held", 60, published_at_s=NOW_S - YOUNG_S + 1)

    found = planned(want("pin", 60, is_pinned=True), held=(held,))
    later = plan(
        [want("pin", 60, is_pinned=True)],
        Inventory(trees=(held,)),
        Limits(disk=disk(100)),
        now_s=found.revisit_at_s or 0.0,
    )

    assert found.revisit_at_s == NOW_S + 1
    assert [action.verb for action in later.actions] == [Verb.EVICT, Verb.FETCH]


def test_a_model_too_large_for_the_room_evicts_nothing() -> None:
    found = planned(want("huge", 200, is_pinned=True), held=(have("idle", 50),))

    assert told(found) == [
        (Verb.WAIT, "huge", Cause.INSUFFICIENT_CAPACITY),
        (Verb.KEEP, "idle", Cause.ROOM_ENOUGH),
    ]
    assert "needs 200.0 GiB, 50.0 GiB are free" in found.actions[0].detail


def test_a_smaller_model_is_fetched_where_the_larger_one_does_not_fit() -> None:
    found = planned(want("huge", 200, replicas=50), want("small", 20))

    assert told(found) == [
        (Verb.WAIT, "huge", Cause.INSUFFICIENT_CAPACITY),
        (Verb.FETCH, "small", Cause.WANTED),
    ]


def test_a_failed_fetch_waits_for_its_time_and_takes_no_room_meanwhile() -> None:
    found = planned(want("failed", 60, retry_at_s=NOW_S + 90), held=(have("idle", 60),))

    assert told(found) == [(Verb.WAIT, "failed", Cause.BACKING_OFF), (Verb.KEEP, "idle", Cause.ROOM_ENOUGH)]
    assert found.revisit_at_s == NOW_S + 90


def test_what_is_staged_already_needs_no_room_twice() -> None:
    partial = Partial(digest="d-model", size_bytes=70 * GIB, touched_at_s=NOW_S - 60)

    found = planned(want("model", 90), partials=(partial,))

    assert told(found) == [(Verb.FETCH, "model", Cause.RESUMES)]
    assert found.actions[0].grows_bytes == 20 * GIB


def test_a_new_revision_is_fetched_beside_the_old_one_which_goes_first_when_room_is_short() -> None:
    roomy = planned(want("model", 40, digest="new"), held=(have("model", 40, digest="old"),))
    tight = planned(want("model", 60, digest="new"), held=(have("model", 60, digest="old"),))

    assert told(roomy) == [(Verb.FETCH, "model", Cause.REVISION_CHANGED), (Verb.KEEP, "model", Cause.ROOM_ENOUGH)]
    assert told(tight) == [(Verb.EVICT, "model", Cause.MAKES_ROOM), (Verb.FETCH, "model", Cause.REVISION_CHANGED)]


@pytest.mark.parametrize(
    ("age_s", "is_discarded"),
    [(PARTIAL_KEPT_S - 1, False), (PARTIAL_KEPT_S, False), (PARTIAL_KEPT_S + 1, True)],
    ids=["just under", "at", "just over"],
)
def test_a_partial_that_nobody_wants_is_kept_for_a_day(age_s: float, is_discarded: bool) -> None:
    found = planned(partials=(Partial(digest="left", size_bytes=GIB, touched_at_s=NOW_S - age_s),))

    assert told(found) == ([(Verb.DISCARD, "left", Cause.PARTIAL_EXPIRED)] if is_discarded else [])


def test_a_partial_that_nobody_wants_goes_at_once_when_room_is_short() -> None:
    partial = Partial(digest="left", size_bytes=30 * GIB, touched_at_s=NOW_S - 60)

    found = planned(want("model", 90), partials=(partial,))

    assert told(found) == [(Verb.DISCARD, "left", Cause.DISK_PRESSURE), (Verb.FETCH, "model", Cause.WANTED)]


def test_above_the_high_mark_unwanted_trees_go_down_to_the_low_one() -> None:
    full = Disk(capacity_bytes=1000 * GIB, free_bytes=190 * GIB)
    days = [(f"t{n:02}", NOW_S - 43_200 * n) for n in range(15)]  # 810 GiB in use
    held = tuple(have(key, 54, published_at_s=0.0, used_at_s=used_at_s) for key, used_at_s in days)

    found = planned(disk=full, held=held)

    evicted = [action for action in found.actions if action.verb is Verb.EVICT]
    assert [(action.key, action.cause) for action in evicted] == [
        (key, Cause.DISK_PRESSURE) for key in ("t14", "t13", "t12")
    ]
    assert 810 * GIB + sum(action.grows_bytes for action in evicted) <= 700 * GIB


def test_wanted_trees_go_only_as_far_as_the_high_mark_asks() -> None:
    full = Disk(capacity_bytes=1000 * GIB, free_bytes=190 * GIB)
    wanted = [want(f"t{n:02}", 54, need_ratio=(n + 1) / 20) for n in range(15)]

    found = planned(*wanted, disk=full, held=tuple(have(model.key, 54) for model in wanted))

    assert [action.key for action in found.actions if action.verb is Verb.EVICT] == ["t00"]


def test_what_others_wrote_on_the_disk_takes_the_cache_s_room() -> None:
    crowded = Disk(capacity_bytes=1000 * GIB, free_bytes=300 * GIB)

    found = planned(want("model", 110), disk=crowded)

    assert (found.room.high_bytes, found.room.low_bytes) == (100 * GIB, 0)
    assert told(found) == [(Verb.WAIT, "model", Cause.INSUFFICIENT_CAPACITY)]


@pytest.mark.parametrize(
    ("more", "high_gib"),
    [
        ({}, 800),
        ({"high_ratio": 0.95, "low_ratio": 0.9}, 800),  # image GC at 85 %, less 5 points
        ({"high_ratio": 0.95, "low_ratio": 0.9, "kubelet_image_gc_ratio": 1.0}, 850),  # 10 % free, less 5 points
        ({"kubelet_free_ratio": 0.4}, 550),
        ({"quota_bytes": 300 * GIB}, 300),
    ],
    ids=["as set", "image collection", "eviction", "a strict kubelet", "quota"],
)
def test_the_mark_stays_five_points_below_the_kubelet_s_own(more: dict[str, Any], high_gib: int) -> None:
    found = planned(disk=Disk(capacity_bytes=1000 * GIB, free_bytes=1000 * GIB, **more))

    assert round(found.room.high_bytes / GIB) == high_gib
    assert found.room.low_bytes <= found.room.high_bytes


def test_a_disk_of_its_own_is_filled_to_its_watermark() -> None:
    shared = Disk(capacity_bytes=1000 * GIB, free_bytes=1000 * GIB, high_ratio=0.95, low_ratio=0.9)

    assert round(planned(disk=shared.unshared()).room.high_bytes / GIB) == 950


def test_trees_of_replicas_that_start_soon_are_warmed_within_the_memory_given() -> None:
    wanted = [want("a", 30, is_due=True), want("b", 30, is_due=True, replicas=3), want("c", 10, is_due=True), want("d")]
    held = (have("a", 30), have("b", 30), have("c", 10, is_warm=True), have("d"))

    found = planned(*wanted, held=held, warm_bytes=45 * GIB)

    assert [action.key for action in found.actions if action.verb is Verb.WARM] == ["b"]


def test_a_model_that_is_wanted_twice_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="model a is wanted twice: digests x, y"):
        planned(want("a", digest="x"), want("a", digest="y"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: want("a", need_ratio=1.1), "need_ratio 1.1"),
        (lambda: want("a", replicas=-1), "replicas -1"),
        (lambda: Disk(capacity_bytes=1, free_bytes=2), "free_bytes 2"),
        (lambda: Disk(capacity_bytes=1, free_bytes=1, quota_bytes=-1), "quota_bytes -1"),
        (lambda: Disk(capacity_bytes=1, free_bytes=1, low_ratio=0.9), "watermarks 0.9 and 0.8"),
    ],
)
def test_values_that_make_no_sense_cannot_be_built(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("refetch_s", [60.0, 5.0, 0.5], ids=["slow", "fast", "faster"])
def test_a_fast_line_makes_what_nobody_wants_as_cheap_as_what_is_wanted(refetch_s: float) -> None:
    found = planned(want("sure", 80, refetch_s=refetch_s), held=(have("idle", 80, used_at_s=NOW_S - 700),))

    assert told(found) == [(Verb.EVICT, "idle", Cause.MAKES_ROOM), (Verb.FETCH, "sure", Cause.WANTED)]


def test_a_model_whose_fetch_nobody_measured_is_worth_what_the_line_makes_it() -> None:
    found = planned(want("known", 10, refetch_s=1.0, replicas=2), want("new", 10))

    assert [action.key for action in found.actions] == ["known", "new"]
    assert found.actions[1].value_s == pytest.approx(1.0)
