"""The disks, memories and lines of nodes that several services start on."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from random import Random

from simulations.world.host_memory import HostMemory
from simulations.world.starts.holdings import ALONE, Holdings, model_of
from simulations.world.starts.phases import Phases
from simulations.world.starts.stores import Stores

# What is of the nodes: each service says it, and all say the same.
_OF_NODES: dict[str, Callable[[Phases], object]] = {
    "originBytesPerSecond": lambda phases: phases.origin_bytes_per_s,
    "nodeBytesPerSecond": lambda phases: phases.node_bytes_per_s,
    "caches.diskBytes": lambda phases: phases.caches.disk_bytes,
    "caches.memoryBytes": lambda phases: phases.caches.memory_bytes,
    "caches.others": lambda phases: phases.caches.others,
}


def check_shared(phases: Sequence[Phases]) -> None:
    """ValueError where services that share nodes say different things of them."""
    for name, read in _OF_NODES.items():
        for first, other in pairwise(phases):
            if read(other) != read(first):
                raise ValueError(f"services that share nodes need the same {name}, got {read(first)} and {read(other)}")


def shared_holdings(
    services: Mapping[str, tuple[Phases, Sequence[int]]], random: Random, memory: HostMemory
) -> dict[str, Holdings]:
    """Of each service by its name, from its phases and its nodes: `cacheops.plan` has one budget on each node."""
    all_phases = [phases for phases, _ in services.values()]
    check_shared(all_phases)
    stores = _stores(all_phases[0], [nodes for _, nodes in services.values()], random, memory)
    return {
        name: Holdings(stores, name, model_of(round(phases.weights_bytes), phases.caches, nodes))
        for name, (phases, nodes) in services.items()
    }


def holdings_of_pools(
    phases: Phases, pools: Mapping[str, Sequence[int]], random: Random, memory: HostMemory
) -> dict[str, Holdings]:
    """Of each pool of a service by its name, from its nodes: all have the same model, of which a node has one copy."""
    stores = _stores(phases, list(pools.values()), random, memory)
    return {
        name: Holdings(stores, name, model_of(round(phases.weights_bytes), phases.caches, nodes), key=ALONE)
        for name, nodes in pools.items()
    }


def _stores(phases: Phases, nodes: Sequence[Sequence[int]], random: Random, memory: HostMemory) -> Stores:
    stores = Stores(phases.caches, phases.line(), memory)
    stores.await_others(sorted(set(chain.from_iterable(nodes))), random)
    return stores
