"""Dynamic programming over (ready replicas, work in the system), one interval after the other, compiled.

A plan pays `interval` for each ready replica, `start` for each one more than before, and `price` for each late
request. Work in the system is a whole number of quanta and so is what a replica does in an interval: the grid is
exact, nothing is interpolated. Work beyond the grid is cut off, in the plan's favour.
"""

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.jit import jit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Steps = NDArray[np.uint16]


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
def best_steps(
    requests: Ints, work: Ints, allowed: float, limits: Ints, costs: Floats, values: Floats, steps: Steps
) -> float:
    """The cheapest cost from the start; `steps[t, n, q]` is the number for interval t after n replicas and q quanta.

    `limits`: fewest, most, at the start, intervals until the first start-up can be ready, quanta a replica does.
    `costs`: of a replica's interval, of a start, of a late request. `values`: three tables like `steps[t]`, zeros.
    """
    low, high, begun, lead, speed = limits[0], limits[1], limits[2], limits[3], limits[4]
    grid = values.shape[2]
    for interval in range(len(work) - 1, -1, -1):
        following, current = (interval + 1) % 2, interval % 2
        most = high if interval >= lead else min(high, begun)
        for replicas in range(low, most + 1):
            served, per_late = replicas * speed, costs[2] * requests[interval]
            for before in range(grid):
                after = min(max(before + work[interval] - served, 0), grid - 1)
                share = late_share(before, work[interval], served, replicas * allowed)
                paid = costs[0] * replicas + per_late * share
                values[2, replicas, before] = paid + values[following, replicas, after]
        for before in range(grid):
            _choose(values[2], values[current], steps[interval], before, low, most, high, costs[1])
    return float(values[0, begun, 0])


@jit
def _choose(
    stage: Floats, current: Floats, steps: Steps, before: int, low: int, most: int, high: int, start: float
) -> None:
    """For every number before, the best one now: fewer is free, each one more costs a start."""
    best, chosen = np.inf, low
    for replicas in range(low, high + 1):  # the best of those not above
        if replicas <= most and stage[replicas, before] < best:
            best, chosen = stage[replicas, before], replicas
        current[replicas, before] = best
        steps[replicas, before] = chosen
    best, chosen = np.inf, low
    for replicas in range(most, low - 1, -1):  # the best of those above, starts included
        if stage[replicas, before] + start * replicas < best:
            best, chosen = stage[replicas, before] + start * replicas, replicas
        if best - start * replicas < current[replicas, before]:
            current[replicas, before] = best - start * replicas
            steps[replicas, before] = chosen


@jit
def follow(
    requests: Ints, work: Ints, allowed: float, limits: Ints, first: Steps, second: Steps, switch: int, plan: Ints
) -> float:
    """Walk the plan from the start, by `second` from an interval on; fills `plan`, gives the late requests.

    Here nothing is cut off: work beyond the grid stays, though the table knows its border only.
    """
    low, begun, speed = limits[0], limits[2], limits[4]
    replicas, level, late = max(low, begun), 0, 0.0
    grid = first.shape[2]
    for interval in range(len(work)):
        table = first if interval < switch else second
        replicas = int(table[interval, replicas, min(level, grid - 1)])
        plan[interval] = replicas
        served = replicas * speed
        late += requests[interval] * late_share(level, work[interval], served, replicas * allowed)
        level = max(level + work[interval] - served, 0)
    return late


@jit
def late_requests(requests: Ints, work: Ints, allowed: float, limits: Ints, plan: Ints) -> float:
    """The late requests of a plan."""
    level, late = 0, 0.0
    for interval in range(len(work)):
        served = plan[interval] * limits[4]
        late += requests[interval] * late_share(level, work[interval], served, plan[interval] * allowed)
        level = max(level + work[interval] - served, 0)
    return late
