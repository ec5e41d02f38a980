"""Continuous batching as `simulations.replica.Engine` does it, from one change of the batch to the next.

While nobody can be admitted, equal steps follow each other: k of them with B decoding requests that read K tokens
take k·(a + cB + dK) + dB·k(k-1)/2, because each step reads B tokens more. Such a run ends with the first
completion, where the blocks run out, or, cut short, with the step in which a request arrives.
`advance` is the entry; everything here works on a `World` in place.
"""

import math

import numpy as np

from .blocks import blocks_for, growth_within, longest_run, tokens_at_end
from .heap import heap_pop, heap_push, heap_remove
from .jit import jit
from .layout import NOBODY, REQUEST_BITS, TTFT_BOUNDS_S, Record, Records, Rows, World
from .lists import admit_first, enqueue, unlink
from .timing import decode_s, set_run, steps_started

BOUNDS_S = np.array(TTFT_BOUNDS_S)
REQUEST_MASK = (1 << REQUEST_BITS) - 1


@jit
def advance(world: World, until_s: float) -> None:
    """Hand out every request that arrives until then, and end every step that ends until then."""
    course, machine = world.course[0], world.machine[0]
    requests, replicas, rows = world.requests, world.replicas[: course["slots"]], world.rows
    while course["next_request"] < len(world.order):
        number = world.order[course["next_request"]]
        arrived_at_s = requests[number]["arrived_at_s"]
        if arrived_at_s > until_s:
            break
        at_s = max(arrived_at_s, course["now_s"])
        _settle(machine, requests, replicas, rows, at_s)
        chosen = _route(course, replicas, at_s)
        if chosen == NOBODY:  # it waits in front of the fleet until a replica is ready
            at_s = _first_ready_at_s(replicas)
            if at_s > until_s or at_s == math.inf:
                break
            _settle(machine, requests, replicas, rows, at_s)
            chosen = _route(course, replicas, at_s)
        course["now_s"] = at_s
        course["next_request"] += 1
        course["last_turn"] = chosen
        requests[number]["replica"] = chosen
        enqueue(requests, replicas[chosen], number)
        _react(machine, requests, replicas[chosen], rows, at_s)
    _settle(machine, requests, replicas, rows, until_s)
    if until_s < math.inf:
        course["now_s"] = until_s


@jit
def _settle(machine: Record, requests: Records, replicas: Records, rows: Rows, at_s: float) -> None:
    """End all that ends until this moment."""
    for index in range(len(replicas)):
        replica = replicas[index]
        while replica["event_at_s"] <= at_s and replica["event_at_s"] < math.inf:
            _finish(machine, requests, replica, rows)


@jit
def _route(course: Record, replicas: Records, at_s: float) -> int:
    """The replica that gets the next request; NOBODY where none is ready."""
    chosen, smallest, slots = NOBODY, 0, len(replicas)
    for index in range(slots):
        replica = replicas[index]
        if replica["accepts"] == 0 or replica["ready_at_s"] > at_s:
            continue
        rank = (index - course["last_turn"] - 1) % slots if course["takes_turns"] else replica["outstanding"]
        if chosen == NOBODY or rank < smallest:
            chosen, smallest = index, rank
    return chosen


@jit
def _first_ready_at_s(replicas: Records) -> float:
    ready_at_s = math.inf
    for index in range(len(replicas)):
        if replicas[index]["accepts"]:
            ready_at_s = min(ready_at_s, replicas[index]["ready_at_s"])
    return ready_at_s


@jit
def _react(machine: Record, requests: Records, replica: Record, rows: Rows, at_s: float) -> None:
    """A request came: an idle replica begins with it, a run of equal steps ends with the one under way."""
    if replica["event_at_s"] == math.inf:
        replica["started_at_s"] = at_s
        _plan(machine, requests, replica, rows)
    elif replica["jump_steps"] > 1 and replica["waiting"] == 1 and replica["decoding"] < machine["max_num_seqs"]:
        set_run(machine, replica, steps_started(machine, replica, at_s))


@jit
def _finish(machine: Record, requests: Records, replica: Record, rows: Rows) -> None:
    """End the step, or the run of steps, under way, and begin what follows."""
    steps = replica["jump_steps"]
    if steps:
        replica["free_blocks"] -= growth_within(machine, replica, rows, steps)
    else:
        steps = 1  # its blocks were taken when it was planned
    replica["steps"] += steps
    replica["kv_tokens"] += steps * replica["decoding"]
    replica["generated_tokens"] += steps * replica["decoding"]
    replica["events"] += 1
    replica["started_at_s"] = replica["event_at_s"]
    _retire_decoded(machine, requests, replica, rows)
    if replica["prefilled_from"] != NOBODY:
        _end_prefills(machine, requests, replica, rows)
    _plan(machine, requests, replica, rows)


