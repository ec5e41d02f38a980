"""Requests that come when another one ended: users who think in between, decoding after prefill elsewhere."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulations.fleet import Follow

from .layout import FOLLOW, NOBODY, Records, World
from .records import requests_of

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

PREFILL_POOL, DECODE_POOL = 0, 1


def follow_records(follows: Sequence[Follow]) -> Records:
    """One record per request."""
    records = np.zeros(len(follows), FOLLOW)
    records["next_request"] = [NOBODY if follow.next_request is None else follow.next_request for follow in follows]
    for field in ("think_s", "received_tokens", "pool", "adapter"):
        records[field] = [getattr(follow, field) for follow in follows]
    return records


def closed_loop(users: Longs, think_s: Floats) -> Records:
    """Each user's requests one after the other; `think_s` is what passes between the end of one and its next one."""
    records = np.zeros(len(users), FOLLOW)
    order = np.argsort(users, kind="stable")
    is_same = users[order][1:] == users[order][:-1]
    records["next_request"] = NOBODY
    records["next_request"][order[:-1][is_same]] = order[1:][is_same]
    records["think_s"] = think_s
    return records


def nothing_follows(requests: int) -> Records:
    """All come by themselves."""
    records = np.zeros(requests, FOLLOW)
    records["next_request"] = NOBODY
    return records


def split_phases(
    requests: Records, transfer_s: Floats, follows: Records | None = None, *, prefill_pool: int = PREFILL_POOL
) -> tuple[Records, Records]:
    """Prefill in one pool, decoding in another: two records per request, and what follows what.

    The first half of the records prefill: one output token, which is thrown away, as vLLM's prefill instances do.
    The second half decode: they come `transfer_s` later, with all of the prompt's KV but the last token's, and have
    the first token that the user sees. Its TTFT counts from the first record's arrival. `follows` are those of the
    whole requests: users who come again.
    """
    prompts, outputs = requests["prompt_tokens"], requests["output_tokens"]
    count = len(requests)
    prefills = requests_of(requests["arrived_at_s"], prompts, np.ones(count, np.int32))
    decodes = requests_of(np.full(count, math.inf), prompts, outputs)
    split = np.zeros(2 * count, FOLLOW)
    split["next_request"][:count] = np.arange(count, 2 * count)
    split["next_request"][count:] = NOBODY if follows is None else follows["next_request"]
    split["think_s"][:count] = transfer_s
    split["think_s"][count:] = 0.0 if follows is None else follows["think_s"]
    split["received_tokens"][count:] = prompts - 1
    for half in (slice(count), slice(count, None)):
        split["adapter"][half] = 0 if follows is None else follows["adapter"]
    split["pool"][:count], split["pool"][count:] = prefill_pool, 1 - prefill_pool
    return np.concatenate([prefills, decodes]), split


def joined_phases(split: Records) -> Records:
    """The course of each request as its user saw it, from the records of both its phases."""
    prefills, decodes = np.split(split, 2)
    whole = decodes.copy()
    for field in ("arrived_at_s", "scheduled_at_s"):
        whole[field] = prefills[field]
    whole["preemptions"] += prefills["preemptions"]
    return whole


def firsts_of(follows: Records, requests: int) -> NDArray[np.int32]:
    """Those that come by themselves."""
    comes = np.ones(requests, np.bool_)
    later = follows["next_request"]
    comes[later[later != NOBODY]] = False
    return np.flatnonzero(comes).astype(np.int32)


def hang_up(world: World) -> None:
    """Nobody calls any more; those who wait in front of the fleet stay, and so does what decodes elsewhere.

    Users call the pool that the first request of all goes to.
    """
    course, follows, due = world.course[0], world.follows, world.due
    later, called = follows["next_request"], follows["pool"][0]
    calls = (later != NOBODY) & (follows["pool"][later] == called)
    later[calls] = NOBODY
    waiting = due[: course["due"]]
    came = world.requests["arrived_at_s"][waiting] <= course["now_s"]
    kept = waiting[came | (follows["pool"][waiting] != called)]
    # In order of time: that is a heap.
    kept = kept[np.lexsort((kept, world.requests["arrived_at_s"][kept]))]
    due[: len(kept)] = kept
    course["due"] = len(kept)
    never = waiting[~np.isin(waiting, kept)]
    world.requests["arrived_at_s"][never] = math.inf
