"""The traffic of a setting as a fluid that nobody can serve with less: replica-seconds of work per interval.

Assumptions that favour the oracle, so that its cost is a bound from below:

* Replicas are one pool: no request waits at one while another idles; each works as well as with a full batch.
* A request is on time while what is to be done before its first token fits: the work in the system at its arrival is
  at most that of one objective plus a KV cache full of requests that have all just begun to decode, per replica.
* Within an interval arrivals are spread evenly.
* On nodes of several kinds each request is served where it costs least.
* A draining replica gives its work back at once. Whatever starts takes the shortest start-up there is.
* Where prefill and decoding are apart, each pool has the whole objective to itself, and pays for itself: the sum of
  both costs is a bound, as who is late in either is late. A prefill pool may hold requests back for as long as the
  objective, no longer: one that is on time finds at the decode pool all that came an objective before it.

Two go against it: the number changes only at the border of two intervals (10 s in an hour); and whoever comes first is
served first, while in the world a replica that is new serves those who come then, and the others wait elsewhere on.
The latter shows where nearly all are late. `bench_sim_oracle` and `bench_sim_oracle_shared` hold every policy of every
scenario against the result. With a prefix cache all of a prompt but its last block is taken to be cached, which makes
the bound a loose one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.layout import Records
from simulations.errors import UsageError
from simulations.policies.base import Bounds, Role
from simulations.world.paired import setting_of_prefill
from simulations.world.pools import FixedPool
from simulations.world.setting import Setting

from .cost import Cost

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# An hour is 360 intervals of 10 s; longer courses get longer ones, so that a week is solved in seconds.
INTERVAL_MIN_S = 10.0
INTERVALS_MAX = 10_080
# Work is counted in eighths of what a replica does in an interval.
QUANTA_PER_INTERVAL = 8
# The grid holds twice what may be on time with the most replicas: beyond, more work changes nothing for long.
GRID_RATIO = 2.0
# Cells of a table (interval x replicas x work), two bytes each; three tables live at once.
CELLS_MAX = 100_000_000
COARSER_RATIO = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Per interval: requests, and their work in quanta; what a replica may have before it and still be on time."""

    interval_s: float
    requests: Ints  # that can be on time
    work_quanta: Ints  # of all
    allowed_quanta: float  # per ready replica
    replicas_at_start: int
    bounds: Bounds
    hopeless: int = 0  # requests whose own prompt takes longer than the objective
    gpus_per_replica: int = 1
    fixed_gpu_hours: float = 0.0  # of a pool beside it that nobody scales

    @property
    def quantum_s(self) -> float:
        """Replica-seconds."""
        return self.interval_s / QUANTA_PER_INTERVAL


def demand_of(setting: Setting) -> Demand:
    """The fluid of what one policy scales; UsageError where no bound is known, ValueError where there are two."""
    demands = tuple(demands_of(setting).values())
    if len(demands) > 1:
        raise ValueError("prefill and decoding are both scaled: there is a demand for each, see demands_of")
    return demands[0]


def demands_of(setting: Setting) -> dict[Role | None, Demand]:
    """Of each pool that is scaled by what it does; None: of one that does both. UsageError where no bound is known."""
    if setting.has_clients:
        raise UsageError(
            "no bound is known where requests come only when others end: how many do is up to the policy; "
            "give a trace of what came: --trace FILE"
        )
    pool = setting.fixed_pool
    if pool is None:
        return {None: _demand(setting, _Phase(role=None, costs=_costs(setting, None)))}
    roles = tuple(Role) if setting.scales_both else (pool.scaled,)
    return {role: _demand(_of_role(setting, role), _phase(setting, pool, role)) for role in roles}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """What is done for requests where the demand is, on machines of several kinds, and elsewhere before or after it."""

    role: Role | None
    costs: "Sequence[Cost]"
    others: "Sequence[Cost]" = ()
    token_transfer_s: float = 0.0

    def soonest_s(self, requests: Records) -> Floats:
        """To the first token that the user sees, where nobody else is served."""
        own: Floats = np.minimum.reduce([cost.ttft_s(requests) for cost in self.costs])
        if not self.others:
            return own
        transfer_s = self.token_transfer_s * requests["prompt_tokens"]
        elsewhere: Floats = np.minimum.reduce([cost.ttft_s(requests) for cost in self.others])
        return own + transfer_s + elsewhere

    def patience_s(self, ttft_s: float) -> tuple[float, float]:
        """How long work may wait and be on time, and how long before a request what must be done by then has come."""
        return (2 * ttft_s, ttft_s) if self.role is Role.DECODE else (ttft_s, 0.0)


