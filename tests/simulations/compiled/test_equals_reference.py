"""The compressed engine is the iteration-by-iteration one: every time of every request, on any small world."""

from dataclasses import replace

import numpy as np
import pytest

from simulations.compiled.names import names_of
from simulations.parity import CLOSE_S, TIMES, SmallWorld, judge, small_world
from simulations.replica import EngineConfig
from simulations.routing import Router
from simulations.trace import Arrival

WORLDS = 300  # `make bench NAME=sim-worlds` runs 10,000
PLAIN_WORLDS = 100


def test_every_request_has_the_reference_times() -> None:
    verdicts = [judge(small_world(np.random.default_rng(seed))) for seed in range(WORLDS)]

    assert max(verdict.largest_s for verdict in verdicts) <= CLOSE_S
    assert sum(verdict.preemptions > 0 for verdict in verdicts) > WORLDS / 5
    assert sum(verdict.cached_tokens > 0 for verdict in verdicts) > WORLDS / 3
    assert sum(verdict.following > 0 for verdict in verdicts) > WORLDS / 3
    assert sum(verdict.has_adapters for verdict in verdicts) > WORLDS / 4
    assert sum(verdict.has_kinds for verdict in verdicts) > WORLDS / 4


def test_what_is_compiled_without_parts_has_the_reference_times_where_nobody_needs_them() -> None:
    verdicts = [judge(_plain(small_world(np.random.default_rng(seed)))) for seed in range(PLAIN_WORLDS)]

    assert max(verdict.largest_s for verdict in verdicts) <= CLOSE_S
    assert all(verdict.is_plain for verdict in verdicts)
    assert sum(verdict.preemptions > 0 for verdict in verdicts) > PLAIN_WORLDS / 5
    assert sum(verdict.has_kinds for verdict in verdicts) > PLAIN_WORLDS / 4


def _plain(world: SmallWorld) -> SmallWorld:
    """The same without a prefix cache, users who wait, pools and adapters."""
    router = Router.LEAST_OUTSTANDING if world.router is Router.PREFIX_AWARE else world.router
    config = replace(world.config, caches_prefixes=False)
    kinds = tuple((replace(kind, caches_prefixes=False), times) for kind, times in world.kinds)
    return replace(world, config=config, kinds=kinds, router=router, follows=(), pools=(), others=(), adapters=None)


@pytest.mark.parametrize("reserves_full_prompt", [True, False])
@pytest.mark.parametrize("caches_prefixes", [True, False])
def test_a_crowd_that_preempts_has_the_reference_times(reserves_full_prompt: bool, caches_prefixes: bool) -> None:
    random = np.random.default_rng(7)
    at_s = np.cumsum(random.exponential(0.05, 150))
    arrivals = tuple(
        Arrival(at_s=float(moment), prompt_tokens=int(prompt), output_tokens=int(output))
        for moment, prompt, output in zip(at_s, random.integers(1, 600, 150), random.integers(1, 300, 150), strict=True)
    )
    config = EngineConfig(
        max_num_seqs=32,
        max_num_batched_tokens=256,
        num_gpu_blocks=120,
        max_model_len_tokens=1024,
        caches_prefixes=caches_prefixes,
        reserves_full_prompt=reserves_full_prompt,
    )
    conversations = tuple(tuple((number % 12 << 10) + index for index in range(40)) for number in range(150))

    verdict = judge(SmallWorld(arrivals=arrivals, block_names=conversations, replicas=2, config=config, times=TIMES[0]))

    assert verdict.largest_s <= CLOSE_S
    assert verdict.preemptions > 50
    assert (verdict.cached_tokens > 0) is caches_prefixes


def test_names_of_requests_are_a_ragged_array() -> None:
    names = names_of([[1, 2], [], [3]])

    assert [names.of(request) for request in range(names.requests)] == [(1, 2), (), (3,)]
    assert names.part(1, 3).of(1) == (3,)
