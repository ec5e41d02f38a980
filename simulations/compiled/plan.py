"""What a replica does next: nothing, a run of equal steps, or one step that prefills or preempts."""

import math

from .adapters import bring_forward, drop_adapter, first_that_fits
from .blocks import blocks_for, growth_within, longest_run, tokens_at_end
from .gaps import end_gaps
from .heap import heap_remove
from .jit import inner, inner_apart
from .layout import NOBODY, REQUEST_BITS, Record, World
from .lists import admit_first, unlink
from .pool import look_up, name_full_blocks, release_blocks, share_hits, take_blocks, tell, will_be_told
from .timing import decode_s, set_run


@inner
def plan_next(world: World, machine: Record, replica: Record) -> None:
    """Begin what follows at `started_at_s`: the decoding ones, then the prefill under way, then new requests."""
    if replica["run_head"] == NOBODY and replica["wait_head"] == NOBODY:
        replica["jump_steps"] = 0
        replica["event_at_s"] = math.inf
        return
    needed = world.rows[replica["growth_at"] + replica["steps"] % world.machine[0]["block_size_tokens"]]
    may_admit = needed <= replica["free_blocks"]
    if may_admit:
        _take(world, replica, needed)
    else:
        _make_room(world, replica, needed)
    is_run = may_admit and replica["partial"] == NOBODY
    used_tokens, duration_s = replica["decoding"], decode_s(machine, replica)
    if replica["partial"] != NOBODY:
        count = _next_chunk(world, machine, replica)
        may_admit = may_admit and count > 0
        if count:
            duration_s += _compute(world, machine, replica, replica["partial"], count)
            used_tokens += count
    while may_admit:
        count = _admissible(world, machine, replica, used_tokens)
        if count == 0:
            break
        is_run = False
        duration_s += _begin(world, machine, replica, count)
        used_tokens += count
    if is_run:
        _run(world, machine, replica, needed)
    else:
        replica["jump_steps"] = 0
        replica["event_at_s"] = replica["started_at_s"] + duration_s


@inner
def _begin(world: World, machine: Record, replica: Record, count: int) -> float:
    """The one that was found admissible runs; the time that its adapter and its first tokens add to the step."""
    load_s = 0.0
    if len(world.loras):
        load_s = bring_forward(world, replica)
    return load_s + _compute(world, machine, replica, _admit(world, replica, count), count)


@inner
def _next_chunk(world: World, machine: Record, replica: Record) -> int:
    """Tokens of the prefill under way that this step computes; 0 where it found no room and was preempted."""
    size, request = world.machine[0]["block_size_tokens"], world.requests[replica["partial"]]
    computed = request["computed_tokens"]
    left = request["prompt_tokens"] + request["generated_tokens"] - computed
    count = min(left, machine["max_num_batched_tokens"] - replica["decoding"])
    missing = blocks_for(computed + count, size) - blocks_for(computed, size)
    if missing > replica["free_blocks"]:
        _preempt_youngest(world, replica)
        count = 0
    else:
        _take(world, replica, missing)
    return int(count)


@inner
def _run(world: World, machine: Record, replica: Record, prepaid_blocks: int) -> None:
    """As many equal steps as there are before something changes."""
    replica["prepaid_blocks"] = prepaid_blocks
    steps = longest_run(machine, replica, world.rows)
    if len(world.prefixes) and replica["tellers"] and replica["waiting"]:
        number = first_that_fits(world, replica) if len(world.loras) else replica["wait_head"]
        if number != NOBODY and will_be_told(world, replica, number):
            steps = 1
    set_run(machine, replica, steps)


@inner
def pay_for_run(world: World, replica: Record, steps: int) -> None:
    """Take what the decoding requests needed in a run of so many steps."""
    _take(world, replica, growth_within(world.machine[0], replica, world.rows, steps) - replica["prepaid_blocks"])
    replica["prepaid_blocks"] = 0


@inner
def release(world: World, replica: Record, number: int, computed_tokens: int) -> None:
    """A request that has computed so many tokens lets go of its blocks, and of its adapter."""
    if len(world.loras):
        drop_adapter(world, replica, number)
    if len(world.prefixes):
        release_blocks(world, replica, number, computed_tokens)
    else:
        replica["free_blocks"] += blocks_for(computed_tokens, world.machine[0]["block_size_tokens"])


@inner
def _take(world: World, replica: Record, blocks: int) -> None:
    if len(world.prefixes):
        take_blocks(world, replica, blocks)
    else:
        replica["free_blocks"] -= blocks


