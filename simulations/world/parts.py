"""Some of a fleet's replicas as if they were all: the slots of one pool, where two are scaled."""

from collections.abc import Sequence
from dataclasses import dataclass

from metrics.sample import PodSignals
from simulations.compiled.fleet import CompiledFleet
from simulations.compiled.layout import World
from simulations.world.sensing.sensors import Sensing


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FleetPart:
    """The slots from `first` on, whose replicas serve `pool`; of all `fleet_slots`."""

    fleet: CompiledFleet
    fleet_slots: int
    first: int
    pool: int

    def seen_by(self, sensors: Sensing) -> "SensorsPart":
        """Sensors of the whole fleet, asked for these slots."""
        return SensorsPart(sensors=sensors, first=self.first)

    @property
    def world(self) -> World:
        """The whole, but for the replicas."""
        return self.fleet.world._replace(replicas=self.fleet.world.replicas[self.first :])

    def add(self, slot: int, *, ready_at_s: float, kind: int | None = None) -> None:
        """As `CompiledFleet.add`, to the pool."""
        self.fleet.add(self.first + slot, ready_at_s=ready_at_s, pool=self.pool, kind=kind)

    def drain(self, slot: int) -> None:
        """As `CompiledFleet.drain`."""
        self.fleet.drain(self.first + slot)

    def stop(self, slot: int) -> None:
        """As `CompiledFleet.stop`."""
        self.fleet.stop(self.first + slot)

    def lose(self, slot: int) -> int:
        """As `CompiledFleet.lose`."""
        return self.fleet.lose(self.first + slot)

    def outstanding(self, slot: int) -> int:
        """As `CompiledFleet.outstanding`."""
        return self.fleet.outstanding(self.first + slot)

    def last_finish_at_s(self, slot: int) -> float:
        """As `CompiledFleet.last_finish_at_s`."""
        return self.fleet.last_finish_at_s(self.first + slot)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SensorsPart:
    """What pods ask of their sensors, for the slots from `first` on."""

    sensors: Sensing
    first: int

    def begin(self, slot: int, now_s: float) -> None:
        """A replica became ready."""
        self.sensors.begin(self.first + slot, now_s)

    def leave(self, slot: int) -> None:
        """It drains."""
        self.sensors.leave(self.first + slot)

    def end(self, slot: int) -> None:
        """It is gone."""
        self.sensors.end(self.first + slot)

    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]:
        """What each of them said."""
        return self.sensors.look([self.first + slot for slot in slots], now_s)
