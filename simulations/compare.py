"""Policies side by side on the same requests, with the same luck, beside the smallest static fleet that holds."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from simulations.compiled.fleet import forget_course, replay_compiled
from simulations.imports.choose import chosen
from simulations.policies.static import Static
from simulations.world import Outcome, Setting, simulate

ATTAINMENT_RATIO = 0.99  # what the static fleet must hold: the policy's own default objective

Telling = Callable[[str, float], None]  # policy, share done
Attained = Callable[[Setting, int], tuple[float, Outcome | None]]  # of so many replicas: attainment, outcome if known


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A policy in the table."""

    policy: str
    outcome: Outcome
    cost_ratio: float  # GPU-hours ÷ those of the static fleet


def smallest_static(setting: Setting) -> int:
    """The fewest replicas, within bounds, of which a fixed number attains the objective; the most where none does.

    On nodes: in that world, with what befalls them; where no number holds that, as many as if all nodes stayed.
    """
    return _smallest(setting)[0]


def cost_ratio(gpu_hours: float, static_hours: float) -> float:
    """Infinite where the fixed fleet never got a GPU."""
    return gpu_hours / static_hours if static_hours else math.inf


def compare(setting: Setting, names: Sequence[str], tell: Telling) -> Iterator[Row]:
    """The static fleet first, then each policy, as soon as it is done. All begin with the static fleet's number."""
    replicas, found = _smallest(setting)
    setting = replace(setting, replicas_at_start=replicas)
    static = found or simulate(setting, Static(replicas))
    yield Row(policy=f"static-{replicas}", outcome=static, cost_ratio=1.0)
    for name in names:
        outcome = simulate(setting, chosen(name, setting), partial(tell, name))
        yield Row(policy=name, outcome=outcome, cost_ratio=cost_ratio(outcome.gpu_hours, static.gpu_hours))


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
    if setting.more is not None or setting.is_chained:  # too many at once, or they follow each other
        return _attained_in_world(replace(setting, nodes=(), gpu_class=None, budget_gpus=None), replicas)
    fleet = replay_compiled(
        forget_course(setting.requests),
        replicas,
        setting.config,
        setting.times,
        router=setting.router,
        names=setting.names,
    )
    ttft_s = fleet.requests["first_token_at_s"] - fleet.requests["arrived_at_s"]
    return float(np.mean(ttft_s <= setting.ttft_s)), None


def _attained_in_world(setting: Setting, replicas: int) -> tuple[float, Outcome]:
    outcome = simulate(replace(setting, replicas_at_start=replicas), Static(replicas))
    return outcome.attainment_ratio, outcome
