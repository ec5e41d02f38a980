"""Wishes, disk, plan and running fetches → one fact per model. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from cacheops.errors import FailureReason
from cacheops.guard import shown
from cacheops.plan import Plan
from cacheops.stock import Action, HeldTree, Verb
from nodeagent.fetches import Fetch, Fetches
from nodeagent.report import ModelFact, Phase
from nodeagent.store import View
from nodeagent.wishes import Wishes

MENDING = "Mending"
RESOLVING = "Resolving"
WAITS_FOR_PEER = "WaitsForPeer"


def facts_of(wishes: Wishes, view: View, todo: Plan, fetches: Fetches) -> tuple[ModelFact, ...]:
    """What is so for each model, before the plan is carried out."""
    return tuple({fact.key: fact for fact in _facts(wishes, view, todo, fetches)}.values())


def _facts(wishes: Wishes, view: View, todo: Plan, fetches: Fetches) -> Iterator[ModelFact]:
    """Later ones count: of a model whose old revision lies there while the new one comes, the new one is told."""
    held = {(tree.key, tree.digest): tree for tree in view.inventory.trees}
    wanted = {(wish.tree.key, wish.tree.digest) for wish in wishes.ready}
    for action in todo.actions:
        if action.verb in (Verb.KEEP, Verb.EVICT):
            tree = held[action.key, action.digest]
            fact = _held(tree, action, is_wanted=(tree.key, tree.digest) in wanted, fetches=fetches)
            fact = replace(fact, content_digest=view.published[tree.key].content_digest)
            yield _damaged(fact, view, fetches.mending.get(tree.key)) if view.faults(tree.key) else fact
    for action in todo.actions:
        if action.verb in (Verb.FETCH, Verb.WAIT):
            yield _absent(action, wishes, view, fetches.running.get(action.key))
    for ref in wishes.unresolved:
        yield _unresolved(ref.storage_key, view)
    for key, words in wishes.unusable.items():
        yield ModelFact(key=key, phase=Phase.FAILED, reason=FailureReason.INVALID_REQUEST.value, message=words)


def _held(tree: HeldTree, action: Action, *, is_wanted: bool, fetches: Fetches) -> ModelFact:
    phase = Phase.EVICTING if action.verb is Verb.EVICT else Phase.READY if is_wanted else Phase.IDLE
    return ModelFact(
        key=tree.key,
        phase=phase,
        digest=tree.digest,
        reason=action.cause.value,
        message=action.detail,
        size_bytes=tree.size_bytes,
        fetched_bytes=tree.size_bytes,
        fetch_s=fetches.took_s.get(tree.key),
        used_at_s=tree.used_at_s,
        leases=tree.leases,
    )


def _damaged(fact: ModelFact, view: View, mending: Fetch | None) -> ModelFact:
    """Of no use to anybody until it is mended; where nobody wants it, that can wait."""
    if fact.phase is Phase.EVICTING:
        return fact
    failure = view.failures.get(fact.key)
    faults = view.faults(fact.key)
    path, what = next(iter(faults.items()))
    words = f"{len(faults)} of its files damaged, the first: {shown(path)}: {what}"
    reason = failure.reason if failure else FailureReason.INTEGRITY_MISMATCH
    words = f"{words}; {failure.message}" if failure else words
    phase = Phase.FETCHING if mending else Phase.FAILED if fact.phase is Phase.READY else Phase.IDLE
    return replace(
        fact,
        phase=phase,
        reason=MENDING if mending else reason.value,
        message=words,
        bytes_per_s=mending.speed_bytes_per_s if mending else 0.0,
        retry_at_s=failure.retry_at_s if failure else None,
    )


def _absent(action: Action, wishes: Wishes, view: View, fetch: Fetch | None) -> ModelFact:
    size_bytes = next(wish.tree.size_bytes for wish in wishes.ready if wish.tree.key == action.key)
    staged_bytes = {part.digest: part.size_bytes for part in view.inventory.partials}.get(action.digest, 0)
    failure = view.failures.get(action.key)
    if fetch is not None and fetch.waits_for:
        words = ", and gives what it has whole" if fetch.transfer.files else ""
        phase, reason, message = Phase.PENDING, WAITS_FOR_PEER, f"{fetch.waits_for} fetches it for all{words}"
    elif fetch is not None and fetch.has_begun:
        words = f"from {fetch.via}; {action.detail}" if fetch.via else action.detail
        phase, reason, message = Phase.FETCHING, action.cause.value, words
    elif failure is not None:
        phase, reason, message = Phase.FAILED, failure.reason.value, failure.message
    else:
        phase, reason, message = Phase.PENDING, action.cause.value, action.detail
    return ModelFact(
        key=action.key,
        phase=phase,
        digest=action.digest,
        reason=reason,
        message=message,
        size_bytes=size_bytes,
        fetched_bytes=min(size_bytes, fetch.transfer.staged_bytes if fetch else staged_bytes),
        bytes_per_s=fetch.speed_bytes_per_s if fetch else 0.0,
        retry_at_s=failure.retry_at_s if failure and phase is Phase.FAILED else None,
    )


def _unresolved(key: str, view: View) -> ModelFact:
    failure = view.failures.get(key)
    if failure is None:
        return ModelFact(key=key, phase=Phase.PENDING, reason=RESOLVING)
    return ModelFact(
        key=key,
        phase=Phase.FAILED,
        reason=failure.reason.value,
        message=failure.message,
        retry_at_s=failure.retry_at_s,
    )
