"""The oracle's bound held against policies in simulated worlds, and what hindsight makes of it there."""

import math
from dataclasses import replace

import numpy as np
import pytest

from simulations.compiled.fleet import requests_of
from simulations.oracle import cheapest, demand_of
from simulations.oracle.demand import Cost
from simulations.oracle.foresight import with_hindsight
from simulations.policies import Bounds, Policy, Site, build
from simulations.policies.static import Static
from simulations.replica import PROFILES, EngineConfig
from simulations.world import Setting, simulate
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
    work = np.floor(np.cumsum(demand.work_quanta) * found.margin_ratio)
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
