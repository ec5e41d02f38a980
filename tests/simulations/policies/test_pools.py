"""Policies of a prefill pool and of a decode pool: Dynamo's rules by hand, and what one replica of each serves.

And of one that scales on the time per token, which only a decode pool has.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoscaler.policy.types import Observation, Reason
from simulations.cli import main
from simulations.errors import ScenarioError
from simulations.imports.choose import chosen_for_all
from simulations.policies import Bounds, Site
from simulations.policies.base import Pair, Role
from simulations.policies.capacity import profile
from simulations.policies.catalog import warmtide_spec
from simulations.policies.dynamo import DynamoLoad, DynamoThroughput, prefill_replicas
from simulations.policies.keda import slo_aware
from simulations.policies.pairs import paired
from simulations.policies.static import Static
from simulations.policies.warmtide import Warmtide
from simulations.replica import EngineConfig, StepTimes
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.world import Setting, simulate

Saw = Callable[..., Observation]
BOUNDS = Bounds(low=1, high=50)
# 10 ms a step, 0.1 ms a prompt token; 1 ms a decoding request and 0.1 us for each token that it reads.
TIMES = StepTimes(base_s=0.010, prefill_token_s=1e-4, decode_sequence_s=1e-3, kv_token_s=1e-7)
CONFIG = EngineConfig(max_num_seqs=256, max_num_batched_tokens=2048, max_model_len_tokens=8000, num_gpu_blocks=10_000)


def site_of(role: Role | None) -> Site:
    return Site(config=CONFIG, times=TIMES, role=role)


@pytest.mark.parametrize(
    ("ratios", "replicas"),
    [([0.2, 1.0], 3), ([0.2, 0.99], 2), ([0.09, 0.0], 1), ([0.09, 0.1], 2), ([], 2)],
    ids=["at the border", "below it", "all nearly empty", "one not", "none known"],
)
def test_prefill_grows_at_a_whole_context_queued_and_shrinks_below_a_tenth(ratios: list[float], replicas: int) -> None:
    # _PREFILL_THROUGHPUT_SCALE_UP = 1.0 with >=, _PREFILL_THROUGHPUT_SCALE_DOWN = 0.1 with <.
    assert prefill_replicas(ratios, 2) == replicas


def test_one_prefill_worker_stays() -> None:
    assert prefill_replicas([0.0], 1) == 1


@pytest.mark.parametrize(("waiting", "wanted"), [(8.0, 2), (7.0, 1)], ids=["8,000 of 8,000 tokens", "7,000"])
def test_the_load_loop_of_prefill_counts_queued_prompts_in_contexts(saw: Saw, waiting: float, wanted: int) -> None:
    policy = DynamoLoad(bounds=BOUNDS, site=site_of(Role.PREFILL))
    rates = {"prompt_tokens_per_s": 1000.0, "generation_tokens_per_s": 1.0, "finished_requests_per_s": 1.0}

    wish = policy.wish(saw({"kv_cache_usage_ratio": 1.0, "waiting_requests": waiting, **rates}), 0.0)

    assert wish is not None  # a full cache is nothing to a prefill worker
    assert wish.replicas == wanted


def test_while_one_pool_changes_neither_is_changed(saw: Saw) -> None:
    pair = paired(
        DynamoLoad(bounds=BOUNDS, site=site_of(Role.PREFILL)), DynamoLoad(bounds=BOUNDS, site=site_of(Role.DECODE))
    )
    full = {"kv_cache_usage_ratio": 1.0, "waiting_requests": 400.0}

    wishes = [
        pair.prefill.wish(saw(full, starting=1), 0.0),  # one of its workers is not there yet
        pair.decode.wish(saw(full), 1.0),
        pair.prefill.wish(saw(full, full), 5.0),
        pair.decode.wish(saw(full), 6.0),
    ]

    assert [None if wish is None else wish.replicas for wish in wishes] == [None, None, 3, 2]


def test_others_know_nothing_of_each_other() -> None:
    prefill, decode = Static(2), Static(3)

    pair = paired(prefill, decode)

    assert (pair.prefill, pair.decode) == (prefill, decode)


def test_a_prefill_worker_serves_one_prompt_after_the_other() -> None:
    # 1,000 tokens: 10 ms + 100 ms. 5,000 tokens are three steps: 30 ms + 500 ms.
    short = profile(site_of(Role.PREFILL), (1000.0, 200.0), ttft_s=0.5, itl_s=0.05)
    long = profile(site_of(Role.PREFILL), (5000.0, 200.0), ttft_s=0.5, itl_s=0.05)

    assert short.requests_per_s == pytest.approx(1 / 0.110)
    assert short.concurrency == 4  # the fourth is there after 440 ms
    assert long.requests_per_s == pytest.approx(1 / 0.530)
    assert long.concurrency == 1


def test_a_decode_worker_serves_the_largest_batch_within_the_gap() -> None:
    # Context 1,000 + 200/2: a request takes 1 ms + 0.11 ms; 36 of them 10 + 39.96 ms, within 50; Little: 36/(200 x).
    found = profile(site_of(Role.DECODE), (1000.0, 200.0), ttft_s=0.001, itl_s=0.05)

    assert found.concurrency == 36
    assert found.requests_per_s == pytest.approx(36 / (200 * 0.04996))
    seats = replace(site_of(Role.DECODE), config=replace(CONFIG, num_gpu_blocks=1_000))
    assert profile(seats, (1000.0, 200.0), ttft_s=1.0, itl_s=0.05).concurrency == 14  # 16,000 tokens of cache


@pytest.mark.parametrize(
    ("role", "ttft_s", "replicas"),
    [
        (Role.PREFILL, 2.0, 3),  # 20 a second over 9.09
        (Role.PREFILL, 0.025, 5),  # a prompt takes 110 ms: the floor is ceil(110 / 25)
        (Role.DECODE, 2.0, 6),  # 20 a second over 3.603
    ],
    ids=["prefill", "prefill that cannot keep it", "decode"],
)
def test_the_throughput_loop_divides_what_comes_by_what_one_engine_serves(
    saw: Saw, role: Role, ttft_s: float, replicas: int
) -> None:
    policy = DynamoThroughput(bounds=BOUNDS, site=site_of(role), ttft_s=ttft_s)
    rates = {"prompt_tokens_per_s": 20_000.0, "generation_tokens_per_s": 4000.0, "finished_requests_per_s": 20.0}
    seen = saw({**rates, "running_requests": 30.0, "waiting_requests": 0.0})

    wishes = [policy.wish(seen, 60.0 * look) for look in range(3)]

    assert wishes[2] is not None
    assert wishes[2].replicas == replicas


POOLS = """\
traffic: {rates: azure_2023_conversation, rateRatio: 1.5, endSeconds: 300}
machine: {profile: llama-3.1-8b-l40s, maxModelLenTokens: 16384, numGpuBlocks: 20000}
replicas: {max: 6}
startup: {coldSeconds: 40, warmSeconds: 20}
pools: {prefill: {max: 4, maxNumBatchedTokens: 8192}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}
"""


def slow_decoding(more: str = "") -> Setting:
    """One decode replica that keeps up, and more than enough for prefill."""
    scenario = parse_scenario(POOLS + more, "test", Path())
    assert isinstance(scenario, Scenario)
    drawn = scenario.setting(1)[0]
    assert drawn.fixed_pool is not None
    return replace(drawn, replicas_at_start=1, fixed_pool=replace(drawn.fixed_pool, replicas=4))


def test_the_slo_aware_peer_raises_a_decode_pool_on_time_per_token_alone() -> None:
    setting = slow_decoding()
    site = Site(config=setting.config, times=setting.times, role=Role.DECODE)

    seeing, blind = (
        simulate(setting, Pair(prefill=Static(4), decode=replace(found, reads_gaps=reads_gaps)))
        for reads_gaps in (True, False)
        if (found := slo_aware(setting.bounds, site, ttft_s=setting.ttft_s))
    )

    pace_s = seeing.requests["finished_at_s"] - seeing.requests["first_token_at_s"]
    pace_s = pace_s / np.maximum(1, seeing.requests["output_tokens"] - 1)
    assert seeing.attainment_ratio == blind.attainment_ratio == 1.0  # nobody waits for a first token
    assert np.quantile(pace_s, 0.9) > 0.055  # 0.55 of its 100 ms
    assert seeing.pools[1].decisions[-1].after >= 3
    assert blind.pools[1].decisions == ()


def test_a_lens_of_time_between_tokens_raises_a_decode_pool_too() -> None:
    setting = slow_decoding()
    spec = warmtide_spec(setting.bounds, ttft_s=setting.ttft_s, lead_time_s=40.0)
    strict = replace(spec, objectives=replace(spec.objectives, itl_s=0.05))

    plain, seeing = (
        simulate(setting, Pair(prefill=Static(4), decode=Warmtide(spec=one))).pools[1].decisions
        for one in (spec, strict)
    )

    assert Reason.FOLLOWING_ITL in {change.reason for change in seeing}
    assert max(change.after for change in seeing) > max([1, *(change.after for change in plain)])


def test_an_objective_between_tokens_reaches_all_who_can_hold_it() -> None:
    setting = slow_decoding("objective: {itlSeconds: 0.08}\n")

    ours, peers = chosen_for_all("warmtide", setting, eagerness_ratio=2.0), chosen_for_all("dynamo-throughput", setting)
    loose, strict = (
        simulate(replace(setting, itl_s=itl_s), chosen_for_all("keda-slo", replace(setting, itl_s=itl_s)))
        for itl_s in (0.5, 0.08)
    )

    assert isinstance(ours, Pair)
    assert isinstance(ours.decode, Warmtide)
    assert ours.decode.spec.objectives.itl_s == 0.04  # twice as eager
    assert isinstance(peers, Pair)
    assert isinstance(peers.decode, DynamoThroughput)
    assert peers.decode.itl_s == 0.08
    assert loose.pools[1].starts < strict.pools[1].starts


def test_a_comparison_tells_the_time_per_token_where_there_is_an_objective_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for name, more in (("plain.yaml", ""), ("paced.yaml", "objective: {itlSeconds: 0.08}\n")):
        (tmp_path / name).write_text(POOLS + more, encoding="utf-8")
        assert main(["compare", "--scenario", str(tmp_path / name), "--policies", "keda-slo"]) == 0
        told.append(capsys.readouterr().out)

    plain, paced = told
    assert "per token p95" not in plain
    assert "per token p95" in paced
    assert " ms " in paced.splitlines()[-1]


@pytest.mark.parametrize("value", ["0", "-1", ".inf"])
def test_an_objective_between_tokens_is_a_time(value: str) -> None:
    with pytest.raises(ScenarioError, match=r"objective\.itlSeconds"):
        slow_decoding(f"objective: {{itlSeconds: {value}}}\n")
