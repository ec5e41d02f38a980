"""A setting's requests and replicas as the engine has them, and what its users saw of it."""

import math
from dataclasses import replace

import numpy as np

from simulations.compiled.fleet import CompiledFleet, forget_course
from simulations.compiled.follows import joined_phases, split_phases
from simulations.compiled.layout import Records
from simulations.compiled.names import BlockNames
from simulations.compiled.records import came
from simulations.replica import EngineConfig
from simulations.world.machines import ClassMachine
from simulations.world.pools import FIXED
from simulations.world.setting import Setting


def fixed_slots(setting: Setting) -> int:
    """Places of replicas that no policy asks for, after those that one does."""
    pool = setting.fixed_pool
    return 0 if pool is None or pool.bounds is not None else pool.replicas


def make_fleet(setting: Setting, requests: Records, slots: int) -> CompiledFleet:
    """The first to come, and no replicas in the first `slots` places; those of a fixed pool serve from the start."""
    requests, follows, names = forget_course(requests), setting.follows, setting.names
    pool = setting.fixed_pool
    if pool is not None:
        transfer_s = requests["prompt_tokens"] * pool.token_transfer_s
        requests, follows = split_phases(requests, transfer_s, follows, prefill_pool=pool.prefill_pool)
        names = None if names is None else _twice(names)
    fleet = CompiledFleet(
        requests,
        setting.config,
        setting.times,
        slots=slots + fixed_slots(setting),
        router=setting.router,
        names=names,
        follows=follows,
        adapters=setting.adapters,
        kinds=tuple((_as_caching(one.config, setting), one.times) for one in _kinds(setting)),
        others=() if pool is None else ((_as_caching(pool.config, setting), pool.times),),
    )
    for slot in range(slots, slots + fixed_slots(setting)):
        fleet.add(slot, ready_at_s=-math.inf, pool=FIXED)
    return fleet


def serve_to_the_end(setting: Setting, fleet: CompiledFleet) -> Records:
    """What came by now is served, and nothing comes any more; the requests as their users saw them."""
    if setting.follows is not None:
        fleet.close()
    fleet.advance(math.inf)
    requests = fleet.requests
    return came(requests if setting.fixed_pool is None else joined_phases(requests))


def prefix_hit_ratio(setting: Setting, fleet: CompiledFleet) -> float | None:
    """Of the prompt tokens of all that were admitted, those that their replica had; None where it caches nothing.

    Where phases are apart these are the prompts that the prefill pool computed.
    """
    if not setting.config.caches_prefixes:
        return None
    prompts = len(setting.requests)  # the first half of the records, where there are two for each
    ran = np.isfinite(fleet.requests["scheduled_at_s"][:prompts])
    asked_tokens = int(fleet.requests["prompt_tokens"][:prompts][ran].sum(dtype=np.int64))
    return float(fleet.cached_tokens[:prompts][ran].sum(dtype=np.int64)) / max(1, asked_tokens)


def _kinds(setting: Setting) -> tuple[ClassMachine, ...]:
    """Those of the replicas that one policy asks for come first, then those of the other pool."""
    return setting.on_class + (() if setting.fixed_pool is None else setting.fixed_pool.on_class)


def _as_caching(config: EngineConfig, setting: Setting) -> EngineConfig:
    return replace(config, caches_prefixes=setting.config.caches_prefixes)


def _twice(names: BlockNames) -> BlockNames:
    """Both phases of a request have its blocks."""
    starts = np.concatenate([names.starts, names.starts[1:] + names.starts[-1]])
    return BlockNames(names=np.concatenate([names.names, names.names]), starts=starts)
