"""The prefix cache of a replica: blocks with names, shared, freed and evicted as vLLM's BlockPool does it.

A block that is freed with something in it keeps its name and goes to the end of the free ones, a sequence's tail
before its head; one with nothing in it goes to their front. Blocks are taken from the front. Of blocks with the same
name the one that was named first is found (`BlockHashToBlockMap.get_one_block`).

Blocks that no other request can name are not kept one by one: a run of them is one node, and blank ones are a number.
"""

from .jit import inner, inner_apart
from .layout import NOBODY, REQUEST_BITS, Record, Records, World


@inner_apart
def take_blocks(world: World, replica: Record, count: int) -> None:
    """So many of the free ones, those that go first; what they held cannot be found any more."""
    replica["free_blocks"] -= count
    blank = min(count, replica["blank_blocks"])
    replica["blank_blocks"] -= blank
    count -= blank
    while count > 0:
        number = replica["free_head"]
        node = world.nodes[number]
        taken = min(count, node["blocks"])
        count -= taken
        if taken < node["blocks"]:  # of a run
            node["blocks"] -= taken
            return
        leave_free(world.nodes, replica, number)
        if node["named_at"] != NOBODY:
            forget(world, replica, number)
        elif node["owner"] != NOBODY:
            world.prefixes[node["owner"]]["leftover"] = NOBODY
        spare(world.nodes, replica, number)


@inner
def look_up(world: World, replica: Record, number: int, tokens: int) -> int:
    """Blocks that hold the known beginning of a waiting request, but never its last token: that is computed anew."""
    size, prefix = world.machine[0]["block_size_tokens"], world.prefixes[number]
    findable, first = (tokens - 1) // size, prefix["names_at"]
    hits = free = 0
    while hits < min(findable, prefix["given"]):
        block = find(world, replica, world.names[first + hits])
        if block == NOBODY:
            break
        world.held[first + hits] = block
        free += world.nodes[block]["uses"] == 0
        hits += 1
    prefix["hits"], prefix["free_hits"] = hits, free
    if hits == prefix["given"] and prefix["leftover"] != NOBODY:
        # Its own blocks were freed before those that it shares: while one of them is left, so are all before it.
        own = min(findable - hits, world.nodes[prefix["leftover"]]["blocks"])
        prefix["hits"] += own
        prefix["free_hits"] += own
    return int(prefix["hits"])


@inner
def share_hits(world: World, replica: Record, number: int) -> None:
    """An admitted request uses what was found."""
    prefix = world.prefixes[number]
    prefix["seat"] = replica["admissions"]
    replica["admissions"] += 1
    prefix["named"] = min(prefix["hits"], prefix["given"])
    for index in range(prefix["named"]):
        block = world.held[prefix["names_at"] + index]
        if world.nodes[block]["uses"] == 0:
            leave_free(world.nodes, replica, block)
        world.nodes[block]["uses"] += 1
    replica["free_blocks"] -= prefix["free_hits"]
    own = prefix["hits"] - prefix["named"]
    if own:
        leftover = prefix["leftover"]
        leave_free(world.nodes, replica, leftover)
        spare(world.nodes, replica, leftover)
        prefix["leftover"] = NOBODY


