"""The oracle's bound held against policies in simulated worlds, and what hindsight makes of it there."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations.compiled.fleet import requests_of
from simulations.imports.choose import chosen, chosen_for_all
from simulations.oracle import Oracle, cheapest, demand_of, demands_of
from simulations.oracle.cost import Cost
from simulations.oracle.foresight import with_hindsight
from simulations.policies import Bounds, Policy, Site, build
from simulations.policies.base import Role
from simulations.policies.static import Static
from simulations.replica import PROFILES, EngineConfig
from simulations.scenarios import Scenario, Together
from simulations.scenarios.config import parse_scenario
from simulations.static_fleet import fixed, sized
from simulations.world import Setting, simulate, simulate_together
from simulations.world.machines import ClassMachine
from simulations.world.starts.startup import StartupTimes

CONFIG = EngineConfig(caches_prefixes=False, num_gpu_blocks=12_000, max_model_len_tokens=32_768)
TIMES = PROFILES["llama-3.1-8b-l40s"]
LEAD_S = 60.0
PEERS = {"hpa-queue": 1.0, "keda-epp-queue": 0.5, "keda-slo": 1.0, "kpa": 2.0, "wva-token": 1.5, "warmtide": 1.0}


def tide(seed: int, span_s: float = 900.0) -> Setting:
    """Traffic that rises from 6 to 24 requests a second and falls again, three times in a quarter of an hour."""
    rng = np.random.default_rng(seed)
    rate = 15.0 - 9.0 * np.cos(np.arange(int(span_s)) / span_s * 6 * math.pi)
    at_s = np.sort(np.repeat(np.arange(int(span_s)), rng.poisson(rate)) + rng.random(1))
    prompt = rng.integers(200, 2000, len(at_s)).astype(np.int32)
    output = rng.integers(20, 400, len(at_s)).astype(np.int32)
    startup = StartupTimes(cold_s=LEAD_S, warm_s=LEAD_S, log_deviation=0.0)
    return Setting(
        requests=requests_of(at_s, prompt, output),
        config=CONFIG,
        times=TIMES,
        bounds=Bounds(low=1, high=10),
        replicas_at_start=4,
        startup=startup,
    )


def policies(setting: Setting) -> list[Policy]:
    peers = [
        build(name, setting.bounds, ttft_s=setting.ttft_s, lead_time_s=LEAD_S, site=site)
        for name, ratio in PEERS.items()
        if (site := Site(config=CONFIG, times=TIMES, eagerness_ratio=ratio))
    ]
    return [*(Static(replicas) for replicas in (3, 4, 6)), *peers]


def test_no_policy_is_cheaper_than_the_oracle_at_its_own_attainment() -> None:
    setting = tide(1)
    demand = demand_of(setting)

    for policy in policies(setting):
        outcome = simulate(setting, policy)
        bound = cheapest(demand, lead_time_s=LEAD_S, attainment_ratio=outcome.attainment_ratio)

        assert bound.lower_hours <= outcome.gpu_hours, f"{policy} at {outcome.attainment_ratio:.3%}"


def test_hindsight_is_possible_in_the_world_and_beats_the_smallest_static_fleet() -> None:
    setting = tide(2)
    bound = cheapest(demand_of(setting), lead_time_s=LEAD_S, attainment_ratio=0.99)

    found = with_hindsight(setting, lead_time_s=LEAD_S, attainment_ratio=0.99)

    assert found is not None
    assert found.outcome.attainment_ratio >= 0.99
    assert bound.lower_hours <= found.outcome.gpu_hours
    static = next(n for n in range(1, 11) if simulate(setting, Static(n)).attainment_ratio >= 0.99)
    assert found.outcome.gpu_hours < simulate(setting, Static(static)).gpu_hours


def test_the_work_of_a_request_is_that_of_its_steps_in_the_fullest_batch() -> None:
    requests = requests_of(np.array([0.0, 1.0]), np.array([100, 100], np.int32), np.array([3, 3], np.int32))
    setting = Setting(requests=requests, config=CONFIG, times=TIMES, bounds=Bounds(low=1, high=2), replicas_at_start=1)
    prefill_s = 100 * TIMES.prefill_token_s + 5000 * TIMES.attention_pair_s
    decode_s = 2 * TIMES.decode_sequence_s + (101 + 102) * TIMES.kv_token_s
    seats_s = 3 * (TIMES.base_s + TIMES.overhead_s) / CONFIG.max_num_seqs  # 256 such requests need a seventh of the KV

    cost = Cost.of(setting)

    assert cost.work_s(requests) == pytest.approx([prefill_s + decode_s + seats_s] * 2)
    assert cost.resident_s(requests) == pytest.approx(256 * (decode_s + seats_s))


def test_a_course_in_parts_has_the_demand_of_the_whole() -> None:
    whole = tide(3)
    half = len(whole.requests) // 2
    parts = replace(
        whole,
        requests=whole.requests[:half],
        more=lambda: iter([whole.requests[half:]]),
        ends_at_s=whole.span_s,
    )

    one, other = demand_of(whole), demand_of(parts)

    assert (one.requests == other.requests).all()
    assert (one.work_quanta == other.work_quanta).all()


def test_what_a_prefix_cache_may_save_is_not_demanded() -> None:
    plain = tide(3)
    cached = replace(plain, config=replace(CONFIG, caches_prefixes=True))

    assert demand_of(cached).work_quanta.sum() < 0.75 * demand_of(plain).work_quanta.sum()


def test_where_nodes_differ_each_request_is_served_where_it_costs_least() -> None:
    slow, fast = tide(3), replace(tide(3), times=PROFILES["llama-3.1-8b-h100"])
    on_class = (ClassMachine(gpu_class="H100", config=CONFIG, times=fast.times),)

    mixed = demand_of(replace(slow, on_class=on_class))

    assert (mixed.work_quanta == demand_of(fast).work_quanta).all()
    assert mixed.allowed_quanta == max(demand_of(one).allowed_quanta for one in (slow, fast))


def test_hindsight_plans_on_where_not_even_the_most_replicas_would_serve_the_traffic_that_is_planned_for() -> None:
    setting = replace(tide(2), ttft_s=1.0, bounds=Bounds(low=1, high=5), replicas_at_start=5)

    found = with_hindsight(setting, lead_time_s=LEAD_S, attainment_ratio=0.999)

    assert found is not None
    demand = demand_of(setting)
    work = np.floor(np.cumsum(demand.work_quanta) * found.margin_ratios[None])
    busier = replace(demand, work_quanta=np.diff(work, prepend=0.0).astype(np.int64))
    with pytest.raises(ValueError, match="late with the most replicas"):
        cheapest(busier, lead_time_s=LEAD_S, attainment_ratio=0.999)
    assert found.outcome.attainment_ratio >= 0.999


def test_a_prompt_that_takes_longer_than_the_objective_is_late_whatever_is_paid() -> None:
    setting = tide(3)
    setting.requests["prompt_tokens"][:50] = 30_000
    demand = demand_of(setting)

    static = simulate(replace(setting, replicas_at_start=10), Static(10))

    assert demand.hopeless == 50
    assert static.attainment_ratio <= 1 - 50 / len(setting.requests)
    with pytest.raises(ValueError, match="50 of them by their own prompt"):
        cheapest(demand, lead_time_s=0.0, attainment_ratio=1 - 49 / len(setting.requests))


def test_a_share_of_requests_is_a_number_of_them_whatever_the_rounding() -> None:
    setting = tide(3, 60.0)
    quiet = replace(demand_of(setting), work_quanta=np.zeros_like(demand_of(setting).work_quanta))

    for hopeless in range(1, 40):
        all_requests = int(quiet.requests.sum()) + hopeless
        oracle = Oracle(replace(quiet, hopeless=hopeless), 0.0)
        assert oracle.can_keep(1 - hopeless / all_requests)
        assert not oracle.can_keep(1 - (hopeless - 1) / all_requests)


POOLS = """\
traffic: {rates: azure_2023_conversation, rateRatio: 4, endSeconds: 600, burstiness: 0.2}
machine: {profile: llama-3.1-8b-l40s, maxModelLenTokens: 16384, numGpuBlocks: 12000}
replicas: {max: 8}
startup: {coldSeconds: 60, warmSeconds: 60, logDeviation: 0}
pools: {prefill: {max: 6, maxNumBatchedTokens: 8192}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}
"""


@pytest.fixture(scope="module", params=[1, 2])
def pools(request: pytest.FixtureRequest) -> Setting:
    scenario = parse_scenario(POOLS, "test", Path())
    assert isinstance(scenario, Scenario)
    return sized(scenario.setting(request.param)[0])[0]


@pytest.mark.parametrize("name", ["static", "warmtide", "hpa-queue", "keda-slo", "wva-token", "dynamo-throughput"])
def test_no_pair_of_policies_is_cheaper_than_the_bounds_of_both_pools(name: str, pools: Setting) -> None:
    outcome = simulate(pools, fixed(pools) if name == "static" else chosen_for_all(name, pools))

    bounds = {
        role: cheapest(demand, lead_time_s=LEAD_S, attainment_ratio=outcome.attainment_ratio)
        for role, demand in demands_of(pools).items()
    }

    assert all(bounds[use.role].lower_hours <= use.gpu_hours for use in outcome.pools)
    assert sum(bound.lower_hours for bound in bounds.values()) <= outcome.gpu_hours


def test_longer_starts_never_make_two_pools_cheaper(pools: Setting) -> None:
    for demand in demands_of(pools).values():
        lower = [Oracle(demand, lead_s).lower_hours(0.99) for lead_s in (0.0, 60.0, 180.0)]

        assert lower == sorted(lower)


def test_hindsight_of_two_pools_keeps_the_objective_in_the_world_for_less_than_who_must_foresee(pools: Setting) -> None:
    found = with_hindsight(pools, lead_time_s=LEAD_S, attainment_ratio=0.99)

    assert found is not None
    assert found.outcome.attainment_ratio >= 0.99
    assert sum(Oracle(one, LEAD_S).lower_hours(0.99) for one in demands_of(pools).values()) <= found.outcome.gpu_hours
    assert found.outcome.gpu_hours < simulate(pools, chosen_for_all("warmtide", pools)).gpu_hours


def test_work_of_two_pools_is_that_of_a_prompt_and_that_of_its_answer() -> None:
    requests = requests_of(np.array([0.0, 1.0]), np.array([100, 100], np.int32), np.array([3, 3], np.int32))
    setting = Setting(requests=requests, config=CONFIG, times=TIMES, bounds=Bounds(low=1, high=2), replicas_at_start=1)
    step_s = (TIMES.base_s + TIMES.overhead_s) / CONFIG.max_num_seqs
    prompt_s = 100 * TIMES.prefill_token_s + 5000 * TIMES.attention_pair_s
    token_s = TIMES.prefill_token_s + TIMES.attention_pair_s / 2
    answer_s = 2 * TIMES.decode_sequence_s + (101 + 102) * TIMES.kv_token_s

    prefill, decode = (Cost.of(setting, role) for role in (Role.PREFILL, Role.DECODE))

    assert prefill.work_s(requests) == pytest.approx([prompt_s + step_s] * 2)
    assert decode.work_s(requests) == pytest.approx([token_s + answer_s + 3 * step_s] * 2)


TOGETHER = """\
nodes: [{name: own, count: NODES}]
budgetGpus: 6
services:
  - name: chat
    traffic: {rates: azure_2023_conversation, rateRatio: 3, endSeconds: 600}
    machine: &machine {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 16384}
    replicas: {max: 6}
    startup: &startup {coldSeconds: 60, warmSeconds: 60, logDeviation: 0}
  - name: code
    traffic: {rates: azure_2023_code, endSeconds: 600}
    machine: *machine
    replicas: {max: 6}
    objective: {ttftSeconds: 4}
    startup: *startup
"""


@pytest.mark.parametrize("nodes", [8, 5], ids=["a quota that binds", "nodes that bind"])
@pytest.mark.parametrize("name", ["static", "warmtide", "keda-epp-queue", "wva-token"])
def test_services_that_share_nodes_cost_no_less_than_the_bounds_of_each_alone(name: str, nodes: int) -> None:
    together = parse_scenario(TOGETHER.replace("NODES", str(nodes)), "test", Path())
    assert isinstance(together, Together)
    settings = [sized(service.setting(1)[0])[0] for service in together.services]

    shared = simulate_together(
        [(one, Static(one.replicas_at_start) if name == "static" else chosen(name, one)) for one in settings]
    )

    for setting, outcome in zip(settings, shared.outcomes, strict=True):
        oracle = Oracle(demand_of(setting), LEAD_S)
        assert oracle.lower_hours(outcome.attainment_ratio) <= outcome.gpu_hours
