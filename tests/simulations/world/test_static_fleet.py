"""The smallest fixed fleet, where it is a pair: none smaller holds, and comparisons begin with it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from simulations import cli
from simulations.errors import UsageError
from simulations.imports.choose import chosen, chosen_for_all
from simulations.policies.base import Pair
from simulations.policies.dynamo import DynamoLoad
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.static_fleet import ATTAINMENT_RATIO, fixed, fleet_name, of_size, replicas_of, resized, sized
from simulations.world import Setting, simulate

SCENARIO = """\
traffic: {rates: azure_2023_conversation, rateRatio: 12, endSeconds: 300}
machine: {profile: llama-3.1-8b-h100, maxModelLenTokens: 16384, numGpuBlocks: 6000}
replicas: {max: 5}
startup: {coldSeconds: 40, warmSeconds: 20}
pools: {prefill: {max: 4, maxNumBatchedTokens: 8192}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}
"""


@pytest.fixture(scope="module")
def setting() -> Setting:
    scenario = parse_scenario(SCENARIO, "test", Path())
    assert isinstance(scenario, Scenario)
    return scenario.setting(1)[0]


def of(setting: Setting, prefill: int, decode: int) -> Setting:
    assert setting.fixed_pool is not None
    pool = replace(setting.fixed_pool, replicas=prefill)
    return replace(setting, replicas_at_start=decode, fixed_pool=pool)


def holds(setting: Setting, prefill: int, decode: int) -> bool:
    fleet = of(setting, prefill, decode)
    return simulate(fleet, fixed(fleet)).attainment_ratio >= ATTAINMENT_RATIO


def test_no_pair_of_fewer_replicas_holds(setting: Setting) -> None:
    fleet, outcome = sized(setting)

    prefill, decode = replicas_of(fleet)
    assert outcome is not None
    assert outcome.attainment_ratio >= ATTAINMENT_RATIO
    assert outcome == simulate(fleet, fixed(fleet))
    assert fleet_name(fleet) == f"static-{prefill}+{decode}"
    assert prefill > 1
    assert decode > 1
    for other in range(1, prefill + decode - 1):
        if other <= 4 and prefill + decode - 1 - other <= 5:
            assert not holds(setting, other, prefill + decode - 1 - other)


def test_where_no_pair_holds_it_is_the_largest(setting: Setting) -> None:
    assert replicas_of(sized(replace(setting, ttft_s=1e-6))[0]) == (4, 5)


def test_an_eager_fleet_is_larger_in_both_pools_and_within_bounds(setting: Setting) -> None:
    assert replicas_of(resized(of(setting, 2, 2), 1.5)) == (3, 3)
    assert replicas_of(resized(of(setting, 2, 2), 9.0)) == (4, 5)


def test_a_policy_is_one_for_each_pool_with_the_machine_and_the_bounds_of_each(setting: Setting) -> None:
    pair = chosen_for_all("dynamo-load", setting)

    assert isinstance(pair, Pair)
    assert isinstance(pair.prefill, DynamoLoad)
    assert isinstance(pair.decode, DynamoLoad)
    assert (pair.prefill.bounds.high, pair.decode.bounds.high) == (4, 5)
    assert (pair.prefill.site.role, pair.decode.site.role) == ("prefill", "decode")
    assert pair.prefill.settled is pair.decode.settled


@pytest.mark.parametrize("name", ["warmtide", "warmtide-foresight"])
def test_who_cannot_scale_both_is_told_so(name: str, setting: Setting) -> None:
    make = chosen if name == "warmtide" else chosen_for_all
    with pytest.raises(Exception, match="pool"):
        make(name, setting)
    with pytest.raises(ValueError, match="needs a pair of policies"):
        simulate(setting, chosen("warmtide", replace(setting, fixed_pool=None)))


def test_a_user_may_say_which_fixed_fleet_stands_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    words = ["compare", "--scenario", str(path), "--policies", "hpa-queue", "--replicas"]

    assert cli.main([*words, "4+2"]) == 0

    assert "static-4+2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "expected two numbers such as 2+3, of prefill and of decoding, got '3'"),
        ("5+1", "expected from 1 to 4, got 5"),
        ("1+x", "expected two numbers"),
    ],
)
def test_a_fleet_that_is_none_is_refused(text: str, message: str, setting: Setting) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        of_size(setting, text)


def test_a_fleet_of_one_pool_is_a_number(setting: Setting) -> None:
    alone = replace(setting, fixed_pool=None)

    assert fleet_name(of_size(alone, "3")) == "static-3"
    with pytest.raises(UsageError, match="expected a number, got '2"):
        of_size(alone, "2+3")


@pytest.mark.parametrize("word", ["compare", "tune", "oracle"])
def test_two_scaled_pools_beside_other_services_are_refused_with_the_way_out(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    services = [{"name": name, **yaml.safe_load(SCENARIO)} for name in ("chat", "code")]
    path.write_text(yaml.safe_dump({"nodes": [{"name": "own", "count": 4}], "services": services}), encoding="utf-8")

    assert cli.main([word, "--scenario", str(path)]) == 2

    said = "both its pools are scaled: only of one service alone, in a file of its own"
    assert said in capsys.readouterr().err


def test_a_comparison_says_what_each_pool_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    words = ["--scenario", str(path), "--out", str(tmp_path / "out")]

    assert cli.main(["compare", *words, "--policies", "dynamo-load"]) == 0
    compared = capsys.readouterr().out
    assert cli.main(["run", "--scenario", str(path), "--policy", "hpa-queue"]) == 0
    ran = capsys.readouterr().out
    assert cli.main(["compare", "--scenario", str(path), "--policies", "hpa-queue", "--seeds", "2"]) == 0
    studied = capsys.readouterr().out

    assert "of prefill" in compared
    assert "static-" in compared
    assert "prefill 0 s: " in ran
    assert "decode 0 s: " in ran
    assert "prefill: " in ran
    assert "decode: " in ran
    assert "of decode" in studied
    decisions = (tmp_path / "out" / "dynamo-load" / "decisions.jsonl").read_text(encoding="utf-8")
    assert '"pool": "prefill"' in decisions
