"""Replicas that are gone without having drained: what they had is lost, and their clients go on to what comes next."""

import math
import sys

from .build import place_replica
from .due import add_due
from .jit import inner_apart, jit
from .layout import NOBODY, World

LOST = -2  # as the `replica` of a request that had one and will never end
NEVER_S = sys.float_info.max  # not infinite: a replica without an event is idle, and begins with the next request


def stop_replica(world: World, slot: int) -> None:
    """It does nothing from now on, and the router does not know: what it gets waits until it is lost."""
    replica = world.replicas[slot]
    replica["event_at_s"] = NEVER_S
    replica["jump_steps"] = replica["wakes"] = 0


def lose_replica(world: World, slot: int, at_s: float) -> int:
    """It is gone, and all that it had; returns how many requests that were."""
    lost = int(lose_requests(world, slot, at_s))
    place_replica(world, slot, ready_at_s=math.inf, pool=0)
    world.replicas[slot]["accepts"] = 0
    return lost


@jit
def lose_requests(world: World, slot: int, at_s: float) -> int:
    """Those that run and those that wait."""
    replica, lost = world.replicas[slot], 0
    for head in (replica["run_head"], replica["wait_head"]):
        number = head
        while number != NOBODY:
            following = world.requests[number]["next"]
            lost += 1
            _lose(world, number, at_s)
            number = following
    return lost


@inner_apart
def _lose(world: World, number: int, at_s: float) -> None:
    """A first token is worth nothing to who never gets the last. What was to go on with its KV is never asked for."""
    while True:
        request = world.requests[number]
        request["replica"] = LOST
        request["first_token_at_s"] = math.nan
        if len(world.prefixes):
            world.prefixes[number]["given"] = 0
        if not len(world.follows) or world.follows[number]["next_request"] == NOBODY:
            return
        think_s = world.follows[number]["think_s"]
        number = world.follows[number]["next_request"]
        if world.follows[number]["received_tokens"] == 0:
            world.requests[number]["arrived_at_s"] = at_s + think_s
            add_due(world.course[0], world.requests, world.due, number)
            return
