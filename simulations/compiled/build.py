"""The arrays of a world: made, enlarged by requests that are fed, emptied of those that are done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulations.replica import AdapterLimits, EngineConfig, StepTimes
from simulations.routing import Router

from .adapters import EACH
from .follows import firsts_of
from .gaps import GAP_BUCKETS, GAPS_CELLS
from .layout import (
    COURSE,
    FOLLOW,
    LORA,
    MACHINE,
    NOBODY,
    NODE,
    PREFIX,
    REPLICA,
    REQUEST,
    TTFT_BOUNDS_S,
    Order,
    Record,
    Records,
    World,
)
from .names import BlockNames
from .records import joined, put_records, take_records

TTFT_BUCKETS = len(TTFT_BOUNDS_S) + 1  # one more for +Inf
ENTRIES_RATIO = 2  # per block: chains are short

Machines = Sequence[tuple[EngineConfig, StepTimes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """How many there are, and what a replica does with them; which request has which is in what follows it."""

    count: int
    limits: AdapterLimits


def make_world(machines: Machines, *, slots: int, router: Router, adapters: Adapters | None) -> World:
    """A world without requests, with a machine per pool and per kind of GPU, and with so many places for replicas."""
    course = np.zeros(1, COURSE)
    course["now_s"] = -math.inf
    course["takes_turns"] = router is Router.ROUND_ROBIN
    machine = _machines(machines, adapters)
    replicas = np.zeros(slots, REPLICA)
    replicas["event_at_s"] = math.inf
    indexes = np.zeros(slots if router is Router.PREFIX_AWARE else 0, REPLICA)
    caching_places = slots + len(indexes) if len(indexes) or machine["caches_prefixes"][0] else 0
    return World(
        course=course,
        machine=machine,
        requests=np.zeros(0, REQUEST),
        order=np.zeros(0, np.int32),
        replicas=replicas,
        rows=np.zeros(slots * int(machine["row_cells"][0]), np.int64),
        gaps=np.zeros((0, GAP_BUCKETS), np.int32),
        follows=np.zeros(0, FOLLOW),
        due=np.zeros(0, np.int32),
        loras=np.zeros(0, LORA) if adapters is None else _lora(adapters),
        prefixes=np.zeros(0, PREFIX),
        names=np.zeros(0, np.int64),
        held=np.zeros(0, np.int32),
        # Zeros cost no memory before they are written.
        nodes=np.zeros(caching_places * int(machine["nodes"][0]), NODE),
        table=np.zeros(caching_places * (int(machine["table_mask"][0]) + 1), np.int32),
        indexes=indexes,
    )


def place_replica(world: World, slot: int, *, ready_at_s: float, pool: int, number: int | None = None) -> None:
    """A new replica, with all its blocks empty, on machine `number`; None: on that of its pool."""
    number = pool if number is None else number
    machine, replica, course = world.machine[number], world.replicas[slot], world.course[0]
    _clear(world, world.replicas, slot, share=slot, number=number)
    if len(world.indexes):  # a router knows nothing of a new replica
        _clear(world, world.indexes, slot, share=len(world.replicas) + slot, number=number)
    replica["pool"] = pool
    replica["ready_at_s"] = ready_at_s
    replica["accepts"] = 1
    replica["free_blocks"] = replica["blank_blocks"] = machine["usable_blocks"]
    course["slots"] = max(course["slots"], slot + 1)
    stride = int(machine["row_cells"])
    first = slot * stride
    world.rows[first : first + stride] = 0
    replica["heap_at"] = first
    replica["growth_at"] = first + machine["max_num_seqs"]
    replica["ttft_at"] = replica["growth_at"] + machine["block_size_tokens"]
    replica["gaps_at"] = replica["ttft_at"] + TTFT_BUCKETS


def _clear(world: World, records: Records, slot: int, *, share: int, number: int) -> None:
    """A record that has, and is, nothing yet; `share` is which one of `nodes` and of `table` it has."""
    record, machine = records[slot], world.machine[number]
    entries = int(machine["table_mask"]) + 1
    if record["nodes_used"]:
        world.table[share * entries : (share + 1) * entries] = 0
    records[slot] = BLANK
    record["machine"] = number
    record["nodes_at"], record["table_at"] = share * int(machine["nodes"]), share * entries


def with_requests(world: World, requests: Records, names: BlockNames | None) -> World:
    """The world with more requests, in places of those that are done as far as there are any."""
    if not len(world.requests):
        grown, places = requests, np.arange(len(requests), dtype=np.int32)
    else:
        free = np.flatnonzero(world.requests["prompt_tokens"] == 0)
        missing = max(0, len(requests) - len(free))
        grown = joined([world.requests, np.zeros(missing, REQUEST)]) if missing else world.requests
        places = np.concatenate([free, np.arange(len(world.requests), len(grown))])[: len(requests)].astype(np.int32)
        put_records(grown, places, requests)
    order = np.concatenate([world.order[world.course[0]["next_request"] :], places])
    world.course[0]["next_request"] = 0
    world = world._replace(requests=grown, order=order)
    return _with_names(world, places, names) if world.machine["caches_prefixes"][0] else world


def with_follows(world: World, follows: Records) -> World:
    """The world in which only those of its requests come by themselves that follow no other one."""
    order = firsts_of(follows, len(world.requests))
    return world._replace(order=order, follows=follows.copy(), due=np.zeros(len(follows), np.int32))


def _with_names(world: World, places: Order, names: BlockNames | None) -> World:
    """Names of those on their way are moved together, those of the new ones follow."""
    prefixes = np.concatenate([world.prefixes, np.zeros(len(world.requests) - len(world.prefixes), PREFIX)])
    prefixes[places] = np.zeros((), PREFIX)
    prefixes["leftover"][places] = NOBODY
    alive = np.flatnonzero(prefixes["given"])
    counts = prefixes["given"][alive].astype(np.int64)
    starts = np.cumsum(counts) - counts
    kept = np.repeat(prefixes["names_at"][alive] - starts, counts) + np.arange(counts.sum())
    prefixes["names_at"][alive] = starts
    new_names = names.names if names is not None else world.names[:0]
    new_held = np.zeros(len(new_names), np.int32)
    if names is not None:
        prefixes["names_at"][places] = names.starts[:-1] + len(kept)
        prefixes["given"][places] = np.diff(names.starts)
    if len(kept):  # else nothing is copied: memory that is never touched costs nothing
        new_names, new_held = (
            np.concatenate([world.names[kept], new_names]),
            np.concatenate([world.held[kept], new_held]),
        )
    return world._replace(prefixes=prefixes, names=new_names, held=new_held)


def take_finished(world: World) -> Records:
    """Those that have all their tokens; their places are free from now on."""
    taken = np.empty(len(world.requests), REQUEST)
    taken = taken[: take_records(world.requests, taken)]
    if len(world.prefixes):
        world.prefixes["given"][world.requests["prompt_tokens"] == 0] = 0
    return taken


def by_arrival(requests: Records) -> Records:
    """The same in order of time."""
    return requests[np.argsort(requests["arrived_at_s"], kind="stable")]


def _machines(machines: Machines, adapters: Adapters | None) -> Records:
    records = np.zeros(len(machines), MACHINE)
    records["last_turn"] = NOBODY
    for record, (config, times) in zip(records, machines, strict=True):
        record["base_s"] = times.base_s + times.overhead_s
        for field in ("prefill_token_s", "decode_sequence_s", "kv_token_s", "attention_pair_s"):
            record[field] = getattr(times, field)
        for field in (
            *("max_num_seqs", "max_num_batched_tokens", "usable_blocks", "block_size_tokens"),
            *("reserves_full_prompt", "caches_prefixes"),
        ):
            record[field] = getattr(config, field)
    for field in ("block_size_tokens", "caches_prefixes"):  # KV goes from one pool to the other as it is
        if (records[field] != records[field][0]).any():
            raise ValueError(f"pools and kinds of GPU must have the same {field}, got {records[field].tolist()}")
    seats = 0
    if adapters is not None:
        seats = EACH + 2 * adapters.count
    _share_out(records, seats)
    return records


def _lora(adapters: Adapters) -> Records:
    records = np.zeros(1, LORA)
    records["max_loras"], records["load_s"] = adapters.limits.max_loras, adapters.limits.load_s
    records["adapters"] = adapters.count
    return records


def _share_out(records: Records, seats: int) -> None:
    """What each replica gets of the arrays, the same in every pool."""
    blocks, counts = int(records["usable_blocks"].max()), TTFT_BUCKETS + GAPS_CELLS
    records["nodes"] = blocks + 1  # a router's index has one too many for a moment
    records["table_mask"] = (1 << (ENTRIES_RATIO * blocks - 1).bit_length()) - 1
    records["row_cells"] = records["max_num_seqs"].max() + records["block_size_tokens"][0] + counts + seats


def _blank() -> Record:
    replicas = np.zeros(1, REPLICA)
    for field in (
        *("partial", "prefilled_from", "run_head", "run_tail", "wait_head", "wait_tail"),
        *("free_head", "free_tail", "spare_node"),
    ):
        replicas[field] = NOBODY
    replicas["event_at_s"] = math.inf
    blank: Record = replicas[0]
    return blank


BLANK = _blank()
