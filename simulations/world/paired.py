"""Prefill and decoding, each scaled by a policy of its own, in one virtual time: `simulate_pair(Setting, Pair)`.

Both pools are services of their own, as they are Deployments of their own: each policy sees the pages of its pool and
sets the number of its replicas. They share the requests, the line to the origin of their weights, and the nodes where
the setting has any, which keep one copy of the model for both; else each has as many nodes as it ever needs.
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from simulations.policies.base import Pair, Role
from simulations.world.nodes import Nodes
from simulations.world.outcome import Outcome
from simulations.world.parts import FleetPart
from simulations.world.pools import FIXED, SCALED, FixedPool
from simulations.world.run import Progress, Run, go_on, tenant_of
from simulations.world.sensing.sensors import Sensing
from simulations.world.serving import make_fleet
from simulations.world.setting import Setting
from simulations.world.starts.phases import Phases
from simulations.world.starts.shared import holdings_of_pools
from simulations.world.tenant import Tenant, Tenants

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
    go_on((prefill, decode), setting.span_s, progress)
    uses = (prefill.end_pool(Role.PREFILL), decode.end_pool(Role.DECODE))
    whole = decode.end()
    for column in REPLICAS:
        whole.series[column] = sum(use.series[column] for use in uses)
    return replace(
        whole,
        gpu_hours=sum(use.gpu_hours for use in uses),
        starts=sum(use.starts for use in uses),
        decisions=tuple(sorted((change for use in uses for change in use.decisions), key=lambda change: change.at_s)),
        startups=replace(whole.startups, by_tier=()),  # what came to nodes and went came for both pools
        pools=uses,
        nodes=nodes.nodes.use(setting.span_s) if setting.nodes else (),
    )


def _runs(setting: Setting, pool: FixedPool, pair: Pair, sensing: type[Sensing] | None) -> tuple[Run, Run, Tenants]:
    of_prefill = setting_of_prefill(setting)
    shared, decoding, prefilling = _places(setting, of_prefill)
    if isinstance(setting.startup, Phases):
        _share_weights(setting.startup, {Role.DECODE: decoding, Role.PREFILL: prefilling}, setting.seed)
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


def _places(setting: Setting, of_prefill: Setting) -> tuple[Tenants, Tenant, Tenant]:
    """Of decoding and of prefill: on the nodes that there are, or each on nodes of its own."""
    kind = len(setting.on_class)
    if setting.nodes:
        shared = Tenants(setting.make_nodes())
        return shared, tenant_of(setting, shared), tenant_of(of_prefill, shared, first_kind=kind)
    own = setting.enough(), replace(of_prefill.enough(), name=Role.PREFILL)
    apart = Tenants(Nodes(own, seed=setting.seed, budget_gpus=setting.budget_gpus))
    decoding = tenant_of(setting, apart, group=own[0])
    return apart, decoding, tenant_of(of_prefill, apart, first_kind=kind, group=own[1])


def _share_weights(phases: Phases, places: Mapping[Role, Tenant], seed: int) -> None:
    """One copy on each node, one line to all of them."""
    nodes = {role.value: place.nodes for role, place in places.items()}
    random, memory = Random(f"{seed} others"), places[Role.DECODE].memory
    holdings = holdings_of_pools(phases, nodes, random, memory)
    for role, place in places.items():
        place.holdings = holdings[role]


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
