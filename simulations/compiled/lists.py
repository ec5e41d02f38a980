"""The two linked lists of a replica: who waits, and who runs in the order of admission."""

import math

from .jit import inner
from .layout import NOBODY, Record, Records


@inner
def enqueue(requests: Records, replica: Record, number: int) -> None:
    if replica["wait_head"] == NOBODY:
        replica["wait_head"] = number
    else:
        requests[replica["wait_tail"]]["next"] = number
    replica["wait_tail"] = number
    replica["waiting"] += 1
    replica["outstanding"] += 1


@inner
def admit_first(requests: Records, replica: Record) -> int:
    """The first waiting request joins the running ones as the youngest."""
    number = replica["wait_head"]
    request = requests[number]
    replica["wait_head"] = request["next"]
    replica["waiting"] -= 1
    request["next"] = NOBODY
    request["prev"] = replica["run_tail"]
    if replica["run_tail"] == NOBODY:
        replica["run_head"] = number
    else:
        requests[replica["run_tail"]]["next"] = number
    replica["run_tail"] = number
    if math.isnan(request["scheduled_at_s"]):
        request["scheduled_at_s"] = replica["started_at_s"]
    return int(number)


@inner
def unlink(requests: Records, replica: Record, number: int) -> None:
    """Out of the running ones."""
    request = requests[number]
    before, after = request["prev"], request["next"]
    if before == NOBODY:
        replica["run_head"] = after
    else:
        requests[before]["next"] = after
    if after == NOBODY:
        replica["run_tail"] = before
    else:
        requests[after]["prev"] = before
