"""Engines that sleep where they ran, with their weights in the node's memory: the next start there wakes one.

As vLLM's sleep level 1 under llm-d's fast-model-actuation, which keeps the process when its pod goes and gives it to
the next pod on the same GPUs. Meanwhile these are free for others.
"""

import math


class Sleepers:
    """By slot, for `sleep_s` each; 0: none sleeps."""

    def __init__(self, sleep_s: float) -> None:
        self._sleep_s = sleep_s
        self._awake: dict[int, tuple[int, float]] = {}  # node, Ready from when on
        self._asleep: dict[int, tuple[int, float]] = {}  # node, until when

    @property
    def next_at_s(self) -> float:
        """When the next one has slept for too long."""
        if not self._asleep:  # asked at every step of a world
            return math.inf
        return min(until_s for _, until_s in self._asleep.values())

    def run(self, slot: int, node: int, ready_at_s: float) -> None:
        """An engine that is or will be Ready."""
        if self._sleep_s:
            self._awake[slot] = (node, ready_at_s)

    def rest(self, slot: int, now_s: float) -> bool:
        """Its replica is gone; whether it sleeps now: one that was never Ready does not."""
        node, ready_at_s = self._awake.pop(slot, (0, math.inf))
        if ready_at_s > now_s:
            return False
        self._asleep[slot] = (node, now_s + self._sleep_s)
        return True

    def is_asleep(self, slot: int, now_s: float) -> bool:
        """Whether a start there wakes one."""
        return slot in self._asleep and now_s < self._asleep[slot][1]

    def wake(self, slot: int, now_s: float) -> bool:
        """A start; whether it wakes one."""
        is_asleep = self.is_asleep(slot, now_s)
        if is_asleep:
            del self._asleep[slot]
        return is_asleep

    def expire(self, now_s: float) -> list[int]:
        """Those that have slept for too long are gone; their slots."""
        gone = [slot for slot, (_, until_s) in self._asleep.items() if until_s <= now_s]
        for slot in gone:
            del self._asleep[slot]
        return gone

    def forget(self, node: int) -> None:
        """A node is gone with all that ran or slept there."""
        self._awake = {slot: place for slot, place in self._awake.items() if place[0] != node}
        self._asleep = {slot: place for slot, place in self._asleep.items() if place[0] != node}
