"""Prefill and decoding, each scaled by a policy of its own, in one virtual time: `simulate_pair(Setting, Pair)`.

Both pools are services of their own, as they are Deployments of their own: each policy sees the pages of its pool and
sets the number of its replicas. They share the requests, and the nodes where the setting has any; else each has as many
as it ever needs. What a node keeps of the weights, and the line to their origin, each pool has for itself.
"""

import math
from dataclasses import replace

from simulations.policies.base import Pair, Role
from simulations.world.outcome import Outcome
from simulations.world.parts import FleetPart
from simulations.world.pools import FIXED, SCALED, FixedPool
from simulations.world.run import PROGRESS_EVERY_S, Progress, Run, tenant_of
from simulations.world.sensing.sensors import Sensing
from simulations.world.serving import make_fleet
from simulations.world.setting import Setting
from simulations.world.starts.startup import StartFigures
from simulations.world.tenant import Tenants

REPLICAS = ("wanted", "starting_hot", "starting_warm", "starting_cold", "ready", "draining", "unplaced")
OTHER_LUCK = 1_000_003  # what one pool's start-ups take says nothing of the other's


def simulate_pair(
    setting: Setting, pair: Pair, progress: Progress | None = None, *, sensing: type[Sensing] | None = None
) -> Outcome:
    """Run both; the outcome is that of their users. ValueError: one is not scaled."""
    pool = setting.fixed_pool
    if pool is None or pool.bounds is None:
        raise ValueError("a pair of policies needs a setting that scales both pools")
    prefill, decode, nodes = _runs(setting, pool, pair, sensing)
    told_s, span_s, now_s = -math.inf, setting.span_s, 0.0
    while now_s < span_s:
        now_s = min(prefill.next_s, decode.next_s)
        for run in (prefill, decode):
            run.step(now_s)
        for run in (prefill, decode):
            run.look_around(now_s)
        if progress is not None and now_s - told_s >= PROGRESS_EVERY_S:
            progress(now_s / span_s)
            told_s = now_s
    uses = (prefill.end_pool(Role.PREFILL), decode.end_pool(Role.DECODE))
    whole = decode.end()
    for column in REPLICAS:
        whole.series[column] = sum(use.series[column] for use in uses)
    return replace(
        whole,
        gpu_hours=sum(use.gpu_hours for use in uses),
        starts=sum(use.starts for use in uses),
        decisions=tuple(sorted((change for use in uses for change in use.decisions), key=lambda change: change.at_s)),
        startups=StartFigures(),  # of each pool its own
        pools=uses,
        nodes=nodes.nodes.use(span_s) if setting.nodes else (),
    )


def _runs(setting: Setting, pool: FixedPool, pair: Pair, sensing: type[Sensing] | None) -> tuple[Run, Run, Tenants]:
    of_prefill = setting_of_prefill(setting)
    shared = Tenants(setting.make_nodes())
    decoding = tenant_of(setting, shared)
    own = shared if setting.nodes else Tenants(of_prefill.make_nodes())
    prefilling = tenant_of(of_prefill, own, first_kind=len(setting.on_class))
    slots = len(decoding.index_of) + len(prefilling.index_of)
    fleet = make_fleet(setting, setting.requests, slots)
    parts = (
        FleetPart(fleet=fleet, fleet_slots=slots, first=len(decoding.index_of), pool=FIXED),
        FleetPart(fleet=fleet, fleet_slots=slots, first=0, pool=SCALED),
    )
    return (
        Run(of_prefill, pair.prefill, prefilling, sensing, parts[0]),
        Run(setting, pair.decode, decoding, sensing, parts[1]),
        shared,
    )


def setting_of_prefill(setting: Setting) -> Setting:
    """What the policy of the prefill pool has to know; the machine is that pool's."""
    pool = setting.fixed_pool
    if pool is None or pool.bounds is None:
        return setting
    return replace(
        setting,
        bounds=pool.bounds,
        replicas_at_start=pool.replicas,
        config=replace(pool.config, caches_prefixes=setting.config.caches_prefixes),
        times=pool.times,
        gpu_class=pool.gpu_class or setting.gpu_class,
        on_class=pool.on_class,
        seed=setting.seed + OTHER_LUCK,
    )
