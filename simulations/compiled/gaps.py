"""Times between two tokens, counted per bucket: of a replica, and where they are kept, of each request.

Beside them of a replica: the mean time between two tokens of each request that ended, its pace.

In a run of equal steps every decoding request gets a token per step, and step i takes `first_s + i·rise_s`: how many
of them fall into a bucket is a division. A request's own counts are those of its replica's steps from its first token
to its last: steps counted at its end minus steps counted at its begin.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .jit import inner, inner_apart, jit
from .layout import GAP_BOUNDS_S, Counts, Record, Rows, World
from .timing import decode_s, run_s

Floats = NDArray[np.float64]

BOUNDS_S = np.array(GAP_BOUNDS_S)
GAP_BUCKETS = len(GAP_BOUNDS_S) + 1
GAPS_CELLS = 3 * GAP_BUCKETS  # of a replica in `World.rows`: steps, tokens, paces
# Columns of what is read of a replica: tokens per bucket and the sum of their gaps, then paces likewise.
GAP_SUM, PACES = GAP_BUCKETS, GAP_BUCKETS + 1
PACE_SUM, GAPS_WIDTH = PACES + GAP_BUCKETS, 2 * PACES


@inner_apart
def count_steps(rows: Rows, replica: Record, first_s: float, rise_s: float, steps: int) -> None:
    """Steps that ended, and the tokens that they gave to the decoding requests."""
    steps_at, tokens_at = replica["gaps_at"], replica["gaps_at"] + GAP_BUCKETS
    bucket, counted = bucket_of(first_s), 0
    while counted < steps:
        within = _steps_within(first_s, rise_s, bucket, steps) - counted
        rows[steps_at + bucket] += within
        rows[tokens_at + bucket] += within * replica["decoding"]
        counted += within
        bucket += 1


@inner
def bucket_of(gap_s: float) -> int:
    """The first whose bound is not exceeded."""
    bucket = 0
    while bucket < len(BOUNDS_S) and gap_s > BOUNDS_S[bucket]:
        bucket += 1
    return bucket


@inner
def _steps_within(first_s: float, rise_s: float, bucket: int, steps: int) -> int:
    """How many of so many steps take no longer than a bucket's bound."""
    if bucket == len(BOUNDS_S) or first_s + rise_s * (steps - 1) <= BOUNDS_S[bucket]:
        return steps
    return int(min(steps, math.floor((BOUNDS_S[bucket] - first_s) / rise_s) + 1))


@inner_apart
def count_pace(rows: Rows, replica: Record, request: Record) -> None:
    """It has its last token; a single token has no pace."""
    gaps = request["output_tokens"] - 1
    if gaps:
        pace_s = (request["finished_at_s"] - request["first_token_at_s"]) / gaps
        rows[replica["gaps_at"] + 2 * GAP_BUCKETS + bucket_of(pace_s)] += 1
        replica["pace_sum_s"] += pace_s


@inner_apart
def read_gaps(world: World, replica: Record, ended: int, found: Floats, first: int) -> None:
    """What a replica counted since its start, and in the steps that ended of the run of equal ones under way.

    To columns from `first` on.
    """
    tokens_at, paces_at = replica["gaps_at"] + GAP_BUCKETS, replica["gaps_at"] + 2 * GAP_BUCKETS
    for bucket in range(GAP_BUCKETS):
        found[first + bucket] = world.rows[tokens_at + bucket]
        found[first + PACES + bucket] = world.rows[paces_at + bucket]
    found[first + GAP_SUM], found[first + PACE_SUM] = replica["gap_sum_s"], replica["pace_sum_s"]
    if ended <= 0:
        return
    machine = world.machine[replica["machine"]]
    first_s, rise_s = decode_s(machine, replica), machine["kv_token_s"] * replica["decoding"]
    found[first + GAP_SUM] += run_s(first_s, rise_s, ended) * replica["decoding"]
    bucket, counted = bucket_of(first_s), 0
    while counted < ended:
        within = _steps_within(first_s, rise_s, bucket, ended) - counted
        found[first + bucket] += within * replica["decoding"]
        counted += within
        bucket += 1


@jit
def gaps_of(world: World, slot: int, ended: int, found: Floats) -> None:
    """The same of one replica, from Python."""
    read_gaps(world, world.replicas[slot], ended, found, 0)


@inner
def begin_gaps(world: World, replica: Record, number: int) -> None:
    """Its next token comes with the next step."""
    if len(world.gaps):
        _add_steps(world.gaps[number], world.rows, replica["gaps_at"], -1)


@inner
def end_gaps(world: World, replica: Record, number: int) -> None:
    """It has its last token, or is preempted."""
    if len(world.gaps):
        _add_steps(world.gaps[number], world.rows, replica["gaps_at"], 1)
    world.requests[number]["last_token_at_s"] = replica["started_at_s"]


@inner
def count_long_gap(world: World, replica: Record, number: int) -> None:
    """The token after a preemption."""
    gap_s = replica["started_at_s"] - world.requests[number]["last_token_at_s"]
    bucket = bucket_of(gap_s)
    replica["gap_sum_s"] += gap_s
    world.rows[replica["gaps_at"] + GAP_BUCKETS + bucket] += 1
    if len(world.gaps):
        world.gaps[number, bucket] += 1


@inner_apart
def _add_steps(counts: Counts, rows: Rows, steps_at: int, sign: int) -> None:
    for bucket in range(GAP_BUCKETS):
        counts[bucket] += sign * rows[steps_at + bucket]
