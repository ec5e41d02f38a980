"""Planning caches: one node with 10,000 models, and 500 models over 1,000 nodes."""

import random
import time

from figures import Figure

from cacheops.budget import Disk
from cacheops.place import place
from cacheops.plan import Limits, plan
from cacheops.seats import ModelDemand, NodeSeat
from cacheops.stock import HeldTree, Inventory, Verb, WantedTree

MODELS, NODES, SERVED = 10_000, 1_000, 500
BAR_S = 1.0
GIB = 2**30
NOW_S = 1_000_000.0
ROUNDS = 3  # the slowest counts


def wanted(rng: random.Random) -> list[WantedTree]:
    """Ten times more than fits, worth anything between nothing and a lot."""
    return [
        WantedTree(
            key=f"{n:016x}",
            digest=f"{n:064x}",
            size_bytes=rng.randrange(1, 200) * GIB,
            need_ratio=rng.random(),
            replicas=rng.randrange(1, 20),
            is_pinned=rng.random() < 0.01,
            is_due=rng.random() < 0.05,
        )
        for n in range(MODELS)
    ]


def inventory(models: list[WantedTree], rng: random.Random) -> Inventory:
    """A third of what is wanted, and as much that nobody wants any more."""
    trees = [
        HeldTree(
            key=model.key if n % 6 < 2 else f"old-{n}",
            digest=model.digest,
            size_bytes=model.size_bytes,
            published_at_s=NOW_S - rng.randrange(10 * 86_400),
            leases=int(rng.random() < 0.1),
        )
        for n, model in enumerate(models)
        if n % 6 < 4
    ]
    return Inventory(trees=tuple(trees))


def plan_s(rng: random.Random) -> tuple[float, int]:
    """Seconds for one plan that has everything to do: evictions for room, fetches, waits."""
    models = wanted(rng)
    held = inventory(models, rng)
    capacity_bytes = int(held.size_bytes * 1.3)
    limits = Limits(
        disk=Disk(capacity_bytes=capacity_bytes, free_bytes=capacity_bytes - held.size_bytes), warm_bytes=400 * GIB
    )
    started_s = time.perf_counter()
    found = plan(models, held, limits, now_s=NOW_S)
    took_s = time.perf_counter() - started_s
    verbs = {action.verb for action in found.actions}
    assert verbs >= {Verb.FETCH, Verb.EVICT, Verb.KEEP, Verb.WAIT, Verb.WARM}, verbs
    return took_s, len(found.actions)


def seats(rng: random.Random) -> list[NodeSeat]:
    """Three classes of nodes in four zones, partly busy, each with some models already."""
    keys = [f"{n:016x}" for n in range(SERVED)]
    return [
        NodeSeat(
            name=f"node-{n:04}",
            node_class=("h100", "a100", "l40s")[n % 3],
            zone=f"zone-{n % 4}",
            gpus=8,
            free_gpus=rng.randrange(9),
            room_bytes=rng.randrange(4000) * GIB,
            cached=frozenset(rng.sample(keys, rng.randrange(12))),
            assigned={key: NOW_S - rng.randrange(7200) for key in rng.sample(keys, 3)},
        )
        for n in range(NODES)
    ]


def demands(rng: random.Random) -> list[ModelDemand]:
    return [
        ModelDemand(
            key=f"{n:016x}",
            size_bytes=rng.randrange(5, 400) * GIB,
            gpus=rng.choice((1, 2, 4, 8)),
            node_classes=rng.choice((frozenset(), frozenset({"h100"}), frozenset({"a100", "h100"}))),
            replicas=rng.randrange(30),
            need_ratio=rng.random(),
            copies_min=rng.randrange(4),
        )
        for n in range(SERVED)
    ]


def place_s(rng: random.Random) -> tuple[float, int]:
    """Seconds for one placement from a mixed state."""
    models, nodes = demands(rng), seats(rng)
    started_s = time.perf_counter()
    found = place(models, nodes, now_s=NOW_S)
    return time.perf_counter() - started_s, len(found.assignments)


def run() -> list[Figure]:
    rng = random.Random(6)
    plans, places = [plan_s(rng) for _ in range(ROUNDS)], [place_s(rng) for _ in range(ROUNDS)]
    return [
        Figure(name="plan-10000-models", value=max(plans)[0], unit="s", bar=BAR_S, better="lower"),
        Figure(name="plan-actions", value=float(plans[0][1]), unit="actions"),
        Figure(name="place-500-models-1000-nodes", value=max(places)[0], unit="s", bar=BAR_S, better="lower"),
        Figure(name="place-assignments", value=float(places[0][1]), unit="assignments"),
    ]
