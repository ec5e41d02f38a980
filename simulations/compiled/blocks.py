"""KV blocks of the decoding requests: how many steps need how many."""

from .jit import inner
from .layout import REQUEST_BITS, Record, Rows


@inner
def growth_within(machine: Record, replica: Record, rows: Rows, steps: int) -> int:
    """Blocks that the decoding requests take in the next so many steps."""
    size = machine["block_size_tokens"]
    cycles = steps // size
    taken = cycles * replica["decoding"]
    place = replica["steps"] % size
    for _ in range(steps - cycles * size):
        taken += rows[replica["growth_at"] + place]
        place += 1
        if place == size:  # a division per step would cost more than all the rest
            place = 0
    return int(taken)


@inner
def longest_run(machine: Record, replica: Record, rows: Rows) -> int:
    """Steps until the next completion, or until the blocks run out before it."""
    size = machine["block_size_tokens"]
    steps = (rows[replica["heap_at"]] >> REQUEST_BITS) - replica["steps"]
    free, decoding = replica["free_blocks"] + replica["prepaid_blocks"], replica["decoding"]
    if decoding * (steps // size + 1) <= free:
        return int(steps)
    cycles = free // decoding
    free -= cycles * decoding
    enough = cycles * size
    while enough < steps:
        needed = rows[replica["growth_at"] + (replica["steps"] + enough) % size]
        if needed > free:
            break
        free -= needed
        enough += 1
    return int(min(enough, steps))


@inner
def blocks_for(tokens: int, size: int) -> int:
    return (tokens + size - 1) // size


@inner
def tokens_at_end(request: Record) -> int:
    return int(request["prompt_tokens"] + request["output_tokens"])