@inner_apart
def name_full_blocks(world: World, replica: Record, number: int, tokens: int, last_step: int) -> None:
    """Blocks that so many tokens fill can be found from now on.

    `last_step` is the step that fills the last of these tokens; where it decodes, each token before took a step.
    """
    size = world.machine[0]["block_size_tokens"]
    prefix = world.prefixes[number]
    full = min(tokens // size, prefix["given"])
    for index in range(prefix["named"], full):
        block = new_node(world.nodes, replica)
        node = world.nodes[block]
        node["name"] = world.names[prefix["names_at"] + index]
        step = last_step
        if prefix["tells"]:
            step -= tokens - (index + 1) * size
        node["named_at"] = step << REQUEST_BITS | prefix["seat"]
        node["uses"] = node["blocks"] = 1
        world.held[prefix["names_at"] + index] = block
        make_findable(world, replica, block)
    prefix["named"] = max(full, prefix["named"])
    if prefix["tells"] and full == prefix["given"]:
        prefix["tells"] = 0
        replica["tellers"] -= 1


@inner_apart
def release_blocks(world: World, replica: Record, number: int, computed_tokens: int) -> None:
    """A request that has computed so many tokens lets go of its blocks; the tail becomes evictable first."""
    size = world.machine[0]["block_size_tokens"]
    prefix, request = world.prefixes[number], world.requests[number]
    name_full_blocks(world, replica, number, computed_tokens, replica["steps"] - 1)
    full = computed_tokens // size
    blank = (computed_tokens + size - 1) // size - full
    own = max(0, full - prefix["given"])
    replica["blank_blocks"] += blank
    replica["free_blocks"] += blank + own
    if own:
        wants_it_again = request["generated_tokens"] < request["output_tokens"]
        _free_run(world, replica, own, number if wants_it_again else NOBODY)
    for index in range(prefix["named"] - 1, -1, -1):
        block = world.held[prefix["names_at"] + index]
        world.nodes[block]["uses"] -= 1
        if world.nodes[block]["uses"] == 0:
            join_free(world.nodes, replica, block)
            replica["free_blocks"] += 1
    prefix["named"] = 0
    if prefix["tells"]:
        prefix["tells"] = 0
        replica["tellers"] -= 1


@inner
def _free_run(world: World, replica: Record, blocks: int, owner: int) -> None:
    last = replica["free_tail"]
    if owner == NOBODY and last != NOBODY:
        tail = world.nodes[last]
        if tail["named_at"] == NOBODY and tail["owner"] == NOBODY:
            tail["blocks"] += blocks
            return
    number = new_node(world.nodes, replica)
    node = world.nodes[number]
    node["named_at"], node["blocks"], node["owner"] = NOBODY, blocks, owner
    if owner != NOBODY:
        world.prefixes[owner]["leftover"] = number
    join_free(world.nodes, replica, number)


@inner
def join_free(nodes: Records, replica: Record, number: int) -> None:
    last = replica["free_tail"]
    nodes[number]["before"], nodes[number]["after"] = last, NOBODY
    if last == NOBODY:
        replica["free_head"] = number
    else:
        nodes[last]["after"] = number
    replica["free_tail"] = number


@inner
def leave_free(nodes: Records, replica: Record, number: int) -> None:
    before, after = nodes[number]["before"], nodes[number]["after"]
    if before == NOBODY:
        replica["free_head"] = after
    else:
        nodes[before]["after"] = after
    if after == NOBODY:
        replica["free_tail"] = before
    else:
        nodes[after]["before"] = before


@inner
def new_node(nodes: Records, replica: Record) -> int:
    number = replica["spare_node"]
    if number != NOBODY:
        replica["spare_node"] = nodes[number]["after"]
        return int(number)
    replica["nodes_used"] += 1
    return int(replica["nodes_at"] + replica["nodes_used"] - 1)


@inner
def spare(nodes: Records, replica: Record, number: int) -> None:
    nodes[number]["after"] = replica["spare_node"]
    replica["spare_node"] = number


@inner
def _chain(world: World, replica: Record, name: int) -> int:
    """Where the chain of blocks begins in which this name is.

    Eight neighbours stay together, because names of one prompt are often numbers in a row; else they are scattered
    by multiplying each half with an odd number, so small that no product leaves 63 bits.
    """
    group = name >> 3
    mixed = ((group & 0x7FFFFFFF) * 0x9E3779B1) ^ ((group >> 31) * 0x85EBCA77)
    place = mixed >> 24 << 3 | (name & 7)
    return int(replica["table_at"] + (place & world.machine[0]["table_mask"]))


@inner
def find(world: World, replica: Record, name: int) -> int:
    """The block that was the first to get this name, of those that still have it; or NOBODY."""
    block = world.table[_chain(world, replica, name)] - 1
    while block != NOBODY and world.nodes[block]["name"] != name:
        block = world.nodes[block]["chained"]
    return int(block)


@inner
def make_findable(world: World, replica: Record, block: int) -> None:
    """Behind those with the same name that had it earlier."""
    nodes, node = world.nodes, world.nodes[block]
    chain = _chain(world, replica, node["name"])
    before, after = NOBODY, world.table[chain] - 1
    while after != NOBODY and (nodes[after]["name"] != node["name"] or nodes[after]["named_at"] < node["named_at"]):
        before, after = after, nodes[after]["chained"]
    node["chained"] = after
    if before == NOBODY:
        world.table[chain] = block + 1
    else:
        nodes[before]["chained"] = block


@inner
def forget(world: World, replica: Record, block: int) -> None:
    nodes, chain = world.nodes, _chain(world, replica, world.nodes[block]["name"])
    other, after = world.table[chain] - 1, nodes[block]["chained"]
    if other == block:
        world.table[chain] = after + 1
        return
    while nodes[other]["chained"] != block:
        other = nodes[other]["chained"]
    nodes[other]["chained"] = after


@inner
def begin_telling(world: World, replica: Record, number: int) -> None:
    """Its prompt is computed; note it if others may look for what it decodes from now on."""
    prefix = world.prefixes[number]
    if prefix["named"] < prefix["given"]:
        prefix["tells"] = 1
        replica["tellers"] += 1


@inner
def tell(world: World, replica: Record) -> None:
    """Name the blocks that the decoding ones have filled up to the step that begins now."""
    requests, number = world.requests, replica["run_head"]
    while number != NOBODY:
        if world.prefixes[number]["tells"]:
            request = requests[number]
            end = request["prompt_tokens"] + request["output_tokens"]
            tokens = end - (request["finish_step"] - replica["steps"])
            name_full_blocks(world, replica, number, tokens, replica["steps"])
        number = requests[number]["next"]


@inner
def will_be_told(world: World, replica: Record, number: int) -> bool:
    """Whether one that decodes will fill the first block that a waiting request did not find."""
    prefix = world.prefixes[number]
    missing = prefix["hits"]
    if replica["tellers"] == 0 or missing >= prefix["given"]:
        return False
    name, other = world.names[prefix["names_at"] + missing], replica["run_head"]
    while other != NOBODY:
        told = world.prefixes[other]
        if (
            told["tells"]
            and told["named"] <= missing < told["given"]
            and world.names[told["names_at"] + missing] == name
        ):
            return True
        other = world.requests[other]["next"]
    return False
