"""What one node does next: wanted + inventory + disk → ordered actions with reasons. Pure.

Laws (tests/cacheops/test_plan_laws.py):
* done in order, no action takes the cache above its room, and nothing is fetched while it is above;
* a tree that is in use, pinned or younger than `YOUNG_S` is never evicted;
* planning again after everything was done soon has nothing to do: no tree goes round in circles;
* every wanted model is kept, fetched or waits, and every held tree is kept or evicted: once, with a cause.

The value of having a tree is P(needed before the horizon) × seconds to fetch it × replicas that would wait; what
is worth least per byte goes first, and only for something that is worth clearly more.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cacheops.budget import Disk, Room, room
from cacheops.shelf import Shelf, Slot, cheapest_first, shed
from cacheops.stock import FETCH_PRIOR_BYTES_PER_S, Action, Cause, HeldTree, Inventory, Partial, Verb, WantedTree

YOUNG_S = 600.0  # what was just published gets a chance to be mounted
PARTIAL_KEPT_S = 24 * 3600.0  # a model that nobody wants any more may be wanted again tomorrow
# Worth it only if clearly better: forecasts of equal models differ by noise, and each swap costs a whole fetch.
SWAP_GAIN_RATIO = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one plan."""

    disk: Disk
    warm_bytes: int = 0  # page cache that may be filled ahead of replicas
    given_up: frozenset[str] = frozenset()  # keys of trees to evict though there is room, unless they are wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Actions in the order in which they must be done, and the room they were made for."""

    actions: tuple[Action, ...]
    room: Room
    revisit_at_s: float | None = None  # when time alone changes the plan


def plan(wanted: Sequence[WantedTree], inventory: Inventory, limits: Limits, *, now_s: float) -> Plan:
    """Bring the node's disk towards what is wanted, the most valuable first."""
    line_bytes_per_s = _line_bytes_per_s(wanted)
    models = _by_key(_timed(model, line_bytes_per_s) for model in wanted)
    space = room(limits.disk, held_bytes=inventory.size_bytes)
    missing = _missing(models, inventory)
    discards = _discards(models, inventory, is_tight=_is_tight(missing, space), now_s=now_s)
    guarded, loose = _sorted_out(models, inventory, line_bytes_per_s, now_s)
    dropped, loose = _dropped(loose, limits.given_up)
    freed = [*discards, *dropped]
    relief, loose = _relief(loose, replace(space, held_bytes=space.held_bytes + _growth(freed)))
    fetcher = _Fetcher(Shelf(loose), inventory, free_bytes=space.free_bytes - _growth([*freed, *relief]))
    fetches = [action for model in missing for action in fetcher.bring(model, now_s)]
    held = [*guarded, *fetcher.shelf.left()]
    kept = [_keep(slot) for slot in held]
    actions = (*freed, *relief, *fetches, *_warm_ups(held, models, limits.warm_bytes), *kept)
    return Plan(actions=actions, room=space, revisit_at_s=_revisit_at_s(actions, models, inventory, now_s))


