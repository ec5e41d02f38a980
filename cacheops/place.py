"""Which node should hold which model: demand forecast × nodes → assignments, each with its reason. Pure.

Models choose in turn, the most expected first. Each keeps the copies that run, lie or are coming somewhere, as far
as it needs them, then takes more where GPUs are free: first the zone with the fewest copies, there the node with
most free GPUs.

Laws (tests/cacheops/test_place_laws.py):
* the models of a node fit its room, and a model goes only where it may run;
* placing again with the result changes nothing, and no order of the input does either;
* what a running replica reads is never taken away, and what was assigned within `HOLD_S` neither.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cacheops.seats import Hall, ModelDemand, NodeSeat, Seat

HOLD_S = 1800.0  # a forecast that breathes must not have nodes fetch and drop; traffic's own waves are longer
FETCHES_MAX = 4  # new models for one node at a time: more would only make each other late


class Cause(StrEnum):
    """Why a model is on a node, or is not. Stable names."""

    RUNS_THERE = "RunsThere"
    CACHED_THERE = "CachedThere"
    COMING_THERE = "ComingThere"
    HELD_FOR_NOW = "HeldForNow"
    NODE_AWAY = "NodeAway"
    FREE_GPUS = "FreeGpus"
    COPIES_MIN = "CopiesMin"
    SURPLUS = "Surplus"
    NOT_WANTED = "NotWanted"
    NOT_ALLOWED = "NotAllowed"
    NO_ROOM = "NoRoom"


class Lack(StrEnum):
    """Why a model has fewer places than it should."""

    NO_SUCH_NODE = "NoSuchNode"
    NO_FREE_GPUS = "NoFreeGpus"
    NO_ROOM = "NoRoom"
    BUSY_FETCHING = "BusyFetching"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One model on one node."""

    node: str
    key: str
    cause: Cause
    replicas: int = 0  # that run there or could start
    since_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """One model that a node need not hold any longer."""

    node: str
    key: str
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What could not be placed."""

    key: str
    replicas: int  # without a place
    copies: int  # missing to the least number
    lack: Lack
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The whole answer."""

    assignments: tuple[Assignment, ...]
    dropped: tuple[Dropped, ...]
    shortfalls: tuple[Shortfall, ...]

    def on(self, node: str) -> tuple[Assignment, ...]:
        """What one node should hold."""
        return tuple(assignment for assignment in self.assignments if assignment.node == node)


def place(models: Sequence[ModelDemand], nodes: Iterable[NodeSeat], *, now_s: float) -> Placement:
    """Assign models to nodes."""
    hall = Hall(nodes)
    round_ = _Round(hall, now_s)
    for model in sorted(models, key=lambda model: (not model.is_pinned, -model.weight, model.key)):
        round_.seat(model)
    return round_.result({model.key for model in models})


@dataclass(slots=True)
class _Choice:
    """What one model has found so far."""

    model: ModelDemand
    taken: list[tuple[Seat, Cause]] = field(default_factory=list)
    replicas: int = 0
    copies: int = 0

    @property
    def is_enough(self) -> bool:
        """Whether another copy would be one too many."""
        model = self.model
        if model.copies_max is not None and self.copies >= model.copies_max:
            return True
        return self.replicas >= model.replicas and self.copies >= model.copies_min

    def take(self, seat: Seat, cause: Cause) -> None:
        """Count a copy in."""
        self.taken.append((seat, cause))
        self.replicas += seat.replicas(self.model)
        self.copies += 1

    def is_spare(self, seat: Seat) -> bool:
        """Whether it would do without this one."""
        model = self.model
        return self.copies - 1 >= model.copies_min and self.replicas - seat.replicas(model) >= model.replicas

    def give_back(self, seat: Seat, cause: Cause) -> None:
        """Count a copy out."""
        self.taken.remove((seat, cause))
        self.replicas -= seat.replicas(self.model)
        self.copies -= 1


