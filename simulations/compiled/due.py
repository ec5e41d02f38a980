"""Requests whose time has been set by the end of another one: a heap by time of arrival."""

from .jit import inner_apart
from .layout import Order, Record, Records


@inner_apart
def add_due(course: Record, requests: Records, due: Order, number: int) -> None:
    """A request that will come."""
    place = course["due"]
    course["due"] += 1
    while place and comes_before(requests, number, due[(place - 1) >> 1]):
        due[place] = due[(place - 1) >> 1]
        place = (place - 1) >> 1
    due[place] = number


@inner_apart
def take_due(course: Record, requests: Records, due: Order) -> None:
    """Take out the first to come."""
    course["due"] -= 1
    length = course["due"]
    number, place, child = due[length], 0, 1
    while child < length:
        if child + 1 < length and comes_before(requests, due[child + 1], due[child]):
            child += 1
        if not comes_before(requests, due[child], number):
            break
        due[place] = due[child]
        place, child = child, 2 * child + 1
    due[place] = number


@inner_apart
def comes_before(requests: Records, number: int, other: int) -> bool:
    """Whether the one is served first."""
    first_s, second_s = requests[number]["arrived_at_s"], requests[other]["arrived_at_s"]
    return bool(first_s < second_s or (first_s == second_s and number < other))
