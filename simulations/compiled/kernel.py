"""Continuous batching as `simulations.replica.Engine` does it, from one change of the batch to the next.

While nobody can be admitted, equal steps follow each other: k of them with B decoding requests that read K tokens
take k·(a + cB + dK) + dB·k(k-1)/2, because each step reads B tokens more. Such a run ends with the first
completion, where the blocks run out, or, cut short, with the step in which a request arrives.
`advance` is the entry; everything here works on a `World` in place.
"""

import math

import numpy as np

from .blocks import growth_within, tokens_at_end
from .due import add_due, comes_before, take_due
from .gaps import begin_gaps, count_long_gap, count_pace, count_steps, end_gaps
from .guide import best_scored
from .heap import heap_pop, heap_push
from .jit import inner, inner_apart, jit
from .layout import NOBODY, REQUEST_BITS, TTFT_BOUNDS_S, Record, Records, World
from .lists import enqueue, unlink
from .plan import pay_for_run, plan_next, release
from .pool import begin_telling
from .timing import decode_s, set_run, steps_started

BOUNDS_S = np.array(TTFT_BOUNDS_S)
REQUEST_MASK = (1 << REQUEST_BITS) - 1


@jit
def advance(world: World, until_s: float) -> None:
    """Hand out every request that arrives until then, and end every step that ends until then."""
    course, requests = world.course[0], world.requests
    replicas = world.replicas[: course["slots"]]
    while True:
        number = _next_arrival(world)
        at_s = math.inf if number == NOBODY else max(requests[number]["arrived_at_s"], course["now_s"])
        if len(world.follows) and _end_one(world, replicas, min(at_s, until_s)):
            continue  # what ended may have brought a request that comes before all that were known
        if number == NOBODY or at_s > until_s:
            break
        _settle(world, replicas, at_s)
        chosen = _route(world, replicas, number, at_s)
        if chosen == NOBODY:  # it waits in front of the fleet, and all that come later, until a replica is ready
            at_s = _first_ready_at_s(world, replicas, number)
            if at_s > until_s or at_s == math.inf:
                break
            _settle(world, replicas, at_s)
            chosen = _route(world, replicas, number, at_s)
        course["now_s"] = at_s
        _hand_out(world, number, chosen)
        _react(world, replicas[chosen], at_s)
        if replicas[chosen]["wakes"]:
            _settle(world, replicas[chosen : chosen + 1], at_s)
    _settle(world, replicas, until_s)
    if until_s < math.inf:
        course["now_s"] = until_s


@inner
def _hand_out(world: World, number: int, chosen: int) -> None:
    """The first to come joins the queue of a replica."""
    course = world.course[0]
    if len(world.due) and course["due"] and world.due[0] == number:
        take_due(course, world.requests, world.due)
    else:
        course["next_request"] += 1
    world.requests[number]["replica"] = chosen
    enqueue(world.requests, world.replicas[chosen], number)


@inner
def _next_arrival(world: World) -> int:
    """Of the known ones that have no replica yet; NOBODY where there is none."""
    course, number = world.course[0], NOBODY
    if course["next_request"] < len(world.order):
        number = world.order[course["next_request"]]
    if len(world.due) and course["due"]:
        other = world.due[0]
        if number == NOBODY or comes_before(world.requests, other, number):
            number = other
    return number


@inner
def _end_one(world: World, replicas: Records, until_s: float) -> bool:
    """End what ends first, if that is until then."""
    first, at_s = NOBODY, math.inf
    for index in range(len(replicas)):
        if replicas[index]["event_at_s"] < at_s:
            first, at_s = index, replicas[index]["event_at_s"]
    does_end = first != NOBODY and at_s <= until_s
    if does_end:
        _settle(world, replicas[first : first + 1], at_s)
    return does_end


@jit
def run_under_way(world: World, slot: int) -> tuple[int, int]:
    """Of the run of equal steps that a replica is in: steps started by now, and blocks not yet counted for them."""
    replica = world.replicas[slot]
    machine = world.machine[replica["machine"]]
    if replica["jump_steps"] == 0:
        return 0, 0
    started = steps_started(machine, replica, world.course[0]["now_s"])
    return started, growth_within(machine, replica, world.rows, started) - replica["prepaid_blocks"]