@jit
def _retire_decoded(machine: Record, requests: Records, replica: Record, rows: Rows) -> None:
    size = machine["block_size_tokens"]
    while replica["decoding"] and rows[replica["heap_at"]] >> REQUEST_BITS == replica["steps"]:
        number = rows[replica["heap_at"]] & REQUEST_MASK
        heap_pop(rows, replica["heap_at"], replica["decoding"])
        request = requests[number]
        tokens = request["prompt_tokens"] + request["output_tokens"]
        replica["decoding"] -= 1
        replica["kv_tokens"] -= tokens
        rows[replica["growth_at"] + (replica["steps"] + 1 - tokens) % size] -= 1
        replica["free_blocks"] += blocks_for(tokens - 1, size)
        _retire(requests, replica, number)


@jit
def _end_prefills(machine: Record, requests: Records, replica: Record, rows: Rows) -> None:
    """The requests whose prompt is computed now have their next token."""
    size = machine["block_size_tokens"]
    number = replica["prefilled_from"]
    replica["prefilled_from"] = NOBODY
    while number not in (NOBODY, replica["partial"]):
        request = requests[number]
        following = request["next"]
        if math.isnan(request["first_token_at_s"]):
            _note_first_token(replica, rows, request)
        request["generated_tokens"] += 1
        replica["generated_tokens"] += 1
        tokens = request["prompt_tokens"] + request["generated_tokens"]
        left = request["output_tokens"] - request["generated_tokens"]
        if left == 0:
            replica["free_blocks"] += blocks_for(tokens - 1, size)
            _retire(requests, replica, number)
        else:
            request["finish_step"] = replica["steps"] + left
            key = request["finish_step"] << REQUEST_BITS | number
            heap_push(rows, replica["heap_at"], replica["decoding"], key)
            replica["decoding"] += 1
            replica["kv_tokens"] += tokens
            rows[replica["growth_at"] + (replica["steps"] + 1 - tokens) % size] += 1
        number = following


@jit
def _note_first_token(replica: Record, rows: Rows, request: Record) -> None:
    request["first_token_at_s"] = replica["started_at_s"]
    ttft_s = request["first_token_at_s"] - request["arrived_at_s"]
    replica["prompt_tokens"] += request["prompt_tokens"]
    replica["ttft_sum_s"] += ttft_s
    bucket = 0
    while bucket < len(BOUNDS_S) and ttft_s > BOUNDS_S[bucket]:
        bucket += 1
    rows[replica["ttft_at"] + bucket] += 1


@jit
def _retire(requests: Records, replica: Record, number: int) -> None:
    request = requests[number]
    request["finished_at_s"] = replica["last_finish_at_s"] = replica["started_at_s"]
    request["generated_tokens"] = request["output_tokens"]
    replica["finished"] += 1
    replica["outstanding"] -= 1
    unlink(requests, replica, number)


@jit
def _plan(machine: Record, requests: Records, replica: Record, rows: Rows) -> None:
    """What begins now: nothing, a run of equal steps, or one step that prefills or preempts."""
    if replica["run_head"] == NOBODY and replica["wait_head"] == NOBODY:
        replica["jump_steps"] = 0
        replica["event_at_s"] = math.inf
        return
    needed = rows[replica["growth_at"] + replica["steps"] % machine["block_size_tokens"]]
    if needed > replica["free_blocks"]:
        _make_room(machine, requests, replica, rows)
        _step(machine, requests, replica, rows, False)
    elif replica["partial"] == NOBODY and _admissible(machine, requests, replica, needed, replica["decoding"]) == 0:
        set_run(machine, replica, longest_run(machine, replica, rows))
    else:
        _step(machine, requests, replica, rows, True)


@jit
def _admissible(machine: Record, requests: Records, replica: Record, taken: int, used_tokens: int) -> int:
    """Tokens of the first waiting request that the step can compute, 0 where it must wait on."""
    number = replica["wait_head"]
    budget = machine["max_num_batched_tokens"] - used_tokens
    if number == NOBODY or budget <= 0 or replica["outstanding"] - replica["waiting"] >= machine["max_num_seqs"]:
        return 0
    request = requests[number]
    tokens = request["prompt_tokens"] + request["generated_tokens"]
    count = min(tokens, budget)
    to_fit = tokens if machine["reserves_full_prompt"] else count
    if blocks_for(to_fit, machine["block_size_tokens"]) > replica["free_blocks"] - taken:
        return 0
    return int(count)


