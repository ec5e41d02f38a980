"""What sensors read off the replicas, and when: `metrics.window.Window` for all replicas of a fleet, compiled.

`watch` is the entry: it moves time on from read to read until somebody must look at what was read.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoscaler import rhythm
from autoscaler.rhythm import UNHEARD
from metrics.window import KEEP_S, SAMPLES_MAX

from .blocks import growth_within
from .gaps import GAP_BUCKETS, GAPS_WIDTH, PACES, read_gaps
from .jit import inner, inner_apart, jit
from .kernel import advance
from .layout import TTFT_BOUNDS_S, Record, Records, Rows, World
from .timing import steps_started

Floats = NDArray[np.float64]
Level = tuple[int, int, int, int, int]
Firsts = tuple[float, float, float]

SPACING_S = KEEP_S / (SAMPLES_MAX - 1)
# All gaps but the last are at least `SPACING_S`: so many pages fit into `KEEP_S`, and one more for the last gap.
PAGES = SAMPLES_MAX + 2
TTFT_BUCKETS = len(TTFT_BOUNDS_S) + 1
# Columns of a page's totals; counts per bucket and the sum of TTFT follow.
PROMPT, GENERATED, PREEMPTIONS, FINISHED = range(4)
BUCKETS = 4
WIDTH = BUCKETS + TTFT_BUCKETS + 1  # of who does not read times between tokens; else GAPS_WIDTH more
# Columns of a summary: the newest gauges, rates, then cumulated counts and the sum of TTFT; of gaps and paces likewise.
OBSERVED_S, RUNNING, WAITING, KV_USAGE = range(4)
SPAN_S, PROMPT_PER_S, GENERATED_PER_S, PREEMPTIONS_PER_S, FINISHED_PER_S, STALLED_S = range(4, 10)
COUNTS = 10
SUMMARY_WIDTH = COUNTS + TTFT_BUCKETS + 1

REACHED, LEFT, HEARD, NEWS = range(4)  # why `watch` came back; HEARD: a first word, or more is held

EYE = np.dtype(
    [
        ("due_at_s", np.float64),  # the next read; infinite: nobody reads it
        ("observed_at_s", np.float64),  # the newest read, and what its gauges said
        ("running_requests", np.float64),
        ("waiting_requests", np.float64),
        ("kv_cache_usage_ratio", np.float64),
        ("moved_at_s", np.float64),  # when a counter last moved, or there was nothing to do
        ("first", np.int64),  # of the kept pages, in their ring
        ("kept", np.int64),
        ("has_level", np.int64),
        ("is_leaving", np.int64),  # it drains: its end is news
    ]
)

GATE = np.dtype(
    [
        ("due_at_s", np.float64),
        ("observed_at_s", np.float64),
        ("held_requests", np.float64),
        ("round_at_s", np.float64),  # when an edge had all replicas read
        ("is_owed", np.int64),  # such a round: an edge came too soon after the last one
    ]
)


class Sight(NamedTuple):
    """What is known of each slot. `kept_at_s` and `totals` are rings of `PAGES` pages a slot."""

    eyes: Records
    gate: Records  # one: what is held before the replicas
    levels: Rows  # slots x lenses
    kept_at_s: Floats
    totals: Floats  # slots x pages x columns


level = jit(rhythm.level)
is_news = jit(rhythm.is_news)


def new_sight(slots: int, *, has_gaps: bool = False) -> Sight:
    """Nothing was read yet, nothing will be. `has_gaps`: times between tokens, too."""
    eyes, gate = np.zeros(slots, EYE), np.zeros(1, GATE)
    eyes["due_at_s"] = eyes["observed_at_s"] = gate["due_at_s"] = math.inf
    gate["observed_at_s"] = gate["round_at_s"] = -math.inf
    return Sight(
        eyes=eyes,
        gate=gate,
        levels=np.zeros((slots, 5), np.int64),
        kept_at_s=np.zeros((slots, PAGES)),
        totals=np.zeros((slots, PAGES, WIDTH + has_gaps * GAPS_WIDTH)),
    )


@jit
def watch(
    world: World, sight: Sight, until_s: float, periods_s: tuple[float, float, float], firsts: Firsts
) -> tuple[float, int]:
    """Move on, reading what is due, until a read is news, a draining replica is empty, or until then.

    `periods_s`: between two reads of a replica, and of the gate; and at least between two rounds, in which an edge on
    one replica has all read, as `autoscaler.collect` has it. Returns when, and why. Nothing is news to who gives no
    edges (NaN).
    """
    is_woken = not math.isnan(firsts[0])
    while True:
        due_at_s = _next_due_s(world, sight)
        if due_at_s > until_s:
            advance(world, until_s)
            return until_s, REACHED
        advance(world, due_at_s)
        why = _read_due(world, sight, due_at_s, periods_s, firsts)
        if why == NEWS and is_woken:  # what one says, the others may say too
            read_replicas(world, sight, due_at_s, firsts)
        if why != REACHED and is_woken:
            return due_at_s, why


@inner
def _next_due_s(world: World, sight: Sight) -> float:
    due_at_s = sight.gate[0]["due_at_s"]
    for slot in range(world.course[0]["slots"]):
        due_at_s = min(due_at_s, sight.eyes[slot]["due_at_s"])
    return float(due_at_s)


@inner
def _read_due(world: World, sight: Sight, at_s: float, periods_s: tuple[float, float, float], firsts: Firsts) -> int:
    """Read what is due, and say what that means."""
    gate = sight.gate[0]
    why, read_ones, alive = _read_due_replicas(world, sight, at_s, periods_s[0], firsts)
    if gate["due_at_s"] <= at_s:
        gate["due_at_s"] += periods_s[1]
        if read_gate(world, sight, at_s):
            why = HEARD
    # Who is alone has nobody to wait for.
    if gate["is_owed"] and read_ones and (alive <= 1 or at_s - gate["round_at_s"] >= periods_s[2]):
        gate["is_owed"], gate["round_at_s"], why = 0, at_s, NEWS
    return why


@inner
def _read_due_replicas(
    world: World, sight: Sight, at_s: float, period_s: float, firsts: Firsts
) -> tuple[int, int, int]:
    """What it means, short of a round; how many were read, and how many ever are."""
    why, read_ones, alive = REACHED, 0, 0
    for slot in range(world.course[0]["slots"]):
        eye = sight.eyes[slot]
        if eye["is_leaving"] and world.replicas[slot]["outstanding"] == 0:
            why = max(why, LEFT)
        alive += eye["due_at_s"] < math.inf
        if eye["due_at_s"] <= at_s:
            read_ones += 1
            eye["due_at_s"] += period_s
            found = read(world, sight, slot, at_s, firsts)
            if found == NEWS:
                sight.gate[0]["is_owed"] = 1
            elif found == HEARD:
                why = HEARD
    return why, read_ones, alive


@jit
def read_all(world: World, sight: Sight, at_s: float, firsts: Firsts) -> None:
    """Everything that is read at all, now."""
    read_gate(world, sight, at_s)
    read_replicas(world, sight, at_s, firsts)


@inner_apart
def read_replicas(world: World, sight: Sight, at_s: float, firsts: Firsts) -> None:
    """All that are read at all, now."""
    for slot in range(world.course[0]["slots"]):
        if sight.eyes[slot]["observed_at_s"] < at_s:
            read(world, sight, slot, at_s, firsts)


@inner_apart
def read_gate(world: World, sight: Sight, at_s: float) -> bool:
    """Count what is held before the replicas; True where it grew."""
    gate, held = sight.gate[0], held_at(world, at_s)
    grew = held > gate["held_requests"]
    gate["held_requests"], gate["observed_at_s"] = held, at_s
    return bool(grew)


@inner_apart
def held_at(world: World, at_s: float) -> int:
    """Requests that arrived by then and found no replica yet."""
    order, requests, called = world.order, world.requests, 0
    if len(world.due):
        for place in range(world.course[0]["due"]):
            called += requests[world.due[place]]["arrived_at_s"] <= at_s
    first, high = world.course[0]["next_request"], len(order)
    if first == high or requests[order[first]]["arrived_at_s"] > at_s:
        return int(called)
    low = first
    while low < high:
        middle = (low + high) // 2
        if requests[order[middle]]["arrived_at_s"] <= at_s:
            low = middle + 1
        else:
            high = middle
    return int(called + low - first)


@inner_apart
def read(world: World, sight: Sight, slot: int, at_s: float, firsts: Firsts) -> int:
    """One replica's page; NEWS where a lens went a step up, else HEARD on its first page."""
    eye, replica = sight.eyes[slot], world.replicas[slot]
    started = _steps_started(world, replica, at_s)
    running, waiting = replica["outstanding"] - replica["waiting"], replica["waiting"]
    usage = _usage(world, replica, started)
    had_work = eye["kept"] and (eye["running_requests"] > 0 or eye["waiting_requests"] > 0)
    before = (eye["first"] + eye["kept"] - 1) % PAGES
    prompt, generated = sight.totals[slot, before, PROMPT], sight.totals[slot, before, GENERATED]
    row = sight.totals[slot, _next_place(sight, slot, at_s)]
    row[PROMPT] = replica["prompt_tokens"]
    row[GENERATED] = replica["generated_tokens"] + max(0, started - 1) * replica["decoding"]
    row[PREEMPTIONS], row[FINISHED] = replica["preemptions"], replica["finished"]
    for bucket in range(TTFT_BUCKETS):
        row[BUCKETS + bucket] = world.rows[replica["ttft_at"] + bucket]
    row[WIDTH - 1] = replica["ttft_sum_s"]
    if len(row) > WIDTH:
        read_gaps(world, replica, started - 1, row, WIDTH)
    if not (had_work and running + waiting > 0) or row[PROMPT] != prompt or row[GENERATED] != generated:
        eye["moved_at_s"] = at_s
    eye["observed_at_s"], eye["kv_cache_usage_ratio"] = at_s, usage
    eye["running_requests"], eye["waiting_requests"] = running, waiting
    return _note_level(sight, slot, level(running, waiting, usage, True, firsts))