@inner_apart
def _settle(world: World, replicas: Records, at_s: float) -> None:
    """End all that ends until this moment."""
    for index in range(len(replicas)):
        replica = replicas[index]
        while replica["event_at_s"] <= at_s and replica["event_at_s"] < math.inf:
            _finish(world, _machine_of(world, replica), replica)


@inner
def _machine_of(world: World, replica: Record) -> Record:
    """Mostly the first one: an index that must be computed would cost a hundredth of all."""
    machine: Record = world.machine[0]
    if replica["machine"]:
        machine = world.machine[replica["machine"]]
    return machine


@inner
def _route(world: World, replicas: Records, number: int, at_s: float) -> int:
    """The replica that gets a request; NOBODY where none is ready."""
    course, pool = world.course[0], _pool_of(world, number)
    chosen, smallest, slots = NOBODY, 0, len(replicas)
    if len(world.indexes):
        return best_scored(world, replicas, number, pool, at_s)
    machine = world.machine[pool]
    for index in range(slots):
        replica = replicas[index]
        if replica["accepts"] == 0 or replica["pool"] != pool or replica["ready_at_s"] > at_s:
            continue
        rank = (index - machine["last_turn"] - 1) % slots if course["takes_turns"] else replica["outstanding"]
        if chosen == NOBODY or rank < smallest:
            chosen, smallest = index, rank
    if course["takes_turns"] and chosen != NOBODY:
        machine["last_turn"] = chosen
    return chosen


@inner
def _pool_of(world: World, number: int) -> int:
    pool = 0
    if len(world.follows):
        pool = world.follows[number]["pool"]
    return pool


@inner
def _first_ready_at_s(world: World, replicas: Records, number: int) -> float:
    ready_at_s, pool = math.inf, _pool_of(world, number)
    for index in range(len(replicas)):
        if replicas[index]["accepts"] and replicas[index]["pool"] == pool:
            ready_at_s = min(ready_at_s, replicas[index]["ready_at_s"])
    return ready_at_s


@inner
def _react(world: World, replica: Record, at_s: float) -> None:
    """A request came: an idle replica begins with it, a run of equal steps ends with the one under way."""
    machine = _machine_of(world, replica)
    if replica["event_at_s"] == math.inf:
        replica["wakes"] = 1
        replica["event_at_s"] = at_s
    elif (
        replica["jump_steps"] > 1
        and (replica["waiting"] == 1 or len(world.loras))  # who waits for a seat is passed over
        and replica["decoding"] < machine["max_num_seqs"]
    ):
        set_run(machine, replica, steps_started(machine, replica, at_s))


@inner
def _finish(world: World, machine: Record, replica: Record) -> None:
    """End the step, or the run of steps, under way, and begin what follows."""
    steps = replica["jump_steps"]
    if replica["wakes"]:
        replica["wakes"] = 0
        replica["started_at_s"] = replica["event_at_s"]
    else:
        first_s, rise_s = replica["event_at_s"] - replica["started_at_s"], 0.0
        if steps:
            first_s, rise_s = decode_s(machine, replica), machine["kv_token_s"] * replica["decoding"]
            pay_for_run(world, replica, steps)
        else:
            steps = 1  # its blocks were taken when it was planned
        count_steps(world.rows, replica, first_s, rise_s, steps)
        replica["gap_sum_s"] += (replica["event_at_s"] - replica["started_at_s"]) * replica["decoding"]
        replica["events"] += 1
        replica["steps"] += steps
        replica["kv_tokens"] += steps * replica["decoding"]
        replica["generated_tokens"] += steps * replica["decoding"]
        replica["started_at_s"] = replica["event_at_s"]
        _retire_decoded(world, replica)
        if replica["prefilled_from"] != NOBODY:
            _end_prefills(world, replica)
    plan_next(world, machine, replica)


