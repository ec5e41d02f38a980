"""A memory read back after a restart or a change of leaders: whatever was lost meanwhile, nothing shrinks by it."""

from dataclasses import replace

from autoscaler.policy.behavior import changed, wished
from autoscaler.policy.memory import UNWATCHED_S, Memory, shifted


def resumed(memory: Memory, replicas: int, now_s: float) -> Memory:
    """The memory as of now, with the replicas there are as the wish in effect.

    The last minute before a crash is not in the status. If it held a higher wish, only the replicas still tell; so
    they count as wished for now, and hold for a whole stabilisation window, as those of a fresh memory do.
    """
    away_s = now_s - memory.decided_at_s
    current = memory if 0 <= away_s <= UNWATCHED_S else shifted(memory, away_s)
    added = replicas - current.seen_replicas
    return replace(
        current,
        decided_at_s=now_s,
        seen_replicas=replicas,
        asked_replicas=replicas,
        asked_at_s=now_s,
        changes=changed(current.changes, now_s, added, now_s) if added else current.changes,
        requested_at_s=now_s if added > 0 else current.requested_at_s,
        wishes=wished(current.wishes, max(replicas, current.wishes.wish), now_s),
    )
