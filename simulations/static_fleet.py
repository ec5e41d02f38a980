"""The smallest fixed fleet that holds: a number of replicas, or one for each of two pools that are both scaled."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from simulations.compiled.fleet import forget_course, replay_compiled
from simulations.errors import UsageError
from simulations.policies.base import Bounds, Pair, Policy
from simulations.policies.static import Static
from simulations.world import Outcome, Setting, simulate
from simulations.world.nodes import NODES_MAX

ATTAINMENT_RATIO = 0.99  # what it must hold: the policy's own default objective

Attained = Callable[[Setting, int], tuple[float, Outcome | None]]  # of so many replicas: attainment, outcome if known


def smallest_static(setting: Setting) -> int:
    """The fewest replicas, within bounds, of which a fixed number attains the objective; the most where none does.

    On nodes: in that world, with what befalls them; where no number holds that, as many as if all of them were there,
    stayed, and were enough.
    UsageError where it would be two numbers: who asks for one knows nothing of pools.
    """
    if setting.scales_both:
        raise UsageError("both its pools are scaled: only of one service alone, in a file of its own")
    return _smallest(setting)[0]


def sized(setting: Setting) -> tuple[Setting, Outcome | None]:
    """It begins with that fleet, or with the most where none holds; and what that fleet did, where it is known."""
    if setting.scales_both:
        return _smallest_pair(setting)
    replicas, outcome = _smallest(setting)
    return _with(setting, decode=replicas), outcome


def of_size(setting: Setting, text: str) -> Setting:
    """It begins with a fleet that a user names, 3 or 2+3; UsageError where it is none of this setting's."""
    numbers = text.split("+")
    if len(numbers) != 1 + setting.scales_both or not all(one.isdecimal() and len(one) < 6 for one in numbers):
        expected = "two numbers such as 2+3, of prefill and of decoding" if setting.scales_both else "a number"
        raise UsageError(f"--replicas: expected {expected}, got {text!r}")
    *prefill, decode = map(int, numbers)
    for number, bounds in zip((*prefill, decode), _bounds(setting), strict=True):
        if bounds.clamp(number) != number:
            raise UsageError(f"--replicas: expected from {bounds.low} to {bounds.high}, got {number}")
    return _with(setting, decode=decode, prefill=sum(prefill))


def _bounds(setting: Setting) -> tuple[Bounds, ...]:
    pool = setting.fixed_pool
    return (setting.bounds,) if pool is None or pool.bounds is None else (pool.bounds, setting.bounds)


def resized(setting: Setting, ratio: float) -> Setting:
    """So many times as large, within bounds."""
    prefill, decode = replicas_of(setting)
    if setting.fixed_pool is not None and setting.fixed_pool.bounds is not None:
        prefill = setting.fixed_pool.bounds.clamp(round(prefill * ratio))
    return _with(setting, prefill=prefill, decode=setting.bounds.clamp(round(decode * ratio)))


def fixed(setting: Setting) -> Policy | Pair:
    """A policy that leaves the fleet as it begins."""
    prefill, decode = replicas_of(setting)
    return Pair(prefill=Static(prefill), decode=Static(decode)) if setting.scales_both else Static(decode)


def fleet_name(setting: Setting) -> str:
    """For people: that of the fleet it begins with."""
    prefill, decode = replicas_of(setting)
    return f"static-{prefill}+{decode}" if setting.scales_both else f"static-{decode}"


def replicas_of(setting: Setting) -> tuple[int, int]:
    """Of prefill and of decoding at the beginning; 0 and all of them where they are one."""
    pool = setting.fixed_pool
    return (0 if pool is None or pool.bounds is None else pool.replicas), setting.replicas_at_start


def _with(setting: Setting, *, decode: int, prefill: int = 0) -> Setting:
    pool = setting.fixed_pool
    if pool is not None and pool.bounds is not None:
        pool = replace(pool, replicas=prefill)
    return replace(setting, replicas_at_start=decode, fixed_pool=pool)


def _smallest_pair(setting: Setting) -> tuple[Setting, Outcome | None]:
    """Of the pairs that hold, one of the fewest replicas together, and of these the one with the fewest for prefill.

    More of either never holds less: the pairs that hold just so are the steps of a stair, which is walked down.
    """
    pool = setting.fixed_pool
    if pool is None or pool.bounds is None:
        raise ValueError("expected a setting that scales both pools")
    prefill, decode = pool.bounds.low, setting.bounds.high
    best = _with(setting, prefill=pool.bounds.high, decode=decode)
    best_replicas, found = pool.bounds.high + decode + 1, None
    while prefill <= pool.bounds.high and decode >= setting.bounds.low:
        tried = _with(setting, prefill=prefill, decode=decode)
        outcome = simulate(tried, fixed(tried))
        if outcome.attainment_ratio < ATTAINMENT_RATIO:
            prefill += 1
            continue
        if prefill + decode < best_replicas:
            best, best_replicas, found = tried, prefill + decode, outcome
        decode -= 1
    return best, found


def _smallest(setting: Setting) -> tuple[int, Outcome | None]:
    """As `smallest_static`, and what that fleet did, where the search simulated all of it: a long span takes long."""
    if not setting.nodes:
        return _fewest(setting, _attained)
    replicas, found = _fewest(setting, _attained_in_world)
    if found is not None or _attained_in_world(setting, replicas)[0] >= ATTAINMENT_RATIO:
        return replicas, found
    return _fewest(setting, _attained)[0], None


def _fewest(setting: Setting, attained: Attained) -> tuple[int, Outcome | None]:
    """By bisection; with what the last number did that attained it."""
    low, high = setting.bounds.low, setting.bounds.high
    found = None
    while low < high:
        middle = (low + high) // 2
        attainment_ratio, outcome = attained(setting, middle)
        if attainment_ratio >= ATTAINMENT_RATIO:
            high, found = middle, outcome
        else:
            low = middle + 1
    return low, found


def _attained(setting: Setting, replicas: int) -> tuple[float, Outcome | None]:
    """What a fixed number attains where nothing befalls it; its outcome where only that says it."""
    # On nodes it matters which machine each is; else there may be too many requests at once, or they follow each other.
    if setting.nodes or setting.more is not None or setting.is_chained:
        return _attained_in_world(_in_peace(setting), replicas)
    machine = setting.first_machine
    fleet = replay_compiled(
        forget_course(setting.requests),
        replicas,
        machine.config,
        machine.times,
        router=setting.router,
        names=setting.names,
    )
    ttft_s = fleet.requests["first_token_at_s"] - fleet.requests["arrived_at_s"]
    return float(np.mean(ttft_s <= setting.ttft_s)), None


def _in_peace(setting: Setting) -> Setting:
    """Its nodes are all there and stay, and of the last group that a replica fits there are as many as it takes."""
    calm = [
        replace(group, low=group.high, reclaims_per_hour=0.0, losses_per_hour=0.0, losses_at_s=())
        for group in setting.nodes
    ]
    fits = [index for index, group in enumerate(calm) if setting.fits(group)]
    if fits:
        last = calm[fits[-1]]
        enough = min(NODES_MAX, max(last.high, setting.bounds.high))
        calm[fits[-1]] = replace(last, low=enough, high=enough)
    return replace(setting, nodes=tuple(calm), budget_gpus=None)


def _attained_in_world(setting: Setting, replicas: int) -> tuple[float, Outcome]:
    outcome = simulate(replace(setting, replicas_at_start=replicas), Static(replicas))
    return outcome.attainment_ratio, outcome
