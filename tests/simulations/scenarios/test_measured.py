"""A scenario on a measured machine: its classes and its other pool keep their ratio to it."""

from dataclasses import replace
from pathlib import Path

import pytest

from simulations import cli
from simulations.calibration.judge import Coverage
from simulations.calibration.profile_file import MachineProfile, profile_text
from simulations.replica import PROFILES, EngineConfig, StepTimes
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.world.machines import Machine

FILE = """\
nodes:
  - {name: own, gpuClass: L40S, count: 2}
  - {name: more, gpuClass: H100, count: 2}
  - {name: old, gpuClass: T4, count: 2}
traffic: {rates: azure_2023_conversation, rateRatio: 0.5, endSeconds: 60}
machine:
  profile: llama-3.1-8b-l40s
  numGpuBlocks: 12000
  maxModelLenTokens: 8192
  classes:
    H100: {profile: llama-3.1-8b-h100, numGpuBlocks: 30000}
    T4: {speedRatio: 0.5, maxNumSeqs: 64}
replicas: {max: 2}
"""
POOL = "pools: {prefill: {max: 2, maxNumBatchedTokens: 8192}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}\n"
L40S, H100 = PROFILES["llama-3.1-8b-l40s"], PROFILES["llama-3.1-8b-h100"]
# As calibration writes it: what a step always takes is one number.
MEASURED = Machine(
    config=EngineConfig(num_gpu_blocks=10_000, max_num_seqs=128, max_num_batched_tokens=4096, caches_prefixes=False),
    times=StepTimes(base_s=0.030, prefill_token_s=6e-5, decode_sequence_s=4e-5, kv_token_s=2e-7, attention_pair_s=0.0),
)


def scenario(more: str = "") -> Scenario:
    found = parse_scenario(FILE + more, "any", Path())
    assert isinstance(found, Scenario)
    return found


def test_classes_keep_their_ratio_to_the_usual_machine() -> None:
    h100, t4 = scenario().measured(MEASURED).on_class

    always = (H100.base_s + H100.overhead_s) / (L40S.base_s + L40S.overhead_s)
    assert h100.times.base_s == pytest.approx(0.030 * always)
    assert h100.times.prefill_token_s == pytest.approx(6e-5 * H100.prefill_token_s / L40S.prefill_token_s)
    assert h100.times.attention_pair_s == 0.0
    assert (h100.config.num_gpu_blocks, h100.config.max_num_seqs) == (25_000, 128)
    assert t4.times == MEASURED.times.sped_up(0.5)
    assert (t4.config.num_gpu_blocks, t4.config.max_num_seqs) == (10_000, 64)  # a limit of its own stays


def test_the_usual_machine_is_the_measured_one_and_so_is_a_pool_that_says_nothing_else() -> None:
    found = scenario(POOL).measured(MEASURED)

    assert (found.engine, found.times) == (MEASURED.config, MEASURED.times)
    assert found.fixed_pool is not None
    assert found.fixed_pool.times == MEASURED.times
    assert found.fixed_pool.config == replace(MEASURED.config, max_num_batched_tokens=8192)
    assert found.fixed_pool.on_class[0].times == found.on_class[0].times


def test_measured_again_as_it_was_said_nothing_changes() -> None:
    found = scenario(POOL)

    again = found.measured(Machine(config=found.engine, times=found.times))

    assert [one.config for one in again.on_class] == [one.config for one in found.on_class]
    for one, other in zip(again.on_class, found.on_class, strict=True):
        assert step_s(one.times) == pytest.approx(step_s(other.times))


def step_s(times: StepTimes) -> float:
    return times.duration_s(700, 30, kv_tokens=20_000, attention_pairs=245_000)


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.yaml").write_text(FILE, encoding="utf-8")
    return str(tmp_path / "own.yaml")


def test_a_measured_profile_is_taken_with_classes(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coverage = Coverage(prompt_tokens=100_000, running_requests=1000, kv_tokens=10**7)
    profile = MachineProfile(
        name="mine", config=MEASURED.config, times=MEASURED.times, coverage=coverage, request_overhead_s=0.0, remarks=()
    )
    (tmp_path / "mine.yaml").write_text(profile_text(profile), encoding="utf-8")

    assert cli.main(["run", "--scenario", own, "--profile", str(tmp_path / "mine.yaml"), "--policy", "kpa"]) == 0

    assert "static-1" in capsys.readouterr().out


def test_another_shipped_profile_beside_classes_is_refused_with_the_names_of_both(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--scenario", own, "--profile", "llama-3.1-8b-a100"]) == 2

    assert capsys.readouterr().err == (
        "warmtide sim: --profile llama-3.1-8b-a100: the scenario's machine.classes say what a replica is on H100, T4 "
        "beside llama-3.1-8b-l40s; name the profiles of both in its file, or give a measured one\n"
    )