@inner
def _admissible(world: World, machine: Record, replica: Record, used_tokens: int) -> int:
    """Tokens of the first waiting request that the step can compute, 0 where it must wait on."""
    number = replica["wait_head"]
    if len(world.loras):
        number = first_that_fits(world, replica)
    budget = machine["max_num_batched_tokens"] - used_tokens
    if number == NOBODY or budget <= 0 or replica["outstanding"] - replica["waiting"] >= machine["max_num_seqs"]:
        return 0
    size, request = machine["block_size_tokens"], world.requests[number]
    tokens = request["prompt_tokens"] + request["generated_tokens"]
    hits = free_hits = 0
    if len(world.prefixes):
        if replica["tellers"]:
            tell(world, replica)
        hits = look_up(world, replica, number, tokens)
        free_hits = world.prefixes[number]["free_hits"]
    computed = _known_tokens(world, number, hits)
    count = min(tokens - computed, budget)
    to_fit = tokens if machine["reserves_full_prompt"] else computed + count
    if blocks_for(to_fit, size) - hits + free_hits > replica["free_blocks"]:
        return 0
    return int(count)


@inner
def _known_tokens(world: World, number: int, hits: int) -> int:
    """Tokens of a waiting request that need no computing: found in the cache, or received with it."""
    known = hits * world.machine[0]["block_size_tokens"]
    if len(world.follows) and world.requests[number]["preemptions"] == 0:
        known = max(known, world.follows[number]["received_tokens"])
    return int(known)


@inner
def _admit(world: World, replica: Record, count: int) -> int:
    """The first waiting request gets the blocks that were found and those for `count` tokens more."""
    machine = world.machine[0]
    number, size = admit_first(world.requests, replica), machine["block_size_tokens"]
    request = world.requests[number]
    if not len(world.prefixes):
        request["computed_tokens"] = _known_tokens(world, number, 0)
        replica["free_blocks"] -= blocks_for(request["computed_tokens"] + count, size)
        return number
    share_hits(world, replica, number)
    prefix = world.prefixes[number]
    request["computed_tokens"] = _known_tokens(world, number, prefix["hits"])
    take_blocks(world, replica, blocks_for(request["computed_tokens"] + count, size) - prefix["hits"])
    if request["preemptions"] == 0:
        prefix["cached_tokens"] = prefix["hits"] * size
        replica["prefix_queried_tokens"] += request["prompt_tokens"]
        replica["prefix_hit_tokens"] += prefix["cached_tokens"]
    return number


@inner
def _compute(world: World, machine: Record, replica: Record, number: int, count: int) -> float:
    """Prefill so many tokens of a request; the time that this adds to the step."""
    request = world.requests[number]
    computed = request["computed_tokens"]
    request["computed_tokens"] = computed + count
    if request["computed_tokens"] < request["prompt_tokens"] + request["generated_tokens"]:
        replica["partial"] = number
    else:
        replica["partial"] = NOBODY
        if replica["prefilled_from"] == NOBODY:
            replica["prefilled_from"] = number
    if len(world.prefixes):
        name_full_blocks(world, replica, number, computed + count, replica["steps"])
    if count == 1 and computed >= request["prompt_tokens"]:  # a recomputed last token costs what decoding it costs
        return float(machine["decode_sequence_s"] + machine["kv_token_s"] * (computed + 1))
    pairs = count * (computed + count / 2)
    return float(machine["prefill_token_s"] * count + machine["attention_pair_s"] * pairs)


@inner_apart
def _make_room(world: World, replica: Record, needed: int) -> None:
    """Each of the `needed` decoding requests, in its turn, takes its block; where none is free, the youngest yields."""
    size, each = world.machine[0]["block_size_tokens"], min(needed, 1)
    number = replica["run_head"]
    while number != NOBODY and number != replica["partial"]:  # `in` would be compiled as a function
        request = world.requests[number]
        if (request["finish_step"] + 1 - tokens_at_end(request)) % size == replica["steps"] % size:
            while replica["free_blocks"] < each:
                victim = replica["run_tail"]
                _preempt_youngest(world, replica)
                if victim == number:
                    return
            _take(world, replica, each)
        number = request["next"]


@inner_apart
def _preempt_youngest(world: World, replica: Record) -> None:
    """It loses its blocks, keeps its tokens and waits at the front."""
    size, rows = world.machine[0]["block_size_tokens"], world.rows
    number = replica["run_tail"]
    request = world.requests[number]
    if number == replica["partial"]:
        replica["partial"] = NOBODY
        computed = request["computed_tokens"]
    else:
        end = tokens_at_end(request)
        tokens = end - (request["finish_step"] - replica["steps"])
        key = request["finish_step"] << REQUEST_BITS | number
        heap_remove(rows, replica["heap_at"], replica["decoding"], key)
        replica["decoding"] -= 1
        replica["kv_tokens"] -= tokens
        rows[replica["growth_at"] + (request["finish_step"] + 1 - end) % size] -= 1
        request["generated_tokens"] = tokens - request["prompt_tokens"]
        computed = tokens - 1
        end_gaps(world, replica, number)
    release(world, replica, number, computed)
    request["computed_tokens"] = 0
    request["preemptions"] += 1
    replica["preemptions"] += 1
    unlink(world.requests, replica, number)
    request["next"] = replica["wait_head"]
    if replica["wait_head"] == NOBODY:
        replica["wait_tail"] = number
    replica["wait_head"] = number
    replica["waiting"] += 1
