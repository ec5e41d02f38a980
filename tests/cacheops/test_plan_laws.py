"""What holds for every plan."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cacheops.budget import Disk
from cacheops.plan import YOUNG_S, Limits, Plan, plan
from cacheops.stock import Action, HeldTree, Inventory, Partial, Verb, WantedTree

NOW_S = 1_000_000.0
KEYS = [f"k{n}" for n in range(12)]
SIZES = st.integers(0, 400)
# Strategies are made once: made for each draw, they cost most of the time of these tests.
AGES_S = st.sampled_from([0.0, 1.0, YOUNG_S - 1, YOUNG_S, 3600.0, 90_000.0, 900_000.0])
WANTED_KEYS = st.lists(st.sampled_from(KEYS), unique=True, max_size=12)
HELD_NAMES = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from("ab")), unique=True, max_size=16)
LEFT = st.lists(st.sampled_from([f"{key}-a" for key in KEYS] + ["other"]), unique=True, max_size=3)
REVISION = st.sampled_from("ab")
RATIO = st.floats(0, 1)
REFETCH_S = st.none() | st.floats(0, 1000)
REPLICAS = st.integers(0, 9)
ONE_OF_SIX = st.integers(0, 5)
ONE_OF_SEVEN = st.integers(0, 6)
YES_OR_NO = st.booleans()
RETRY_AT_S = st.sampled_from([0.0, 0.0, 0.0, NOW_S + 60])
USED_AT_S = st.none() | AGES_S.map(lambda age_s: NOW_S - age_s)
LEASES = st.sampled_from([0, 0, 0, 1, 3])
FOREIGN = st.integers(0, 1000)
QUOTA = st.none() | st.integers(0, 4000)
WARM = st.integers(0, 800)


@st.composite
def wanted_trees(draw: st.DrawFn) -> list[WantedTree]:
    keys = draw(WANTED_KEYS)
    return [
        WantedTree(
            key=key,
            digest=f"{key}-{draw(REVISION)}",
            size_bytes=draw(SIZES),
            need_ratio=draw(RATIO),
            refetch_s=draw(REFETCH_S),
            replicas=draw(REPLICAS),
            is_pinned=draw(ONE_OF_SIX) == 0,
            is_due=draw(YES_OR_NO),
            retry_at_s=draw(RETRY_AT_S),
        )
        for key in keys
    ]


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    names = draw(HELD_NAMES)
    trees = [
        HeldTree(
            key=key,
            digest=f"{key}-{revision}",
            size_bytes=draw(SIZES),
            published_at_s=NOW_S - draw(AGES_S),
            used_at_s=draw(USED_AT_S),
            leases=draw(LEASES),
            is_pinned=draw(ONE_OF_SEVEN) == 0,
        )
        for key, revision in names
    ]
    held = {tree.digest for tree in trees}
    left = draw(LEFT)
    partials = [
        Partial(digest=digest, size_bytes=draw(SIZES), touched_at_s=NOW_S - draw(AGES_S))
        for digest in left
        if digest not in held
    ]
    return Inventory(trees=tuple(trees), partials=tuple(partials))


@st.composite
def limits(draw: st.DrawFn, inventory: Inventory) -> Limits:
    foreign = draw(FOREIGN)
    capacity = draw(st.integers(inventory.size_bytes + foreign, 6000))
    free = capacity - inventory.size_bytes - foreign
    quota = draw(QUOTA)
    disk = Disk(capacity_bytes=capacity, free_bytes=free, quota_bytes=quota)
    return Limits(disk=disk, warm_bytes=draw(WARM))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[WantedTree], Inventory, Limits]:
    inventory = draw(inventories())
    return draw(wanted_trees()), inventory, draw(limits(inventory))


def carried_out(actions: tuple[Action, ...], wanted: list[WantedTree], inventory: Inventory) -> Inventory:
    """What is on the disk after a plan: everything succeeded."""
    trees = {(tree.key, tree.digest): tree for tree in inventory.trees}
    partials = {partial.digest: partial for partial in inventory.partials}
    sizes = {(model.key, model.digest): model.size_bytes for model in wanted}
    for action in actions:
        name = (action.key, action.digest)
        match action.verb:
            case Verb.EVICT:
                del trees[name]
            case Verb.DISCARD:
                del partials[action.digest]
            case Verb.FETCH:
                partials.pop(action.digest, None)
                trees[name] = HeldTree(
                    key=action.key, digest=action.digest, size_bytes=sizes[name], published_at_s=NOW_S
                )
            case Verb.WARM:
                trees[name] = replace(trees[name], is_warm=True)
    return Inventory(trees=tuple(trees.values()), partials=tuple(partials.values()))


def planned(case: tuple[list[WantedTree], Inventory, Limits]) -> Plan:
    wanted, inventory, bounds = case
    return plan(wanted, inventory, bounds, now_s=NOW_S)


@given(case=cases())
def test_nothing_is_brought_that_takes_the_cache_above_its_room(
    case: tuple[list[WantedTree], Inventory, Limits],
) -> None:
    found = planned(case)

    held_bytes = case[1].size_bytes
    for action in found.actions:
        held_bytes += action.grows_bytes
        assert action.grows_bytes <= 0 or held_bytes <= found.room.high_bytes


@given(case=cases())
def test_no_tree_that_is_in_use_pinned_or_young_is_evicted(
    case: tuple[list[WantedTree], Inventory, Limits],
) -> None:
    wanted, inventory, _bounds = case
    pinned = {(model.key, model.digest) for model in wanted if model.is_pinned}

    evicted = {(action.key, action.digest) for action in planned(case).actions if action.verb is Verb.EVICT}

    for tree in inventory.trees:
        if (tree.key, tree.digest) in evicted:
            assert tree.leases == 0
            assert not tree.is_pinned
            assert (tree.key, tree.digest) not in pinned
            assert NOW_S - tree.published_at_s >= YOUNG_S


@given(case=cases())
def test_every_model_and_every_tree_is_accounted_for_once(
    case: tuple[list[WantedTree], Inventory, Limits],
) -> None:
    wanted, inventory, _bounds = case

    actions = planned(case).actions

    held = [(a.key, a.digest) for a in actions if a.verb in (Verb.KEEP, Verb.EVICT)]
    assert sorted(held) == sorted((tree.key, tree.digest) for tree in inventory.trees)
    absent = {(model.key, model.digest) for model in wanted} - set(held)
    assert sorted((a.key, a.digest) for a in actions if a.verb in (Verb.FETCH, Verb.WAIT)) == sorted(absent)


@given(case=cases())
def test_above_the_room_everything_that_may_go_goes_before_anything_comes(
    case: tuple[list[WantedTree], Inventory, Limits],
) -> None:
    found = planned(case)
    after = carried_out(found.actions, case[0], case[1])

    if after.size_bytes > found.room.high_bytes:
        assert all(action.grows_bytes <= 0 for action in found.actions)
        free_to_go = [a for a in found.actions if a.verb is Verb.KEEP and a.cause in ("Wanted", "RoomEnough")]
        assert [a for a in free_to_go if sizes(after)[a.key, a.digest] > 0] == []


def sizes(inventory: Inventory) -> dict[tuple[str, str], int]:
    return {(tree.key, tree.digest): tree.size_bytes for tree in inventory.trees}


@settings(max_examples=200)
@given(case=cases())
def test_planning_again_soon_has_nothing_left_to_do_and_nothing_goes_round_in_circles(
    case: tuple[list[WantedTree], Inventory, Limits],
) -> None:
    wanted, inventory, bounds = case
    fetched: set[tuple[str, str]] = set()
    for _round in range(len(wanted) + 2):
        found = plan(wanted, inventory, bounds, now_s=NOW_S)
        changes = [action for action in found.actions if action.verb not in (Verb.KEEP, Verb.WAIT)]
        if not changes:
            return
        brought = {(action.key, action.digest) for action in changes if action.verb is Verb.FETCH}
        gone = {(action.key, action.digest) for action in changes if action.verb is Verb.EVICT}
        assert not brought & fetched
        assert not gone & fetched
        fetched |= brought
        before_bytes = inventory.size_bytes
        inventory = carried_out(found.actions, wanted, inventory)
        free_bytes = bounds.disk.free_bytes + before_bytes - inventory.size_bytes
        bounds = replace(bounds, disk=replace(bounds.disk, free_bytes=free_bytes))
    raise AssertionError("the plan never comes to rest")


@given(case=cases(), seed=st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_listed_changes_nothing(
    case: tuple[list[WantedTree], Inventory, Limits], seed: object
) -> None:
    wanted, inventory, bounds = case
    trees, models = list(inventory.trees), list(wanted)
    seed.shuffle(trees)  # type: ignore[attr-defined]
    seed.shuffle(models)  # type: ignore[attr-defined]

    again = plan(models, replace(inventory, trees=tuple(trees)), bounds, now_s=NOW_S)

    def key(action: Action) -> tuple[str, str, str]:
        return (action.verb, action.key, action.digest)

    changes = [action for action in planned(case).actions if action.verb is not Verb.KEEP]
    assert [action for action in again.actions if action.verb is not Verb.KEEP] == changes
    assert sorted(again.actions, key=key) == sorted(planned(case).actions, key=key)
