"""Engines that sleep where they ran, with their weights in the node's memory: the next start there wakes one.

As vLLM's sleep level 1 under llm-d's fast-model-actuation, which keeps the process when its pod goes and gives it to
the next pod on the same GPUs. Meanwhile these are free for others.
"""

import math

from simulations.world.host_memory import HostMemory


class Sleepers:
    """By slot, for `sleep_s` each; 0: none sleeps. Each holds `size_bytes` of its node's memory."""

    def __init__(self, sleep_s: float, *, size_bytes: float = 0.0, memory: HostMemory | None = None) -> None:
        self._sleep_s, self._size_bytes = sleep_s, size_bytes
        self._memory = HostMemory() if memory is None else memory
        self._awake: dict[int, tuple[int, float]] = {}  # node, Ready from when on
        self._asleep: dict[int, tuple[int, float]] = {}  # node, until when

    @property
    def next_at_s(self) -> float:
        """When the next one has slept for too long; where one had to make room, that is long ago."""
        if not self._asleep:  # asked at every step of a world
            return math.inf
        if not all(self._is_there(slot) for slot in self._asleep):
            return -math.inf
        return min(until_s for _, until_s in self._asleep.values())

    def run(self, slot: int, node: int, ready_at_s: float) -> None:
        """An engine that is or will be Ready."""
        if self._sleep_s:
            self._awake[slot] = (node, ready_at_s)

    def rest(self, slot: int, now_s: float) -> bool:
        """Its replica is gone; whether it sleeps now: one that was never Ready does not, nor one without room."""
        node, ready_at_s = self._awake.pop(slot, (0, math.inf))
        if ready_at_s > now_s or not self._memory.lie_down((self, slot), node, self._size_bytes):
            return False
        self._asleep[slot] = (node, now_s + self._sleep_s)
        return True

    def is_asleep(self, slot: int, now_s: float) -> bool:
        """Whether a start there wakes one."""
        return slot in self._asleep and now_s < self._asleep[slot][1] and self._is_there(slot)

    def wake(self, slot: int, now_s: float) -> bool:
        """A start; whether it wakes one."""
        is_asleep = self.is_asleep(slot, now_s)
        if is_asleep:
            self._get_up(slot)
        return is_asleep

    def expire(self, now_s: float) -> list[int]:
        """Those that have slept for too long, or had to make room, are gone; their slots."""
        gone = [slot for slot, (_, until_s) in self._asleep.items() if until_s <= now_s or not self._is_there(slot)]
        for slot in gone:
            self._get_up(slot)
        return gone

    def forget(self, node: int) -> None:
        """A node is gone with all that ran or slept there."""
        self._awake = {slot: place for slot, place in self._awake.items() if place[0] != node}
        for slot in [slot for slot, place in self._asleep.items() if place[0] == node]:
            self._get_up(slot)

    def _is_there(self, slot: int) -> bool:
        return (self, slot) in self._memory

    def _get_up(self, slot: int) -> None:
        del self._asleep[slot]
        self._memory.get_up((self, slot))
