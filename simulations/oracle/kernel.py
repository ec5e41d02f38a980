"""Dynamic programming over (ready replicas, work in the system), one interval after the other, compiled.

A plan pays for each ready replica of an interval, for each one more than before, and for each late request. Work in
the system is a whole number of quanta and so is what a replica does in an interval: the grid is exact, nothing is
interpolated. Work beyond the grid is cut off, in the plan's favour.

Loops run along the grid without a branch, so that the processor takes several of its cells at once.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.jit import jit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Steps = NDArray[np.uint16]


class Task(NamedTuple):
    """Per interval what comes and how many replicas may serve; work in quanta."""

    requests: Ints
    work: Ints
    fewest: Ints
    most: Ints
    begun: int  # replicas before the first interval
    served: int  # of a replica in an interval
    allowed: float  # per replica, for who arrives to be on time


class Costs(NamedTuple):
    """Of a replica's interval, of a start, of a late request."""

    interval: float
    start: float
    late: float


@jit
def late_share(before: int, work: int, served: int, allowed: float) -> float:
    """Of an interval's arrivals, those that find more work than is allowed: the level moves evenly from end to end."""
    after = before + work - served
    low, high = min(before, after), max(before, after)
    if high <= allowed:
        return 0.0
    if low >= allowed:
        return 1.0
    return (high - allowed) / (high - low)


@jit
def best_steps(task: Task, costs: Costs, values: Floats, steps: Steps) -> float:
    """The cheapest cost from the start; `steps[t, n, q]` is the number for interval t after n replicas and q quanta.

    `values`: three tables like `steps[t]`. The row of no replicas, which nobody has, is scratch in all of them.
    """
    values[:2, :, :] = 0.0
    for interval in range(len(task.work) - 1, -1, -1):
        following, current, stage = values[(interval + 1) % 2], values[interval % 2], values[2]
        for replicas in range(1, len(current)):
            if task.fewest[interval] <= replicas <= task.most[interval]:
                growth = task.work[interval] - replicas * task.served
                _serve(following[replicas], stage[replicas], growth, costs.interval * replicas)
                _add_late(stage[replicas], growth, replicas * task.allowed, costs.late * task.requests[interval])
            else:
                stage[replicas, :] = np.inf
        _keep_or_drop(stage, current, steps[interval])
        _start_more(stage, current, steps[interval], costs.start)
    return float(values[0, task.begun, 0])


@jit
def _serve(following: Floats, row: Floats, growth: int, paid: float) -> None:
    """The interval and what follows it, for each level of work before."""
    grid = len(row)
    first = min(max(-growth, 0), grid)
    last = max(first, min(grid, grid - growth))
    for before in range(first):
        row[before] = paid + following[0]
    for before in range(first, last):
        row[before] = paid + following[before + growth]
    for before in range(last, grid):
        row[before] = paid + following[grid - 1]


@jit
def _add_late(row: Floats, growth: int, allowed: float, per_late: float) -> None:
    """As `late_share`: none of them up to a level, all of them from another on."""
    grid, rise, fall = len(row), max(growth, 0), min(growth, 0)
    some = min(max(int(np.floor(allowed - rise)) + 1, 0), grid)
    every = min(max(int(np.ceil(allowed - fall)), some), grid)
    for before in range(some, every):
        row[before] += per_late * ((before + rise - allowed) / (rise - fall))
    for before in range(every, grid):
        row[before] += per_late


@jit
def _keep_or_drop(stage: Floats, current: Floats, steps: Steps) -> None:
    """For every number before, the best of those not above: fewer is free."""
    current[0, :] = np.inf
    for replicas in range(1, len(stage)):
        less, here, paid = current[replicas - 1], current[replicas], stage[replicas]
        chosen_less, chosen = steps[replicas - 1], steps[replicas]
        for before in range(len(paid)):
            is_better = paid[before] < less[before]
            here[before] = paid[before] if is_better else less[before]
            chosen[before] = replicas if is_better else chosen_less[before]


@jit
def _start_more(stage: Floats, current: Floats, steps: Steps, start: float) -> None:
    """Then the best of those above, each one more of which costs a start."""
    above, chosen_above = current[0], steps[0]
    above[:] = np.inf
    for replicas in range(len(stage) - 1, 0, -1):
        here, chosen, paid = current[replicas], steps[replicas], stage[replicas]
        for before in range(len(paid)):
            started = paid[before] + start * replicas
            is_better = started < above[before]
            above[before] = started if is_better else above[before]
            chosen_above[before] = replicas if is_better else chosen_above[before]
            started = above[before] - start * replicas
            is_better = started < here[before]
            here[before] = started if is_better else here[before]
            chosen[before] = chosen_above[before] if is_better else chosen[before]


@jit
def follow(task: Task, first: Steps, second: Steps, switch: int, plan: Ints) -> float:
    """Walk one table from the start, another from an interval on; fills `plan`, gives the late as the tables count."""
    replicas, level, late = task.begun, 0, 0.0
    for interval in range(len(task.work)):
        steps = first if interval < switch else second
        replicas = int(steps[interval, replicas, level])
        plan[interval] = replicas
        work, served = task.work[interval], replicas * task.served
        late += task.requests[interval] * late_share(level, work, served, replicas * task.allowed)
        level = min(max(level + work - served, 0), steps.shape[2] - 1)
    return late


@jit
def late_requests(task: Task, plan: Ints) -> float:
    """The late requests of a plan; here nothing is cut off."""
    level, late = 0, 0.0
    for interval in range(len(task.work)):
        work, served = task.work[interval], plan[interval] * task.served
        late += task.requests[interval] * late_share(level, work, served, plan[interval] * task.allowed)
        level = max(level + work - served, 0)
    return late
