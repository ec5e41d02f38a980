"""Where the kernel's state lies: one record per request (a cache line), one per replica, few shared rows.

Requests and blocks are numbers; lists of them are linked, and -1 ends a list.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
POOLS = 2  # at most: one for prefill, one for decoding
REQUEST_BITS = 32  # of a key in a heap; the rest is the step

# vLLM's buckets of `vllm:time_to_first_token_seconds`; what is longer than the last falls into +Inf.
TTFT_BOUNDS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip

# vLLM's buckets of `vllm:inter_token_latency_seconds`.
GAP_BOUNDS_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip

REQUEST = np.dtype(
    [
        ("arrived_at_s", np.float64),
        ("scheduled_at_s", np.float64),  # NaN until it happens, as the next two
        ("first_token_at_s", np.float64),
        ("finished_at_s", np.float64),
        ("last_token_at_s", np.float64),  # as of its end or latest preemption
        ("finish_step", np.int64),  # of its replica, while it decodes
        ("prompt_tokens", np.int32),
        ("output_tokens", np.int32),
        ("generated_tokens", np.int32),  # as of its last admission or preemption
        ("computed_tokens", np.int32),  # while its prefill goes on
        ("next", np.int32),
        ("prev", np.int32),
        ("replica", np.int32),
        ("preemptions", np.int32),
    ]
)

# What comes after a request, and which replicas may serve it.
FOLLOW = np.dtype(
    [
        ("think_s", np.float64),  # from its end to the next one's arrival
        ("next_request", np.int32),
        ("received_tokens", np.int32),  # of its prompt, whose KV comes with it; gone when it is preempted
        ("pool", np.int32),
        ("adapter", np.int32),  # from 1 on; 0: none
    ]
)

# What only a prefix cache must know of a request.
PREFIX = np.dtype(
    [
        ("names_at", np.int64),  # where its stretch of `World.names` begins
        ("seat", np.int64),  # counts the admissions of its replica: who runs before whom
        ("given", np.int32),  # how many of its blocks have a name that others may have as well
        ("named", np.int32),  # how many of them, from the first on, it holds
        ("hits", np.int32),  # blocks found at the latest look, and those of them that nobody uses
        ("free_hits", np.int32),
        ("cached_tokens", np.int32),  # found at its first admission
        ("leftover", np.int32),  # preempted: the node of what is left of its other full blocks
        ("tells", np.int32),  # it decodes, and some of what it will decode has a name
    ]
)

# One block with a name, or a run of blocks that have none but are as old as each other.
NODE = np.dtype(
    [
        ("name", np.int64),
        ("named_at", np.int64),  # step << 32 | seat; -1: a run
        ("uses", np.int32),
        ("blocks", np.int32),
        ("owner", np.int32),  # of a run: the preempted request that may want it again
        ("before", np.int32),  # among the free ones, in the order of their eviction
        ("after", np.int32),
        ("chained", np.int32),  # the next one of those that share a place in `World.table`
    ]
)

REPLICA = np.dtype(
    [
        # What every request looks at, of every replica: one cache line.
        ("ready_at_s", np.float64),
        ("accepts", np.int64),  # the router may choose it once it is ready
        ("pool", np.int64),
        ("event_at_s", np.float64),  # when that ends; infinite: idle
        ("outstanding", np.int64),
        ("waiting", np.int64),
        ("started_at_s", np.float64),  # of the step, or of the run of equal steps, under way
        ("jump_steps", np.int64),  # how many equal steps; 0: one step that also prefills
        ("wakes", np.int64),  # it was idle, and begins at `event_at_s`
        ("machine", np.int64),  # in `World.machine`: that of its pool, or of its kind of GPU
        ("steps", np.int64),  # ended
        ("free_blocks", np.int64),
        ("prepaid_blocks", np.int64),  # taken at the begin of the run of steps under way
        ("kv_tokens", np.int64),  # that the decoding requests read in the next step
        ("decoding", np.int64),
        ("partial", np.int64),  # the request whose prefill goes on after this step
        ("prefilled_from", np.int64),  # first of the running ones whose prefill ends with this step
        ("run_head", np.int64),
        ("run_tail", np.int64),
        ("wait_head", np.int64),
        ("wait_tail", np.int64),
        ("prompt_tokens", np.int64),  # of requests that have their first token
        ("generated_tokens", np.int64),
        ("finished", np.int64),
        ("preemptions", np.int64),
        ("events", np.int64),
        ("heap_at", np.int64),  # where its stretches of `World.rows` begin
        ("growth_at", np.int64),
        ("ttft_at", np.int64),
        ("gaps_at", np.int64),
        ("last_finish_at_s", np.float64),
        ("ttft_sum_s", np.float64),
        ("gap_sum_s", np.float64),  # of all gaps before tokens, and of the paces of requests that ended
        ("pace_sum_s", np.float64),
        ("blank_blocks", np.int64),  # free, and nothing in them: these go first
        ("free_head", np.int64),  # of the other free ones, in the order of eviction
        ("free_tail", np.int64),
        ("spare_node", np.int64),
        ("nodes_used", np.int64),  # those after them were never used
        ("nodes_at", np.int64),
        ("table_at", np.int64),
        ("admissions", np.int64),
        ("tellers", np.int64),
        ("cached_prompt_tokens", np.int64),
        ("prefix_queried_tokens", np.int64),
        ("prefix_hit_tokens", np.int64),
    ]
)

# Of a pool, and after these of kinds of GPU. The size of a block, whether prefixes are cached, and what comes after
# that are the same for all.
MACHINE = np.dtype(
    [
        ("last_turn", np.int64),  # the slot that got the latest request, where they take turns
        ("base_s", np.float64),
        ("prefill_token_s", np.float64),
        ("decode_sequence_s", np.float64),
        ("kv_token_s", np.float64),
        ("attention_pair_s", np.float64),
        ("max_num_seqs", np.int64),
        ("max_num_batched_tokens", np.int64),
        ("usable_blocks", np.int64),
        ("block_size_tokens", np.int64),
        ("reserves_full_prompt", np.int64),
        ("caches_prefixes", np.int64),
        ("table_mask", np.int64),
        ("nodes", np.int64),  # that a replica has of `World.nodes`
        ("row_cells", np.int64),  # that it has of `World.rows`
    ]
)

# What every replica does with adapters.
LORA = np.dtype(
    [
        ("max_loras", np.int64),
        ("adapters", np.int64),
        ("load_s", np.float64),
    ]
)

COURSE = np.dtype(
    [
        ("now_s", np.float64),
        ("next_request", np.int64),  # place in `World.order` of the first one that is not yet with a replica
        ("slots", np.int64),  # of the replicas that ever served; those after them are not looked at
        ("takes_turns", np.int64),  # round robin instead of the fewest outstanding
        ("due", np.int64),  # how many are in `World.due`
        ("counts_paces", np.int64),  # somebody reads them: counting costs a twentieth of all
    ]
)

Records = NDArray[np.void]
Record = np.void
Rows = NDArray[np.int64]
Order = NDArray[np.int32]
Counts = NDArray[np.int32]


class World(NamedTuple):
    """All state of a run.

    `order` names the requests in the order of their arrival. `rows` holds five stretches per replica: the heap of
    the decoding requests (finish_step << 32 | request), how many of them need a block at which step (mod block size),
    and counts of TTFT, of steps, of times between tokens and of requests' paces per bucket; then who uses which
    adapter, where there are any.

    The others are empty where nobody needs them. `gaps` has the times between tokens per request. `follows` has a
    record per request; `due` is a heap of those whose time has been set by the end of another one. `loras` has one
    record. The last six are for prefixes: `names` has a stretch per request, beside it `held` the nodes of those
    blocks; `nodes` and a hash `table` of their names (1 + the first of a chain of them) have one per replica, and,
    after those, one per index of a router that looks at prefixes; `indexes` has a record per slot for such a router.
    """

    course: Records
    machine: Records
    requests: Records
    order: Order
    replicas: Records
    rows: Rows
    gaps: Counts
    follows: Records
    due: Order
    loras: Records
    prefixes: Records
    names: Rows
    held: Order
    nodes: Records
    table: Order
    indexes: Records


PARTS = World._fields[World._fields.index("gaps") :]


def without_parts(world: World) -> World:
    """A world in which nobody needs them: what is an empty tuple is known to be empty to the compiler."""
    return World._make(() if name in PARTS else value for name, value in zip(World._fields, world, strict=True))


def is_plain(world: World) -> bool:
    """Whether it is such a world."""
    return all(isinstance(getattr(world, name), tuple) for name in PARTS)
