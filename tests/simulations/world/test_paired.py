"""Prefill and decoding, both scaled: what the pair costs, sees and shares, and that neither disturbs the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoscaler.policy.types import Observation, Tier
from simulations.policies import build
from simulations.policies.base import Bounds, Cadence, Pair, Policy, Role, Wish
from simulations.policies.static import Static
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.world import Setting, simulate
from simulations.world.nodes import NodeGroup
from simulations.world.outcome import PoolUse
from simulations.world.paired import setting_of_prefill
from simulations.world.starts.phases import Phases

SCENARIO = """\
traffic: {rates: azure_2023_conversation, rateRatio: 12, endSeconds: 600}
machine: {profile: llama-3.1-8b-h100, maxModelLenTokens: 16384, numGpuBlocks: 6000}
replicas: {max: 6}
startup: {coldSeconds: 40, warmSeconds: 20}
pools: {prefill: {max: 4, maxNumBatchedTokens: 8192}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}
"""


def setting_of(prefill: int, decode: int, more: str = "") -> Setting:
    scenario = parse_scenario(SCENARIO + more, "test", Path())
    assert isinstance(scenario, Scenario)
    setting = scenario.setting(1)[0]
    assert setting.fixed_pool is not None
    pool = replace(setting.fixed_pool, replicas=prefill)
    return replace(setting, replicas_at_start=decode, fixed_pool=pool)


def with_fixed_prefill(setting: Setting) -> Setting:
    assert setting.fixed_pool is not None
    return replace(setting, fixed_pool=replace(setting.fixed_pool, bounds=None))


def named(name: str, setting: Setting) -> Policy:
    return build(name, setting.bounds, ttft_s=setting.ttft_s, lead_time_s=40.0)


def pair_of(name: str, setting: Setting) -> Pair:
    return Pair(prefill=named(name, setting_of_prefill(setting)), decode=named(name, setting))


def test_two_fixed_pools_are_served_as_one_beside_a_pool_that_nobody_scales() -> None:
    setting = setting_of(2, 3)

    paired = simulate(setting, Pair(prefill=Static(2), decode=Static(3)))
    beside = simulate(with_fixed_prefill(setting), Static(3))

    np.testing.assert_array_equal(paired.requests, beside.requests)
    assert paired.gpu_hours == pytest.approx(beside.gpu_hours)
    assert [(use.role, use.starts) for use in paired.pools] == [(Role.PREFILL, 0), (Role.DECODE, 0)]
    hours = setting.span_s / 3600
    assert [use.gpu_hours for use in paired.pools] == pytest.approx([2 * hours, 3 * hours])


@pytest.mark.parametrize("name", ["warmtide", "hpa-queue", "kpa", "dynamo-load"])
def test_who_scales_decoding_does_so_as_if_nobody_scaled_prefill(name: str) -> None:
    setting = setting_of(2, 1)

    paired = simulate(setting, Pair(prefill=Static(2), decode=named(name, setting)))
    beside = simulate(with_fixed_prefill(setting), named(name, setting))

    assert tuple(replace(change, pool=None) for change in paired.decisions) == beside.decisions
    np.testing.assert_array_equal(paired.requests, beside.requests)
    assert paired.gpu_hours == pytest.approx(beside.gpu_hours)


@pytest.mark.parametrize("name", ["warmtide", "keda-prodstack"])
def test_both_pools_grow_where_both_are_too_small_and_every_run_is_the_same(name: str) -> None:
    setting = setting_of(1, 1)

    outcome, again = (simulate(setting, pair_of(name, setting)) for _ in range(2))

    assert outcome == again
    assert all(use.starts > 0 for use in outcome.pools)
    assert max(replicas for _, replicas in outcome.pools[0].changes) <= 4
    assert outcome.starts == sum(use.starts for use in outcome.pools)
    ready = [use.series["ready"] for use in outcome.pools]
    np.testing.assert_array_equal(outcome.series["ready"], ready[0] + ready[1])
    assert sum(each.count for use in outcome.pools for each in use.startups.by_tier) > 1
    assert outcome.attainment_ratio > simulate(setting, Pair(prefill=Static(1), decode=Static(1))).attainment_ratio
    assert len(outcome.requests) == len(setting.requests)


def test_pools_share_the_nodes_that_there_are() -> None:
    full = replace(setting_of(1, 1), nodes=(NodeGroup(low=3, high=3),))

    outcome = simulate(full, pair_of("hpa-queue", full))

    assert max(n for _, n in outcome.pools[0].changes) + max(n for _, n in outcome.pools[1].changes) > 3
    assert outcome.gpu_hours <= 3 * full.span_s / 3600 + 1e-9
    assert outcome.nodes[0].gpu_hours == pytest.approx(3 * full.span_s / 3600)


class Grows:
    """To two, from a time on; and when each was ready."""

    def __init__(self, from_s: float) -> None:
        self.from_s = from_s
        self.cadence = Cadence(scrape_s=1.0, decide_s=1.0)

    def wish(self, seen: Observation, now_s: float) -> Wish:
        return Wish(replicas=2 if now_s >= self.from_s else 1)


PHASES = Phases(origin_bytes_per_s=1e9, node_bytes_per_s=1e9, log_deviation=0.0)
FETCH_S = 16.1


def tiers(use: PoolUse) -> list[tuple[Tier, float]]:
    return [(each.tier, each.median_s) for each in use.startups.by_tier]


def test_a_node_keeps_one_copy_of_the_model_for_both_pools() -> None:
    both_on_each = replace(setting_of(1, 1), nodes=(NodeGroup(gpus=2, low=2, high=2),), startup=PHASES)

    outcome = simulate(both_on_each, Pair(prefill=Grows(200.0), decode=Grows(50.0)))

    prefill, decode = map(tiers, outcome.pools)
    assert [tier for tier, _ in decode] == [Tier.COLD]
    assert decode[0][1] == pytest.approx(PHASES.cold_s)
    assert [tier for tier, _ in prefill] == [Tier.WARM]  # on the second node, where decoding brought it
    assert outcome.startups.fetched_bytes == pytest.approx(PHASES.weights_bytes)


def test_pools_that_fetch_at_once_to_nodes_of_their_own_share_the_line() -> None:
    on_their_own = replace(setting_of(1, 1), startup=PHASES)

    at_once, apart = (
        simulate(on_their_own, Pair(prefill=Grows(from_s), decode=Grows(50.0))) for from_s in (50.0, 200.0)
    )

    assert [tiers(use)[0][1] for use in at_once.pools] == pytest.approx([PHASES.cold_s + FETCH_S] * 2, abs=2.0)
    assert [tiers(use)[0][1] for use in apart.pools] == pytest.approx([PHASES.cold_s] * 2, abs=1e-6)
    assert at_once.startups.fetched_bytes == apart.startups.fetched_bytes == pytest.approx(2 * PHASES.weights_bytes)


def test_a_lost_node_takes_its_requests_whatever_pool_they_were_in() -> None:
    nodes = (NodeGroup(low=4, high=4, losses_at_s=((0, 300.0), (3, 400.0))),)
    setting = replace(setting_of(2, 2), nodes=nodes)

    outcome = simulate(setting, Pair(prefill=Static(2), decode=Static(2)))

    assert outcome.lost_requests > 0
    assert len(outcome.requests) == len(setting.requests)


def test_clients_ask_again_when_their_tokens_are_there() -> None:
    setting = setting_of(1, 1, "clients: {count: 30, thinkSeconds: 2}\n")

    outcome = simulate(setting, pair_of("warmtide", setting))

    come, gone = outcome.requests["arrived_at_s"], outcome.requests["finished_at_s"]
    assert max(int(((come <= at) & (gone > at)).sum()) for at in come[::50].tolist()) <= 30


def test_a_pair_needs_two_pools_that_are_scaled() -> None:
    setting = with_fixed_prefill(setting_of(1, 1))

    with pytest.raises(ValueError, match="needs a setting that scales both pools"):
        simulate(setting, Pair(prefill=Static(1), decode=Static(1)))


def test_the_policy_of_prefill_knows_the_machine_of_prefill() -> None:
    setting = setting_of(1, 1)

    of_prefill = setting_of_prefill(setting)

    assert of_prefill.config.max_num_batched_tokens == 8192
    assert of_prefill.bounds == Bounds(low=1, high=4)
