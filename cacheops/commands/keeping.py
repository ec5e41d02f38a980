"""`warmtide cache evict | pin | unpin DIR MODEL…`: by hand what a node agent does by plan, with the same guards."""

import argparse
from collections.abc import Iterator

from cacheops.commands.choice import key_of
from cacheops.commands.folder import Shelved, shelved
from cacheops.commands.output import GIB, say, size
from cacheops.commands.steps import actions
from cacheops.errors import InvalidRequestError
from cacheops.layout import Layout, check_sentinel, discard, look_at, open_cache
from cacheops.model import storage_key
from cacheops.pins import set_pin
from cacheops.prefetch import forget_failure, is_being_fetched, read_failure
from cacheops.publish import remove
from cacheops.shelf import Slot, cheapest_first, shed
from cacheops.stock import Action, Cause, HeldTree, Partial, Verb
from metrics.clock import WallClock

BY_HAND = "asked for by hand"


def evict(options: argparse.Namespace) -> int:
    """Take models away, or the least worth until so much is free. What is in use or pinned stays: exit code 1."""
    if bool(options.words) == (options.free_gib is not None):
        raise InvalidRequestError("evict: name models, or how much to free with --free-gib, and not both")
    layout = look_at(options.root)
    seen = shelved(layout, options.mount_table)
    need_bytes = int((options.free_gib or 0.0) * GIB)
    if options.words:
        todo = [_named(layout, seen, word) for word in _without_failures(layout, options)]
    else:
        todo = _to_free(layout, seen, need_bytes)
    if any(action.verb is not Verb.KEEP for action in todo):
        _check_claim(layout, options)
    if todo:
        actions(todo, seen.name)
    if not options.dry_run:
        for action in todo:
            _carry_out(layout, seen, action)
    freed_bytes = -sum(action.grows_bytes for action in todo)
    is_short = freed_bytes < need_bytes
    _say_freed(seen, freed_bytes, need_bytes, is_dry=options.dry_run)
    return int(is_short or (bool(options.words) and any(action.verb is Verb.KEEP for action in todo)))


def _say_freed(seen: Shelved, freed_bytes: int, need_bytes: int, *, is_dry: bool) -> None:
    freed = f"{'would free' if is_dry else 'freed'} {size(freed_bytes)}"
    if freed_bytes >= need_bytes:
        say(freed)
        return
    held = "what else is here must stay" if seen.held.trees else "no model is here"
    say(f"{freed} of {size(need_bytes)}: {held}")
    if seen.held.staged:
        say(f"{size(seen.staged_bytes)} more are of unfinished fetches: evict them by their digests in `ls`")


def _check_claim(layout: Layout, options: argparse.Namespace) -> None:
    """Nothing goes, not even in a dry run, from a folder that nobody claimed."""
    if not options.claim:
        check_sentinel(layout)
    elif not options.dry_run:
        open_cache(layout.root, claim=True)


def _without_failures(layout: Layout, options: argparse.Namespace) -> Iterator[str]:
    """The words that mean models; a URI that only ever failed is forgotten here."""
    for word in options.words:
        key = storage_key(word)
        if layout.tree(key).exists() or read_failure(layout, key) is None:
            yield word
            continue
        if not options.dry_run:
            forget_failure(layout, key)
        say(f"{word}: its failure {'would be' if options.dry_run else 'is'} forgotten; nothing of it was published")


def pin(options: argparse.Namespace) -> int:
    """Keep models on this disk whatever the plan says; a URI may be pinned before it is here."""
    return _pin(options, is_pinned=True)


def unpin(options: argparse.Namespace) -> int:
    """Let the plan decide again."""
    return _pin(options, is_pinned=False)


def _pin(options: argparse.Namespace, *, is_pinned: bool) -> int:
    if not options.words:
        raise InvalidRequestError("no model is named: give a key of `ls` or a URI")
    makes_cache = is_pinned and not options.dry_run  # a pin may come before the first model
    layout = open_cache(options.root) if makes_cache else look_at(options.root, may_be_missing=is_pinned)
    seen = shelved(layout)
    for word in options.words:
        key = key_of(word, seen.by_key.keys() | seen.pins)
        name = f"{key} {word if '://' in word else seen.name(key)}"
        if (key in seen.pins) == is_pinned:
            say(f"{name}: {'pinned already' if is_pinned else 'was not pinned'}")
            continue
        if not options.dry_run:
            set_pin(layout, key, is_pinned=is_pinned)
        what = f"{'would be ' if options.dry_run else ''}pinned: no plan evicts it"
        if not is_pinned:
            what = f"{'would no longer be' if options.dry_run else 'no longer'} pinned: it goes when its room is needed"
        say(f"{name}: {what}")
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


def _to_free(layout: Layout, seen: Shelved, need_bytes: int) -> list[Action]:
    """Least worth per byte first, until so much is free; where all of that is too little, what stays and why."""
    now_s = WallClock().now_s()
    trees = seen.inventory(layout).trees
    guarded = [_kept(tree, guard) for tree in trees if (guard := _guard(tree))]
    slots = [Slot(tree, tree.comeback_value_s(now_s), is_wanted=False) for tree in trees if _guard(tree) is None]
    chosen, _spared = shed(cheapest_first(slots), need_bytes)
    gone = [_gone(slot.tree, f"{BY_HAND}; worth {slot.value_s:.1f} s to whoever comes back") for slot in chosen]
    return gone if sum(slot.tree.size_bytes for slot in chosen) >= need_bytes else gone + guarded


def _kept(tree: HeldTree, guard: Cause) -> Action:
    mounted, pinned = "mounted: end who reads it first", "pinned by `warmtide cache pin`: unpin it first"
    detail = mounted if guard is Cause.IN_USE else pinned
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
