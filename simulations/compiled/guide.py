"""The prefix-aware router, compiled: `simulations.routing.Gateway`, with an LRU index of sent blocks for each slot.

An index is a prefix cache of which nothing is in use: a replica's record that serves nobody, behind those of all slots,
whose free blocks are those that were sent, the latest last. A node is a block with a name that other requests may have,
or a run of blocks that one request alone has.
"""

from simulations.routing import KV_WEIGHT, MATCHED_BLOCKS_MAX, PREFIX_WEIGHT, QUEUE_WEIGHT

from .blocks import growth_within
from .jit import inner, inner_apart
from .layout import NOBODY, Record, Records, World
from .pool import find, forget, join_free, leave_free, make_findable, new_node, spare
from .timing import steps_started


@inner_apart
def best_scored(world: World, replicas: Records, number: int, pool: int, at_s: float) -> int:
    """The replica with the highest score, which gets the request; NOBODY where none is ready."""
    fewest = most = NOBODY
    for index in range(len(replicas)):
        replica = replicas[index]
        if replica["accepts"] and replica["pool"] == pool and replica["ready_at_s"] <= at_s:
            waiting = replica["waiting"]
            fewest = waiting if fewest == NOBODY else min(fewest, waiting)
            most = max(most, waiting)
    chosen, highest = NOBODY, 0.0
    for index in range(len(replicas)):
        replica = replicas[index]
        if replica["accepts"] == 0 or replica["pool"] != pool or replica["ready_at_s"] > at_s:
            continue
        queue = 1.0 if most == fewest else (most - replica["waiting"]) / (most - fewest)
        score = PREFIX_WEIGHT * _matched_ratio(world, index, number) + QUEUE_WEIGHT * queue
        score += KV_WEIGHT * (1.0 - _usage_ratio(world, replica, at_s))
        is_better = chosen == NOBODY or score > highest
        if is_better or (score == highest and replica["outstanding"] < replicas[chosen]["outstanding"]):
            chosen, highest = index, score
    if chosen != NOBODY:
        _remember(world, chosen, number)
    return chosen


@inner_apart
def _remember(world: World, slot: int, number: int) -> None:
    """These blocks are sent there now."""
    index, blocks, shared = _index_of(world, slot), _sent_blocks(world, number), 0
    if len(world.prefixes):
        prefix = world.prefixes[number]
        shared = min(blocks, prefix["given"])
        for place in range(shared):
            _send(world, index, world.names[prefix["names_at"] + place])
    if blocks > shared:
        run = new_node(world.nodes, index)
        world.nodes[run]["named_at"] = NOBODY
        _add(world, index, run, blocks - shared)


@inner
def _index_of(world: World, slot: int) -> Record:
    index: Record = world.indexes[slot]
    return index


@inner
def _sent_blocks(world: World, number: int) -> int:
    """Full blocks of a prompt that the router looks at."""
    size = world.machine[0]["block_size_tokens"]
    return int(min(world.requests[number]["prompt_tokens"] // size, MATCHED_BLOCKS_MAX))


@inner
def _matched_ratio(world: World, slot: int, number: int) -> float:
    blocks, matched = _sent_blocks(world, number), 0
    if blocks == 0 or not len(world.prefixes):
        return 0.0
    prefix, index = world.prefixes[number], _index_of(world, slot)
    shared = min(blocks, prefix["given"])
    while matched < shared and find(world, index, world.names[prefix["names_at"] + matched]) != NOBODY:
        matched += 1
    return float(matched / blocks)


@inner
def _usage_ratio(world: World, replica: Record, at_s: float) -> float:
    free, machine = replica["free_blocks"], world.machine[replica["machine"]]
    if replica["jump_steps"]:
        started = steps_started(machine, replica, at_s)
        free -= growth_within(machine, replica, world.rows, started) - replica["prepaid_blocks"]
    return float(1.0 - free / machine["usable_blocks"])


@inner
def _send(world: World, index: Record, name: int) -> None:
    node = find(world, index, name)
    if node == NOBODY:
        node = new_node(world.nodes, index)
        world.nodes[node]["name"] = name
        world.nodes[node]["named_at"] = 0
        make_findable(world, index, node)
        _add(world, index, node, 1)
    else:
        leave_free(world.nodes, index, node)
        join_free(world.nodes, index, node)


@inner_apart
def _add(world: World, index: Record, node: int, blocks: int) -> None:
    """As the newest; the oldest of those that are too many are forgotten."""
    world.nodes[node]["blocks"] = blocks
    join_free(world.nodes, index, node)
    index["free_blocks"] += blocks
    while index["free_blocks"] > world.machine[index["machine"]]["usable_blocks"]:
        oldest, over = index["free_head"], index["free_blocks"] - world.machine[index["machine"]]["usable_blocks"]
        if world.nodes[oldest]["blocks"] > over:
            world.nodes[oldest]["blocks"] -= over
            index["free_blocks"] -= over
            return
        leave_free(world.nodes, index, oldest)
        index["free_blocks"] -= world.nodes[oldest]["blocks"]
        if world.nodes[oldest]["named_at"] != NOBODY:
            forget(world, index, oldest)
        spare(world.nodes, index, oldest)
