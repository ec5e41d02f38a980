"""Prefill and decoding apart: one pool of a fixed size, one that a policy scales, and what both cost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations.errors import ScenarioError
from simulations.policies import build
from simulations.policies.static import Static
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.world import Outcome, Setting, simulate

SCENARIO = """\
traffic: {rates: azure_2023_code, endSeconds: 300}
machine: {profile: llama-3.1-8b-h100, maxModelLenTokens: 16384, numGpuBlocks: 28000}
replicas: {max: 4}
"""
MOVES = "kvBytesPerToken: 131072, bytesPerSecond: 25e9"
PREFILL_FIXED = f"pools: {{prefill: {{replicas: 2, maxNumBatchedTokens: 8192}}, {MOVES}}}\n"
DECODE_FIXED = f"pools: {{decode: {{replicas: 2, profile: llama-3.1-8b-a100}}, {MOVES}}}\n"


def scenario_of(text: str) -> Scenario:
    found = parse_scenario(text, "test", Path())
    assert isinstance(found, Scenario)
    return found


def setting_of(pools: str, rate_ratio: int = 1) -> Setting:
    text = SCENARIO.replace("endSeconds", f"rateRatio: {rate_ratio}, endSeconds")
    return scenario_of(text + pools).setting(1)[0]


def served_by(replicas: int, setting: Setting) -> Outcome:
    return simulate(replace(setting, replicas_at_start=replicas), Static(replicas))


@pytest.mark.parametrize("pools", [PREFILL_FIXED, DECODE_FIXED], ids=["decode is scaled", "prefill is scaled"])
def test_users_see_each_request_once_and_pay_for_both_pools(pools: str) -> None:
    setting = setting_of(pools)

    outcome = served_by(3, setting)

    requests = outcome.requests
    np.testing.assert_array_equal(requests["arrived_at_s"], setting.requests["arrived_at_s"])
    np.testing.assert_array_equal(requests["output_tokens"], setting.requests["output_tokens"])
    assert (requests["first_token_at_s"] > requests["arrived_at_s"]).all()
    assert (requests["finished_at_s"] >= requests["first_token_at_s"]).all()
    assert outcome.gpu_hours == pytest.approx((3 + 2) * setting.span_s / 3600)
    assert outcome.fixed_gpu_hours == pytest.approx(2 * setting.span_s / 3600)


def test_the_kv_takes_its_time_to_move() -> None:
    slow = "kvBytesPerToken: 131072, bytesPerSecond: 1.31072e8"  # a millisecond a token
    near, far = setting_of(PREFILL_FIXED), setting_of(PREFILL_FIXED.replace(MOVES, slow))

    sooner, later = served_by(4, near).requests, served_by(4, far).requests

    longer_s = (later["first_token_at_s"] - sooner["first_token_at_s"]).mean()
    assert longer_s == pytest.approx(1e-3 * near.requests["prompt_tokens"].mean(), rel=0.05)


@pytest.mark.parametrize("name", ["warmtide", "hpa-queue"])
def test_a_policy_sees_and_scales_the_other_pool_alone(name: str) -> None:
    setting = replace(setting_of(DECODE_FIXED, rate_ratio=6), replicas_at_start=1)
    policy = build(name, setting.bounds, ttft_s=setting.ttft_s, lead_time_s=1.0)

    outcome = simulate(setting, policy)

    assert outcome.starts > 0
    assert outcome.series["ready"].max() <= setting.bounds.high
    assert (outcome.series["kv_cache_usage_ratio"] <= 1.0).all()


def test_clients_of_two_pools_ask_again_when_their_tokens_are_there() -> None:
    setting = setting_of(PREFILL_FIXED + "clients: {count: 10, thinkSeconds: 2}\n")

    outcome = served_by(2, setting)

    come, gone = outcome.requests["arrived_at_s"], outcome.requests["finished_at_s"]
    under_way = [int(((come <= moment) & (gone > moment)).sum()) for moment in come.tolist()]
    assert 0 < max(under_way) <= 10
    assert come.max() <= setting.span_s


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        (f"pools: {{{MOVES}}}\n", "pools needs prefill or decode"),
        (f"pools: {{prefill: {{replicas: 1}}, decode: {{replicas: 1}}, {MOVES}}}\n", "pools needs prefill or decode"),
        (f"pools: {{prefill: {{replicas: 1, profile: x}}, {MOVES}}}\n", "pools: no profile 'x'"),
        ("pools: {prefill: {replicas: 1}, bytesPerSecond: 1}\n", "pools.kvBytesPerToken: Field required"),
    ],
    ids=["none", "both", "profile", "no size"],
)
def test_what_pools_cannot_be_is_said_by_name(pools: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        setting_of(pools)