class _Round:
    """One placement: models come in turn."""

    def __init__(self, hall: Hall, now_s: float) -> None:
        self._hall = hall
        self._now_s = now_s
        self._assignments: list[Assignment] = []
        self._dropped: list[Dropped] = []
        self._shortfalls: list[Shortfall] = []

    def seat(self, model: ModelDemand) -> None:
        """Find the nodes of one model."""
        choice = _Choice(model)
        for seat in sorted(self._hall.related(model.key), key=lambda seat: _nearest(seat, model)):
            self._consider(seat, choice)
        if not choice.is_enough:
            self._extend(choice)
        for seat, cause in choice.taken:
            self._settle(seat, choice, cause)
        if not choice.is_enough:
            self._shortfalls.append(self._shortfall(choice))

    def result(self, wanted: set[str]) -> Placement:
        """Everything, with what nobody asked for any more."""
        gone = [
            Dropped(node=seat.node.name, key=key, cause=Cause.NOT_WANTED)
            for seat in self._hall
            for key in sorted(seat.node.assigned)
            if key not in wanted
        ]
        return Placement(
            assignments=tuple(sorted(self._assignments, key=lambda found: (found.node, found.key))),
            dropped=tuple(sorted([*self._dropped, *gone], key=lambda drop: (drop.node, drop.key))),
            shortfalls=tuple(self._shortfalls),
        )

    def _consider(self, seat: Seat, choice: _Choice) -> None:
        """A node that has to do with the model already: it stays, or goes with a reason."""
        model, node = choice.model, seat.node
        since_s = node.assigned.get(model.key)
        if since_s is not None and not node.is_usable:
            self._stay(seat, model, Cause.NODE_AWAY)  # its bytes will be there when it comes back
        elif node.running.get(model.key):
            self._stay_or_drop(seat, choice, Cause.RUNS_THERE)
        elif not seat.allows(model):
            self._drop(seat, model, Cause.NOT_ALLOWED)
        elif choice.is_enough or not self._helps(seat, choice):
            if since_s is not None and self._now_s - since_s < HOLD_S and model.size_bytes <= seat.room_bytes:
                self._stay(seat, model, Cause.HELD_FOR_NOW)
            else:
                self._drop(seat, model, Cause.SURPLUS)
        else:
            cause = Cause.CACHED_THERE if model.key in node.cached else Cause.COMING_THERE
            self._stay_or_drop(seat, choice, cause)

    def _helps(self, seat: Seat, choice: _Choice) -> bool:
        """A node without a free GPU is a copy, but no place to start."""
        return choice.copies < choice.model.copies_min or seat.replicas(choice.model) > 0

    def _stay_or_drop(self, seat: Seat, choice: _Choice, cause: Cause) -> None:
        if choice.model.size_bytes <= seat.room_bytes or cause is Cause.RUNS_THERE:
            choice.take(seat, cause)
        else:
            self._drop(seat, choice.model, Cause.NO_ROOM)

    def _extend(self, choice: _Choice) -> None:
        """More copies on nodes that have none."""
        fresh: list[tuple[Seat, Cause]] = []
        for seat in self._free_seats(choice):
            cause = Cause.FREE_GPUS if seat.replicas(choice.model) else Cause.COPIES_MIN
            if cause is Cause.COPIES_MIN and choice.copies >= choice.model.copies_min:
                break
            choice.take(seat, cause)
            fresh.append((seat, cause))
            if choice.is_enough:
                break
        # A roomy node found late can make an early, smaller one needless.
        for seat, cause in sorted(fresh, key=lambda found: (found[0].replicas(choice.model), found[0].node.name)):
            if choice.is_spare(seat):
                choice.give_back(seat, cause)

    def _free_seats(self, choice: _Choice) -> Iterator[Seat]:
        """Seats that suit, each from the zone with the fewest copies so far."""
        model = choice.model
        related = {seat.node.name for seat in self._hall.related(model.key)}
        rows = self._hall.rows(model, lambda seat: seat.node.name not in related and self._suits(seat, model))
        heads = {place: seat for place, row in rows.items() if (seat := next(row, None))}
        copies: dict[str, int] = {}
        for seat, _cause in choice.taken:
            copies[seat.node.zone] = copies.get(seat.node.zone, 0) + 1
        while heads:
            place_ = min(heads, key=lambda at: (not heads[at].replicas(model), copies.get(at[1], 0), at))
            yield heads[place_]
            copies[place_[1]] = copies.get(place_[1], 0) + 1
            following = next(rows[place_], None)
            if following is None:
                del heads[place_]
            else:
                heads[place_] = following

    @staticmethod
    def _suits(seat: Seat, model: ModelDemand) -> bool:
        return seat.fetches < FETCHES_MAX and model.size_bytes <= seat.room_bytes and seat.allows(model)

    def _settle(self, seat: Seat, choice: _Choice, cause: Cause) -> None:
        model, node = choice.model, seat.node
        replicas = seat.replicas(model)
        words = f"{node.gpus} GPUs, {seat.free_gpus:g} free for {model.gpus} each; {replicas} replicas run or could"
        if cause in (Cause.FREE_GPUS, Cause.COPIES_MIN):
            seat.fetches += 1
        self._assign(seat, model, cause, replicas=replicas, detail=words)
        self._hall.reserve(seat, model, min(replicas, model.replicas))

    def _stay(self, seat: Seat, model: ModelDemand, cause: Cause) -> None:
        self._assign(seat, model, cause)

    def _assign(self, seat: Seat, model: ModelDemand, cause: Cause, *, replicas: int = 0, detail: str = "") -> None:
        seat.room_bytes -= model.size_bytes
        since_s = seat.node.assigned.get(model.key, self._now_s)
        found = Assignment(
            node=seat.node.name, key=model.key, cause=cause, replicas=replicas, since_s=since_s, detail=detail
        )
        self._assignments.append(found)

    def _drop(self, seat: Seat, model: ModelDemand, cause: Cause) -> None:
        if model.key in seat.node.assigned:  # what is only cached was nobody's wish
            self._dropped.append(Dropped(node=seat.node.name, key=model.key, cause=cause))

    def _shortfall(self, choice: _Choice) -> Shortfall:
        model = choice.model
        lack, words = self._lack(model)
        return Shortfall(
            key=model.key,
            replicas=max(0, model.replicas - choice.replicas),
            copies=max(0, model.copies_min - choice.copies),
            lack=lack,
            detail=words,
        )

    def _lack(self, model: ModelDemand) -> tuple[Lack, str]:
        """What keeps the other nodes from being of use, the commonest reason first."""
        free = {seat.node.name for seat in self._hall} - {s.node.name for s in self._hall.related(model.key)}
        others = [seat for seat in self._hall if seat.node.name in free]
        able = [seat for seat in others if seat.allows(model)]
        roomy = [seat for seat in able if model.size_bytes <= seat.room_bytes]
        idle = [seat for seat in roomy if seat.fetches < FETCHES_MAX]
        counts = {
            Lack.NO_SUCH_NODE: len(others) - len(able),
            Lack.NO_ROOM: len(able) - len(roomy),
            Lack.BUSY_FETCHING: len(roomy) - len(idle),
            Lack.NO_FREE_GPUS: len(idle),
        }
        lack = max((lack for lack in counts if lack is not Lack.NO_SUCH_NODE), key=lambda lack: counts[lack])
        words = ", ".join(f"{count} {lack}" for lack, count in counts.items() if count)
        return (
            lack if able else Lack.NO_SUCH_NODE,
            f"of {len(others)} other nodes: {words}" if words else "no other node",
        )


def _nearest(seat: Seat, model: ModelDemand) -> tuple[bool, bool, bool, int, str]:
    """Where to keep a copy: it runs there, lies there, is coming; most replicas first."""
    node, key = seat.node, model.key
    return (
        not node.running.get(key),
        key not in node.cached,
        key not in node.assigned,
        -seat.replicas(model),
        node.name,
    )
