"""`warmtide cache evict | pin | unpin DIR MODEL…`: by hand what a node agent does by plan, with the same guards."""

import argparse
from collections.abc import Iterator

from cacheops.commands.choice import key_of
from cacheops.commands.folder import Shelved, shelved
from cacheops.commands.output import GIB, say, size
from cacheops.commands.steps import actions
from cacheops.errors import InvalidRequestError
from cacheops.layout import Layout, discard, open_cache
from cacheops.pins import set_pin
from cacheops.prefetch import is_being_fetched
from cacheops.publish import remove
from cacheops.shelf import Slot, cheapest_first, shed
from cacheops.stock import Action, Cause, HeldTree, Partial, Verb
from metrics.clock import WallClock

BY_HAND = "asked for by hand"


def evict(options: argparse.Namespace) -> int:
    """Take models away, or the least worth until so much is free. What is in use or pinned stays: exit code 1."""
    layout = open_cache(options.root)
    seen = shelved(layout, options.mount_table)
    if bool(options.words) == (options.free_gib is not None):
        raise InvalidRequestError("evict: name models, or how much to free with --free-gib, and not both")
    if options.words:
        todo = [_named(layout, seen, word) for word in options.words]
    else:
        todo = list(_cheapest(layout, seen, int(options.free_gib * GIB)))
    actions(todo, seen.name)
    if not options.dry_run:
        for action in todo:
            _carry_out(layout, seen, action)
    freed_bytes = -sum(action.grows_bytes for action in todo)
    say(f"{'would free' if options.dry_run else 'freed'} {size(freed_bytes)}")
    short = options.free_gib is not None and freed_bytes < options.free_gib * GIB
    return int(short or any(action.verb is Verb.KEEP for action in todo))


def pin(options: argparse.Namespace) -> int:
    """Keep models on this disk whatever the plan says; a URI may be pinned before it is here."""
    return _pin(options, is_pinned=True)


def unpin(options: argparse.Namespace) -> int:
    """Let the plan decide again."""
    return _pin(options, is_pinned=False)


def _pin(options: argparse.Namespace, *, is_pinned: bool) -> int:
    if not options.words:
        raise InvalidRequestError("no model is named: give a key of `ls` or a URI")
    layout = open_cache(options.root)
    seen = shelved(layout)
    for key in [key_of(word, seen.by_key.keys() | seen.pins) for word in options.words]:
        what = "pinned" if is_pinned else "not pinned"
        if (key in seen.pins) == is_pinned:
            say(f"{key} {seen.name(key)}: {what} already")
            continue
        if not options.dry_run:
            set_pin(layout, key, is_pinned=is_pinned)
        effect = "no plan evicts it" if is_pinned else "it goes when its room is needed"
        say(f"{key} {seen.name(key)}: {'would be ' if options.dry_run else ''}{what}: {effect}")
    return 0


def _named(layout: Layout, seen: Shelved, word: str) -> Action:
    """What becomes of one model that was asked to go."""
    staged = [part for part in seen.held.staged if len(word) >= 4 and part.digest.startswith(word)]
    if len(staged) == 1 and not any(key.startswith(word) for key in seen.by_key):
        (part,) = staged
        return _partial(
            layout,
            Partial(digest=part.digest, size_bytes=part.disk_bytes, touched_at_s=part.touched_at_s),
        )
    key = key_of(word, seen.by_key)
    tree = next((tree for tree in seen.inventory(layout).trees if tree.key == key), None)
    if tree is None:
        raise InvalidRequestError(f"model {word}: not published in {layout.root}")
    guard = _guard(tree)
    return _kept(tree, guard) if guard else _gone(tree, BY_HAND)


def _partial(layout: Layout, part: Partial) -> Action:
    if is_being_fetched(layout, part.digest):
        return Action(verb=Verb.KEEP, key="", digest=part.digest, cause=Cause.IN_USE, detail="a process fetches it")
    return Action(
        verb=Verb.DISCARD,
        key="",
        digest=part.digest,
        grows_bytes=-part.size_bytes,
        cause=Cause.MAKES_ROOM,
        detail=BY_HAND,
    )


def _guard(tree: HeldTree) -> Cause | None:
    """What even a person must first undo: a mount, a pin. Youth protects from plans only."""
    return Cause.IN_USE if tree.leases else Cause.PINNED if tree.is_pinned else None


def _cheapest(layout: Layout, seen: Shelved, need_bytes: int) -> Iterator[Action]:
    """Least worth per byte first, until so much is free."""
    now_s = WallClock().now_s()
    slots = [
        Slot(tree, tree.comeback_value_s(now_s), is_wanted=False)
        for tree in seen.inventory(layout).trees
        if _guard(tree) is None
    ]
    chosen, _spared = shed(cheapest_first(slots), need_bytes)
    for slot in chosen:
        yield _gone(slot.tree, f"{BY_HAND}; worth {slot.value_s:.1f} s to whoever comes back")


def _kept(tree: HeldTree, guard: Cause) -> Action:
    detail = "mounted: end who reads it first" if guard is Cause.IN_USE else "unpin it first"
    return Action(verb=Verb.KEEP, key=tree.key, digest=tree.digest, cause=guard, detail=detail)


def _gone(tree: HeldTree, detail: str) -> Action:
    return Action(
        verb=Verb.EVICT,
        key=tree.key,
        digest=tree.digest,
        grows_bytes=-tree.size_bytes,
        cause=Cause.MAKES_ROOM,
        detail=detail,
    )


def _carry_out(layout: Layout, seen: Shelved, action: Action) -> None:
    if action.verb is Verb.EVICT:
        remove(layout, seen.by_key[action.key])
    elif action.verb is Verb.DISCARD:
        discard(layout, layout.staging(action.digest))
