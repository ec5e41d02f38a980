"""Sensors of who reads gauges just when it decides: nothing is read in between, and nothing is news."""

import math
from collections.abc import Sequence
from random import Random

import numpy as np

from metrics.sample import PodSignals
from simulations.compiled.fleet import CompiledFleet
from simulations.compiled.sight import SPAN_S, gauges_at
from simulations.policies.base import Cadence
from simulations.world.sensing.sensors import gauges


class AskedSensors:
    """Gives what the replicas say at the moment of the question."""

    def __init__(self, fleet: CompiledFleet, cadence: Cadence, random: Random, *, slots: int) -> None:
        del random
        self._fleet, self._cadence = fleet, cadence
        self._found = np.zeros((slots, SPAN_S))
        self._slots = np.zeros(slots, np.int64)
        self._silent = set(range(slots))
        self._held: tuple[float, float | None] = (0.0, None)

    @property
    def period_s(self) -> float:
        """Between two looks."""
        return self._cadence.scrape_s

    @property
    def next_read_s(self) -> float:
        """Only what is asked for is read."""
        return math.inf

    @property
    def held(self) -> tuple[float, float | None]:
        """Requests before the replicas as of the latest look, and when they were counted."""
        return self._held

    def move(self, until_s: float) -> tuple[float, bool]:
        """Move the fleet on."""
        self._fleet.advance(until_s)
        return until_s, False

    def begin(self, slot: int, now_s: float) -> None:
        """A replica answers from now on."""
        del now_s
        self._silent.discard(slot)

    def leave(self, slot: int) -> None:
        """It drains, or does not answer any more."""
        self._silent.add(slot)

    def end(self, slot: int) -> None:
        """It is gone."""
        self._silent.add(slot)

    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]:
        """What each of these replicas says."""
        asked, found = self._slots[: len(slots)], self._found[: len(slots)]
        asked[:] = slots
        self._held = float(gauges_at(self._fleet.world, asked, now_s, found)), now_s
        rows = zip(slots, found.tolist(), strict=True)
        return [None if slot in self._silent else gauges(row) for slot, row in rows]

    def left_of(self, before: PodSignals, now_s: float) -> PodSignals | None:
        """What there is when no page could be read since: it says how old it is."""
        del now_s
        return before