def _line_bytes_per_s(wanted: Iterable[WantedTree]) -> float:
    """The median of what fetches reached: all is valued at one speed, or the measured would lose to the guessed."""
    reached = sorted(model.size_bytes / model.refetch_s for model in wanted if model.refetch_s and model.size_bytes)
    return reached[len(reached) // 2] if reached else FETCH_PRIOR_BYTES_PER_S


def _timed(model: WantedTree, line_bytes_per_s: float) -> WantedTree:
    return model if model.refetch_s is not None else replace(model, refetch_s=model.size_bytes / line_bytes_per_s)


def _by_key(wanted: Iterable[WantedTree]) -> dict[str, WantedTree]:
    models: dict[str, WantedTree] = {}
    for model in wanted:
        if model.key in models:
            raise ValueError(f"model {model.key} is wanted twice: digests {models[model.key].digest}, {model.digest}")
        models[model.key] = model
    return models


def _missing(models: Mapping[str, WantedTree], inventory: Inventory) -> list[WantedTree]:
    """Wanted and not on disk, in the order in which they may have the room."""
    held = {(tree.key, tree.digest) for tree in inventory.trees}
    absent = [model for model in models.values() if (model.key, model.digest) not in held]
    return sorted(absent, key=lambda model: (not model.is_pinned, not model.is_due, -_density(model), model.key))


def _density(model: WantedTree) -> float:
    return model.value_s / max(1, model.size_bytes)


def _growth(actions: Iterable[Action]) -> int:
    return sum(action.grows_bytes for action in actions)


def _is_tight(missing: Iterable[WantedTree], space: Room) -> bool:
    return space.free_bytes < sum(model.size_bytes for model in missing)


def _discards(models: Mapping[str, WantedTree], inventory: Inventory, *, is_tight: bool, now_s: float) -> list[Action]:
    """Partials that nobody waits for: after a day, or when room is short."""
    digests = {model.digest for model in models.values()}
    return [
        _discard(partial, Cause.DISK_PRESSURE if is_tight else Cause.PARTIAL_EXPIRED)
        for partial in inventory.partials
        if partial.digest not in digests and (is_tight or now_s - partial.touched_at_s > PARTIAL_KEPT_S)
    ]


def _discard(partial: Partial, cause: Cause) -> Action:
    return Action(verb=Verb.DISCARD, key="", digest=partial.digest, grows_bytes=-partial.size_bytes, cause=cause)


def _sorted_out(
    models: Mapping[str, WantedTree], inventory: Inventory, line_bytes_per_s: float, now_s: float
) -> tuple[list[Slot], list[Slot]]:
    """Trees that must stay, and those that may go."""
    slots = [_slot(tree, models.get(tree.key), line_bytes_per_s, now_s) for tree in inventory.trees]
    return [slot for slot in slots if slot.guard], [slot for slot in slots if not slot.guard]


def _slot(tree: HeldTree, model: WantedTree | None, line_bytes_per_s: float, now_s: float) -> Slot:
    if model is None or model.digest != tree.digest:  # a revision that was replaced is as good as unwanted
        worth_s = tree.comeback_value_s(now_s, line_bytes_per_s)
        return Slot(tree, worth_s, is_wanted=False, guard=_guard(tree, None, now_s))
    return Slot(tree, model.value_s, is_wanted=True, guard=_guard(tree, model, now_s))


def _guard(tree: HeldTree, model: WantedTree | None, now_s: float) -> Cause | None:
    if tree.leases > 0:
        return Cause.IN_USE
    if tree.kept_for:
        return tree.kept_for
    if tree.is_pinned or (model is not None and model.is_pinned):
        return Cause.PINNED
    return Cause.TOO_YOUNG if now_s - tree.published_at_s < YOUNG_S else None


def _dropped(loose: Sequence[Slot], given_up: frozenset[str]) -> tuple[list[Action], list[Slot]]:
    """Trees whose time is over by order, and the rest."""
    gone: list[Slot] = []
    rest: list[Slot] = []
    for slot in loose:
        (gone if slot.tree.key in given_up and not slot.is_wanted else rest).append(slot)
    return [_evict(slot, Cause.GIVEN_UP, "the controller gave it up") for slot in gone], rest


def _relief(loose: Sequence[Slot], space: Room) -> tuple[list[Action], list[Slot]]:
    """Above the high mark: unwanted trees go down to the low one; wanted ones only as far as the high one asks."""
    if space.free_bytes >= 0:
        return [], list(loose)
    unwanted = cheapest_first(slot for slot in loose if not slot.is_wanted)
    wanted = cheapest_first(slot for slot in loose if slot.is_wanted)
    gone, unwanted = shed(unwanted, space.held_bytes - space.low_bytes)
    freed_bytes = sum(slot.tree.size_bytes for slot in gone)
    if freed_bytes < -space.free_bytes:
        more, wanted = shed(wanted, -space.free_bytes - freed_bytes)
        gone += more
    words = f"the cache holds {_gib(space.held_bytes)} and may hold {_gib(space.high_bytes)}"
    return [_evict(slot, Cause.DISK_PRESSURE, words) for slot in gone], [*unwanted, *wanted]


class _Fetcher:
    """Decides for one missing model after the other, and remembers what that took."""

    def __init__(self, shelf: Shelf, inventory: Inventory, *, free_bytes: int) -> None:
        self.shelf = shelf
        self._free_bytes = free_bytes
        self._staged_bytes = {part.digest: part.size_bytes for part in inventory.partials}
        self._keys = {tree.key for tree in inventory.trees}

    def bring(self, model: WantedTree, now_s: float) -> list[Action]:
        """The evictions that make room and the fetch, or a wait."""
        if model.retry_at_s > now_s:
            return [_wait(model, Cause.BACKING_OFF, f"tried again in {model.retry_at_s - now_s:.0f} s")]
        grows_bytes = max(0, model.size_bytes - self._staged_bytes.get(model.digest, 0))
        short_bytes = grows_bytes - self._free_bytes
        victims = self._victims(model, short_bytes) if grows_bytes and short_bytes > 0 else []
        if victims is None:
            words = (
                f"needs {_gib(grows_bytes)}, {_gib(max(0, self._free_bytes))} are free below the watermark or quota, "
                "and nothing worth less may go"
            )
            return [_wait(model, Cause.INSUFFICIENT_CAPACITY, words)]
        evictions = [
            _evict(slot, Cause.MAKES_ROOM, f"for {model.key}, worth {model.value_s:.1f} s") for slot in victims
        ]
        self._free_bytes -= grows_bytes + _growth(evictions)
        return [*evictions, self._fetch(model, grows_bytes)]

    def _victims(self, model: WantedTree, short_bytes: int) -> list[Slot] | None:
        if model.is_pinned:
            return self.shelf.take(short_bytes)
        below, worth_s = _density(model) / SWAP_GAIN_RATIO, model.value_s / SWAP_GAIN_RATIO
        return self.shelf.take(short_bytes, below=below, worth_s=worth_s)

    def _fetch(self, model: WantedTree, grows_bytes: int) -> Action:
        cause = Cause.REVISION_CHANGED if model.key in self._keys else Cause.WANTED
        cause = Cause.RESUMES if model.digest in self._staged_bytes else cause
        words = f"{model.need_ratio:.0%} likely needed, {model.replicas} replicas would wait: {model.value_s:.1f} s"
        return Action(
            verb=Verb.FETCH,
            key=model.key,
            digest=model.digest,
            grows_bytes=grows_bytes,
            cause=cause,
            value_s=model.value_s,
            detail=words,
        )


def _wait(model: WantedTree, cause: Cause, detail: str) -> Action:
    return Action(verb=Verb.WAIT, key=model.key, digest=model.digest, cause=cause, value_s=model.value_s, detail=detail)


def _evict(slot: Slot, cause: Cause, why: str) -> Action:
    tree = slot.tree
    return Action(
        verb=Verb.EVICT,
        key=tree.key,
        digest=tree.digest,
        grows_bytes=-tree.size_bytes,
        cause=cause,
        value_s=slot.value_s,
        detail=f"worth {slot.value_s:.1f} s{'' if slot.is_wanted else ', not wanted'}; {why}",
    )


def _keep(slot: Slot) -> Action:
    cause = slot.guard or (Cause.WANTED if slot.is_wanted else Cause.ROOM_ENOUGH)
    return Action(verb=Verb.KEEP, key=slot.tree.key, digest=slot.tree.digest, cause=cause, value_s=slot.value_s)


def _warm_ups(held: Iterable[Slot], models: Mapping[str, WantedTree], budget_bytes: int) -> list[Action]:
    """Trees of replicas that start soon, as far as the page cache may be filled with them."""
    due = [slot for slot in held if slot.is_wanted and models[slot.tree.key].is_due]
    budget_bytes -= sum(slot.tree.size_bytes for slot in due if slot.tree.is_warm)
    actions = []
    for slot in sorted(due, key=lambda slot: (-slot.value_s, slot.tree.key)):
        if slot.tree.is_warm or slot.tree.size_bytes > budget_bytes:
            continue
        budget_bytes -= slot.tree.size_bytes
        actions.append(
            Action(
                verb=Verb.WARM,
                key=slot.tree.key,
                digest=slot.tree.digest,
                cause=Cause.STARTS_SOON,
                value_s=slot.value_s,
            )
        )
    return actions


def _revisit_at_s(
    actions: Sequence[Action], models: Mapping[str, WantedTree], inventory: Inventory, now_s: float
) -> float | None:
    """The first time at which age alone would change something."""
    return min((at_s for at_s in _turns(actions, models, inventory) if at_s > now_s), default=None)


def _turns(actions: Sequence[Action], models: Mapping[str, WantedTree], inventory: Inventory) -> Iterator[float]:
    waits = [action for action in actions if action.verb is Verb.WAIT]
    yield from (models[wait.key].retry_at_s for wait in waits)
    if any(wait.cause is Cause.INSUFFICIENT_CAPACITY for wait in waits):
        yield from (tree.published_at_s + YOUNG_S for tree in inventory.trees)
    digests = {model.digest for model in models.values()}
    # The day must be over, not just full.
    yield from (
        math.nextafter(p.touched_at_s + PARTIAL_KEPT_S, math.inf) for p in inventory.partials if p.digest not in digests
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
