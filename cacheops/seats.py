"""Nodes as places for models: what `cacheops.place` is told about them, and how it looks them up. Pure.

500 models over 1,000 nodes within a second: nodes lie in buckets by whole free GPUs, so that a model meets those
that suit it best first and looks at no more than it needs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

NONE: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDemand:
    """A model, and what is expected of it before the planning horizon."""

    key: str
    size_bytes: int
    gpus: int = 1  # per replica
    node_classes: frozenset[str] = frozenset()  # where it may run; empty: anywhere
    nodes: frozenset[str] | None = None  # only on these, by the cache's node selector; None: on any
    replicas: int = 0  # that may have to run: those of now, or a high quantile of the forecast at the lead time
    need_ratio: float = 1.0  # chance that they are
    copies_min: int = 0  # even when nothing is expected
    copies_max: int | None = None
    is_pinned: bool = False

    def __post_init__(self) -> None:
        if self.gpus < 0 or self.replicas < 0 or self.copies_min < 0 or self.size_bytes < 0:
            raise ValueError(f"demand for {self.key}: a figure is negative: {self}")
        if not 0 <= self.need_ratio <= 1:
            raise ValueError(f"demand for {self.key}: need_ratio {self.need_ratio} is no share")
        if self.copies_max is not None and self.copies_max < self.copies_min:
            raise ValueError(f"demand for {self.key}: copies_max {self.copies_max} is below {self.copies_min}")

    @property
    def weight(self) -> float:
        """Replicas expected to start: who chooses first."""
        return self.need_ratio * max(1, self.replicas)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeat:
    """A node with a cache."""

    name: str
    node_class: str = ""
    zone: str = ""
    gpus: int = 0  # it has
    free_gpus: int = 0  # of them not asked for by any pod
    room_bytes: int = 0  # for all models that it should hold, those that it holds included
    cached: frozenset[str] = frozenset()  # keys of published trees
    assigned: Mapping[str, float] = field(default_factory=dict)  # key → since when it should hold it
    running: Mapping[str, int] = field(default_factory=lambda: NONE)  # key → replicas on it now
    is_usable: bool = True  # ready and not cordoned


class Seat:
    """A node while models are placed on it: what is left."""

    __slots__ = ("fetches", "free_gpus", "node", "room_bytes")

    def __init__(self, node: NodeSeat) -> None:
        self.node = node
        self.free_gpus = float(node.free_gpus)
        self.room_bytes = node.room_bytes
        self.fetches = sum(key not in node.cached for key in node.assigned)

    def replicas(self, model: ModelDemand) -> int:
        """Replicas of a model that run here or could start."""
        more = int(self.free_gpus) // model.gpus if model.gpus else model.replicas
        return self.node.running.get(model.key, 0) + more

    def allows(self, model: ModelDemand) -> bool:
        """Whether the model may run on such a node at all."""
        node = self.node
        return (
            node.is_usable
            and node.gpus >= model.gpus
            and (not model.node_classes or node.node_class in model.node_classes)
            and (model.nodes is None or node.name in model.nodes)
        )

    def reserve(self, model: ModelDemand, replicas: int) -> None:
        """Expect so many replicas to start here; what is only likely takes only a share."""
        starting = max(0, replicas - self.node.running.get(model.key, 0))
        self.free_gpus = max(0.0, self.free_gpus - starting * model.gpus * model.need_ratio)


class Hall:
    """All seats: by name, by what they have to do with a model already, and by zone and free GPUs."""

    def __init__(self, nodes: Iterable[NodeSeat]) -> None:
        self._seats = {node.name: Seat(node) for node in sorted(nodes, key=lambda node: node.name)}
        self._rows: dict[tuple[str, str], dict[int, dict[str, Seat]]] = {}
        self._related: dict[str, dict[str, Seat]] = {}
        for name, seat in self._seats.items():
            self._bucket(seat)[name] = seat
            for key in (*seat.node.cached, *seat.node.assigned, *seat.node.running):
                self._related.setdefault(key, {})[name] = seat

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._seats.values())

    def related(self, key: str) -> Iterable[Seat]:
        """Nodes that hold a model, should, or run it."""
        return self._related.get(key, {}).values()

    def rows(self, model: ModelDemand, suits: Callable[[Seat], bool]) -> dict[tuple[str, str], Iterator[Seat]]:
        """For each class and zone the seats that suit, most free GPUs first."""
        return {
            place: filter(suits, _freest_first(row))
            for place, row in sorted(self._rows.items())
            if not model.node_classes or place[0] in model.node_classes
        }

    def reserve(self, seat: Seat, model: ModelDemand, replicas: int) -> None:
        """Expect replicas on a seat."""
        before = self._bucket(seat)
        seat.reserve(model, replicas)
        after = self._bucket(seat)
        if after is not before:
            del before[seat.node.name]
            after[seat.node.name] = seat

    def _bucket(self, seat: Seat) -> dict[str, Seat]:
        row = self._rows.setdefault((seat.node.node_class, seat.node.zone), {})
        return row.setdefault(int(seat.free_gpus), {})


def _freest_first(row: Mapping[int, Mapping[str, Seat]]) -> Iterator[Seat]:
    for free_gpus in sorted(row, reverse=True):
        yield from row[free_gpus].values()