@jit
def gauges_at(world: World, slots: Rows, at_s: float, found: Floats) -> int:
    """What the pages of these replicas would say at this moment, to rows of a summary; returns what is held."""
    for index in range(len(slots)):
        replica = world.replicas[slots[index]]
        found[index, OBSERVED_S] = at_s
        found[index, RUNNING] = replica["outstanding"] - replica["waiting"]
        found[index, WAITING] = replica["waiting"]
        found[index, KV_USAGE] = _usage(world, replica, _steps_started(world, replica, at_s))
    return held_at(world, at_s)


@inner_apart
def _steps_started(world: World, replica: Record, at_s: float) -> int:
    return steps_started(world.machine[replica["machine"]], replica, at_s) if replica["jump_steps"] else 0


@inner_apart
def _usage(world: World, replica: Record, started: int) -> float:
    """Share of the KV blocks in use."""
    free = replica["free_blocks"]
    if started:
        free -= growth_within(world.machine[0], replica, world.rows, started) - replica["prepaid_blocks"]
    return float(1.0 - free / world.machine[replica["machine"]]["usable_blocks"])


@jit
def total_load(world: World) -> tuple[int, int, int, float]:
    """Requests running and waiting in all replicas, and held before them; and KV use of the ready of the first pool."""
    running, waiting, usage, at_s = 0, 0, 0.0, world.course[0]["now_s"]
    for slot in range(world.course[0]["slots"]):
        replica = world.replicas[slot]
        running += replica["outstanding"] - replica["waiting"]
        waiting += replica["waiting"]
        if replica["accepts"] and replica["ready_at_s"] <= at_s and replica["pool"] == 0:
            usage += _usage(world, replica, _steps_started(world, replica, at_s))
    return running, waiting, held_at(world, at_s), usage