def _of_role(setting: Setting, role: Role) -> Setting:
    return setting_of_prefill(setting) if setting.scales_both and role is Role.PREFILL else setting


def _phase(setting: Setting, pool: FixedPool, role: Role) -> _Phase:
    """One of two phases that are apart."""
    elsewhere = replace(
        setting,
        config=replace(pool.config, caches_prefixes=setting.config.caches_prefixes),
        times=pool.times,
        on_class=pool.on_class,
    )
    machines = {pool.role: elsewhere, pool.scaled: setting}
    costs = {each: _costs(machines[each], each) for each in Role}
    return _Phase(
        role=role,
        costs=costs[role],
        others=costs[Role.PREFILL if role is Role.DECODE else Role.DECODE],
        token_transfer_s=pool.token_transfer_s,
    )


def _demand(setting: Setting, phase: _Phase) -> Demand:
    waits_s, before_s = phase.patience_s(setting.ttft_s)
    allowed_s = waits_s + max(cost.resident_s(setting.requests) for cost in phase.costs)
    intervals = intervals_for(setting.span_s, setting.bounds.high, allowed_s)
    interval_s = max(setting.span_s, INTERVAL_MIN_S) / intervals

    def index(at_s: Floats) -> Ints:
        found: Ints = np.clip((at_s / interval_s).astype(np.int64), 0, intervals - 1)
        return found

    requests, work, hopeless = np.zeros(intervals, np.int64), np.zeros(intervals), 0
    for part in (setting.requests, *(() if setting.more is None else setting.more())):
        at_s = part["arrived_at_s"]
        can_be = phase.soonest_s(part) <= setting.ttft_s
        hopeless += int(len(part) - can_be.sum())
        requests += np.bincount(index(at_s[can_be] - before_s), minlength=intervals)
        work += np.bincount(index(at_s), weights=_least_work_s(phase.costs, part), minlength=intervals)
    quantum_s = interval_s / QUANTA_PER_INTERVAL
    pool = setting.fixed_pool
    return Demand(
        interval_s=interval_s,
        requests=requests,
        # Rounded down over the whole course, not interval by interval: never a quantum more than has come.
        work_quanta=np.diff(np.floor(np.cumsum(work) / quantum_s), prepend=0.0).astype(np.int64),
        allowed_quanta=allowed_s / quantum_s,
        replicas_at_start=setting.replicas_at_start,
        bounds=setting.bounds,
        hopeless=hopeless,
        gpus_per_replica=setting.gpus_per_replica,
        fixed_gpu_hours=0.0
        if pool is None or pool.bounds is not None
        else pool.replicas * setting.gpus_per_replica * setting.span_s / 3600.0,
    )


def _costs(setting: Setting, role: Role | None) -> "list[Cost]":
    """On each machine that a replica may be, where nodes differ: who knows the future has the best for each request."""
    others = (replace(setting, config=one.config, times=one.times, on_class=()) for one in setting.on_class)
    return [Cost.of(one, role) for one in (setting, *others)]


def _least_work_s(costs: "Sequence[Cost]", requests: Records) -> Floats:
    least: Floats = np.minimum.reduce([cost.work_s(requests) for cost in costs])
    return least


def intervals_for(span_s: float, high: int, allowed_s: float) -> int:
    """As fine as 10 s, as far as the tables fit into memory; at least one."""
    intervals = max(1, min(INTERVALS_MAX, math.ceil(span_s / INTERVAL_MIN_S)))
    while intervals > 1:
        quantum_s = max(span_s, INTERVAL_MIN_S) / intervals / QUANTA_PER_INTERVAL
        if intervals * (high + 1) * grid_of(high, allowed_s / quantum_s + 1.0) <= CELLS_MAX:
            break
        intervals = int(intervals / COARSER_RATIO)
    return intervals


def grid_of(high: int, allowed_quanta: float) -> int:
    """Levels of work that are told apart."""
    return math.ceil(GRID_RATIO * high * allowed_quanta) + 1
