"""A memory read back after a restart or a change of leaders: whatever was lost meanwhile, nothing shrinks by it."""

from dataclasses import replace

from autoscaler.policy.behavior import wished
from autoscaler.policy.memory import Memory, caught_up


def resumed(memory: Memory, replicas: int, now_s: float) -> Memory:
    """The memory as of now, with the replicas there are as the wish in effect.

    The last minute before a crash is not in the status. If it held a higher wish, only the replicas still tell; so
    they count as wished for now, and hold for a whole stabilisation window, as those of a fresh memory do.
    """
    current = caught_up(memory, replicas, now_s)
    wish = max(replicas, current.wishes.wish)
    return replace(current, decided_at_s=now_s, wishes=wished(current.wishes, wish, now_s))
