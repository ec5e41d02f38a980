"""LoRA adapters, compiled: `simulations.replica.adapters.AdapterSeats`.

At the end of a replica's stretch of `World.rows`: how many adapters serve, how many are loaded, then for each adapter
its users, and for each 1 + the step after which it was last let go; 0: it is not loaded.
"""

from .gaps import GAPS_CELLS
from .jit import inner, inner_apart
from .layout import NOBODY, Record, World

SERVING, LOADED, EACH = 0, 1, 2  # of the stretch


@inner
def seats_at(replica: Record) -> int:
    """Where a replica's seats are."""
    return int(replica["gaps_at"] + GAPS_CELLS)


@inner_apart
def first_that_fits(world: World, replica: Record) -> int:
    """Of those that wait, the first whose adapter serves, or may serve, too; NOBODY where there is none."""
    seats, most = seats_at(replica), world.loras[0]["max_loras"]
    number = replica["wait_head"]
    while number != NOBODY:
        adapter = world.follows[number]["adapter"]
        is_free = adapter == 0 or world.rows[seats + SERVING] < most
        if is_free or world.rows[seats + EACH + adapter - 1]:
            break
        number = world.requests[number]["next"]
    return int(number)


@inner_apart
def bring_forward(world: World, replica: Record) -> float:
    """The first that fits becomes the first of all, and takes its seat; the time that loading its adapter takes."""
    number, before = first_that_fits(world, replica), NOBODY
    other = replica["wait_head"]
    while other != number:
        before, other = other, world.requests[other]["next"]
    if before != NOBODY:
        world.requests[before]["next"] = world.requests[number]["next"]
        if replica["wait_tail"] == number:
            replica["wait_tail"] = before
        world.requests[number]["next"] = replica["wait_head"]
        replica["wait_head"] = number
    return _take(world, replica, number)


@inner
def _take(world: World, replica: Record, number: int) -> float:
    """A request runs."""
    adapter, lora = world.follows[number]["adapter"], world.loras[0]
    if adapter == 0:
        return 0.0
    seats, adapters = seats_at(replica), lora["adapters"]
    users, used_at = seats + EACH + adapter - 1, seats + EACH + adapters + adapter - 1
    if world.rows[users] == 0:
        world.rows[seats + SERVING] += 1
    world.rows[users] += 1
    if world.rows[used_at]:
        return 0.0
    if world.rows[seats + LOADED] == lora["max_loras"]:
        _unload(world, seats, adapters)
    else:
        world.rows[seats + LOADED] += 1
    world.rows[used_at] = 1
    return float(lora["load_s"])


@inner
def _unload(world: World, seats: int, adapters: int) -> None:
    """The one that was let go first, of those that nobody uses."""
    oldest = NOBODY
    for place in range(seats + EACH, seats + EACH + adapters):
        used_at = world.rows[place + adapters]
        if used_at and world.rows[place] == 0 and (oldest == NOBODY or used_at < world.rows[oldest]):
            oldest = place + adapters
    world.rows[oldest] = 0


@inner_apart
def drop_adapter(world: World, replica: Record, number: int) -> None:
    """A request ended, or was preempted."""
    adapter = world.follows[number]["adapter"]
    if adapter == 0:
        return
    seats, adapters = seats_at(replica), world.loras[0]["adapters"]
    users = seats + EACH + adapter - 1
    world.rows[users] -= 1
    if world.rows[users] == 0:
        world.rows[seats + SERVING] -= 1
        world.rows[users + adapters] = 1 + replica["steps"]