@inner
def _retire_decoded(world: World, replica: Record) -> None:
    size, requests, rows = world.machine[0]["block_size_tokens"], world.requests, world.rows
    ended, number = 0, NOBODY
    while replica["decoding"] and rows[replica["heap_at"]] >> REQUEST_BITS == replica["steps"]:
        number = rows[replica["heap_at"]] & REQUEST_MASK
        heap_pop(rows, replica["heap_at"], replica["decoding"])
        tokens = tokens_at_end(requests[number])
        replica["decoding"] -= 1
        replica["kv_tokens"] -= tokens
        rows[replica["growth_at"] + (replica["steps"] + 1 - tokens) % size] -= 1
        ended += 1
    if ended == 1:
        _retire(world, replica, number)
    elif ended:
        _retire_in_order(world, replica, ended)


@inner_apart
def _retire_in_order(world: World, replica: Record, ended: int) -> None:
    """Several that end with the same step free their blocks in the order of their admission."""
    requests, number = world.requests, replica["run_head"]
    while ended:
        following = requests[number]["next"]
        if requests[number]["finish_step"] == replica["steps"]:
            _retire(world, replica, number)
            ended -= 1
        number = following


@inner
def _end_prefills(world: World, replica: Record) -> None:
    """The requests whose prompt is computed now have their next token."""
    size, requests, rows = world.machine[0]["block_size_tokens"], world.requests, world.rows
    number = replica["prefilled_from"]
    replica["prefilled_from"] = NOBODY
    while number != NOBODY and number != replica["partial"]:  # `in` would be compiled as a function
        request = requests[number]
        following = request["next"]
        if math.isnan(request["first_token_at_s"]):
            _note_first_token(world, replica, number)
        else:
            count_long_gap(world, replica, number)
        begin_gaps(world, replica, number)
        request["generated_tokens"] += 1
        replica["generated_tokens"] += 1
        tokens = request["prompt_tokens"] + request["generated_tokens"]
        left = request["output_tokens"] - request["generated_tokens"]
        if left == 0:
            _retire(world, replica, number)
        else:
            request["finish_step"] = replica["steps"] + left
            key = request["finish_step"] << REQUEST_BITS | number
            heap_push(rows, replica["heap_at"], replica["decoding"], key)
            replica["decoding"] += 1
            replica["kv_tokens"] += tokens
            if len(world.prefixes):
                begin_telling(world, replica, number)
            rows[replica["growth_at"] + (replica["steps"] + 1 - tokens) % size] += 1
        number = following


@inner
def _note_first_token(world: World, replica: Record, number: int) -> None:
    request = world.requests[number]
    if len(world.prefixes):
        replica["cached_prompt_tokens"] += world.prefixes[number]["cached_tokens"]
    request["first_token_at_s"] = replica["started_at_s"]
    ttft_s = request["first_token_at_s"] - request["arrived_at_s"]
    replica["prompt_tokens"] += request["prompt_tokens"]
    replica["ttft_sum_s"] += ttft_s
    bucket = 0
    while bucket < len(BOUNDS_S) and ttft_s > BOUNDS_S[bucket]:
        bucket += 1
    world.rows[replica["ttft_at"] + bucket] += 1


@inner
def _retire(world: World, replica: Record, number: int) -> None:
    request = world.requests[number]
    request["generated_tokens"] = request["output_tokens"]
    release(world, replica, number, tokens_at_end(request) - 1)
    end_gaps(world, replica, number)
    request["finished_at_s"] = replica["last_finish_at_s"] = replica["started_at_s"]
    if world.course[0]["counts_paces"]:
        count_pace(world.rows, replica, request)
    replica["finished"] += 1
    replica["outstanding"] -= 1
    unlink(world.requests, replica, number)
    if len(world.follows):
        _call_next(world, number)


@inner
def _call_next(world: World, number: int) -> None:
    """What follows a request that ended."""
    follow = world.follows[number]
    if follow["next_request"] != NOBODY:
        following = world.requests[follow["next_request"]]
        following["arrived_at_s"] = world.requests[number]["finished_at_s"] + follow["think_s"]
        add_due(world.course[0], world.requests, world.due, follow["next_request"])