@jit
def _step(machine: Record, requests: Records, replica: Record, rows: Rows, may_admit: bool) -> None:
    """Plan one step: the decoding ones, then the prefill under way, then new requests."""
    size = machine["block_size_tokens"]
    replica["free_blocks"] -= rows[replica["growth_at"] + replica["steps"] % size]
    used_tokens = replica["decoding"]
    duration_s = decode_s(machine, replica)
    number = replica["partial"]
    if number != NOBODY:
        request = requests[number]
        computed = request["computed_tokens"]
        tokens = request["prompt_tokens"] + request["generated_tokens"]
        count = min(tokens - computed, machine["max_num_batched_tokens"] - used_tokens)
        missing = blocks_for(computed + count, size) - blocks_for(computed, size)
        if missing > replica["free_blocks"]:
            _preempt_youngest(machine, requests, replica, rows)
            may_admit = False
        else:
            replica["free_blocks"] -= missing
            duration_s += _compute(machine, replica, requests[number], number, count)
            used_tokens += count
    while may_admit:
        count = _admissible(machine, requests, replica, 0, used_tokens)
        if count == 0:
            break
        number = admit_first(requests, replica)
        replica["free_blocks"] -= blocks_for(count, size)
        duration_s += _compute(machine, replica, requests[number], number, count)
        used_tokens += count
    replica["jump_steps"] = 0
    replica["event_at_s"] = replica["started_at_s"] + duration_s


@jit
def _compute(machine: Record, replica: Record, request: Record, number: int, count: int) -> float:
    """Prefill so many tokens of a request; the time that this adds to the step."""
    computed = request["computed_tokens"]
    request["computed_tokens"] = computed + count
    if request["computed_tokens"] < request["prompt_tokens"] + request["generated_tokens"]:
        replica["partial"] = number
    else:
        replica["partial"] = NOBODY
        if replica["prefilled_from"] == NOBODY:
            replica["prefilled_from"] = number
    if count == 1 and computed >= request["prompt_tokens"]:  # a recomputed last token costs what decoding it costs
        return float(machine["decode_sequence_s"] + machine["kv_token_s"] * (computed + 1))
    pairs = count * (computed + count / 2)
    return float(machine["prefill_token_s"] * count + machine["attention_pair_s"] * pairs)


@jit
def _make_room(machine: Record, requests: Records, replica: Record, rows: Rows) -> None:
    """Preempt from the youngest on until each older decoding request, in its turn, has the block it needs."""
    size = machine["block_size_tokens"]
    number, given = replica["run_head"], 0
    while number not in (NOBODY, replica["partial"]):
        request = requests[number]
        if (request["finish_step"] + 1 - tokens_at_end(request)) % size == replica["steps"] % size:
            while replica["free_blocks"] - given < 1:
                victim = replica["run_tail"]
                _preempt_youngest(machine, requests, replica, rows)
                if victim == number:
                    return
            given += 1
        number = request["next"]


@jit
def _preempt_youngest(machine: Record, requests: Records, replica: Record, rows: Rows) -> None:
    """It loses its blocks, keeps its tokens and waits at the front."""
    size = machine["block_size_tokens"]
    number = replica["run_tail"]
    request = requests[number]
    if number == replica["partial"]:
        replica["partial"] = NOBODY
        replica["free_blocks"] += blocks_for(request["computed_tokens"], size)
    else:
        end = tokens_at_end(request)
        tokens = end - (request["finish_step"] - replica["steps"])
        key = request["finish_step"] << REQUEST_BITS | number
        heap_remove(rows, replica["heap_at"], replica["decoding"], key)
        replica["decoding"] -= 1
        replica["kv_tokens"] -= tokens
        rows[replica["growth_at"] + (request["finish_step"] + 1 - end) % size] -= 1
        replica["free_blocks"] += blocks_for(tokens - 1, size)
        request["generated_tokens"] = tokens - request["prompt_tokens"]
    request["computed_tokens"] = 0
    request["preemptions"] += 1
    replica["preemptions"] += 1
    unlink(requests, replica, number)
    request["next"] = replica["wait_head"]
    if replica["wait_head"] == NOBODY:
        replica["wait_tail"] = number
    replica["wait_head"] = number
    replica["waiting"] += 1