@inner_apart
def _note_level(sight: Sight, slot: int, new: Level) -> int:
    old, eye = sight.levels[slot], sight.eyes[slot]
    found = REACHED if eye["has_level"] else HEARD
    before = (old[0], old[1], old[2], old[3], old[4]) if eye["has_level"] else UNHEARD
    if is_news(new, before):
        found = NEWS
    old[0], old[1], old[2], old[3], old[4] = new
    eye["has_level"] = 1
    return found


@inner_apart
def _next_place(sight: Sight, slot: int, at_s: float) -> int:
    """Room for a page: of pages that are close together only the newest stays, and old ones go."""
    eye, kept_at_s = sight.eyes[slot], sight.kept_at_s[slot]
    last = eye["first"] + eye["kept"] - 1
    if eye["kept"] >= 2 and kept_at_s[last % PAGES] - kept_at_s[(last - 1) % PAGES] < SPACING_S:
        eye["kept"] -= 1
    while eye["kept"] >= 2 and kept_at_s[eye["first"]] < at_s - KEEP_S:
        eye["first"] = (eye["first"] + 1) % PAGES
        eye["kept"] -= 1
    place = (eye["first"] + eye["kept"]) % PAGES
    eye["kept"] += 1
    kept_at_s[place] = at_s
    return int(place)


@jit
def summarize(sight: Sight, slots: Rows, span_s: float, summaries: Floats) -> None:
    """What each of these slots said; rates and TTFT over the `span_s` before its newest page, where that is above 0.

    A span of 0 in a summary: there is one page only, and no rates.
    """
    for index in range(len(slots)):
        eye, found = sight.eyes[slots[index]], summaries[index]
        found[OBSERVED_S], found[KV_USAGE] = eye["observed_at_s"], eye["kv_cache_usage_ratio"]
        found[RUNNING], found[WAITING] = eye["running_requests"], eye["waiting_requests"]
        if span_s > 0 and eye["kept"]:
            _compare(sight, slots[index], span_s, found)


@inner
def _compare(sight: Sight, slot: int, span_s: float, found: Floats) -> None:
    """Rates and TTFT between a slot's newest page and the one that they are counted from."""
    eye, kept_at_s = sight.eyes[slot], sight.kept_at_s[slot]
    last = (eye["first"] + eye["kept"] - 1) % PAGES
    base = _base(eye, kept_at_s, span_s)
    new, old = sight.totals[slot, last], sight.totals[slot, base]
    found[SPAN_S] = kept_at_s[last] - kept_at_s[base]
    if base == last:
        return
    for rate, total in (
        (PROMPT_PER_S, PROMPT),
        (GENERATED_PER_S, GENERATED),
        (PREEMPTIONS_PER_S, PREEMPTIONS),
        (FINISHED_PER_S, FINISHED),
    ):
        found[rate] = (new[total] - old[total]) / found[SPAN_S]
    found[STALLED_S] = eye["observed_at_s"] - eye["moved_at_s"]
    _count_up(new, old, found, BUCKETS, TTFT_BUCKETS)
    if len(new) > WIDTH:
        _count_up(new, old, found, WIDTH, GAP_BUCKETS)
        _count_up(new, old, found, WIDTH + PACES, GAP_BUCKETS)


@inner_apart
def _count_up(new: Floats, old: Floats, found: Floats, first: int, buckets: int) -> None:
    """The increase of a histogram from a column on, cumulated, and that of its sum, which comes after its buckets."""
    count, last = 0.0, first + buckets
    for column in range(first, last):
        count += new[column] - old[column]
        found[column + COUNTS - BUCKETS] = count
    found[last + COUNTS - BUCKETS] = max(0.0, new[last] - old[last])


@inner
def _base(eye: Records, kept_at_s: Floats, span_s: float) -> int:
    """The page that rates are counted from: the oldest of the span, else the one before the newest."""
    last = (eye["first"] + eye["kept"] - 1) % PAGES
    from_s = kept_at_s[last] - span_s
    base = last
    for back in range(eye["kept"]):
        place = (eye["first"] + eye["kept"] - 1 - back) % PAGES
        if kept_at_s[place] < from_s and base != last:
            break
        base = place
        if kept_at_s[place] < from_s:
            break
    return int(base)
