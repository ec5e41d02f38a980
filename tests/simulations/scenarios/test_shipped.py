"""The scenarios that ship have the traffic of the traces they name."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from simulations import cli, derive_figures
from simulations.compiled.fleet import replay_compiled
from simulations.prefixes import CAPACITIES, lru_hit_ratio
from simulations.scenarios import NAMES, TOGETHER, Scenario, load_scenario
from simulations.scenarios.draw import Generated
from simulations.traces import Chunk, joined
from simulations.traces.summary import summarise
from simulations.traffic import shipped_figures, stored

TRACES = Path(__file__).parents[3] / ".." / "shared" / "traces"
TRACE_OF = {
    "azure_2023_conversation": "AzureLLMInferenceTrace_conv.csv",
    "azure_2023_code": "AzureLLMInferenceTrace_code.csv",
    "azure_2024_conversation_week": "azure_2024_conv_per7min.csv",
    "mooncake_conversation": "mooncake_conversation.jsonl",
    "mooncake_conversation_prefixes": "mooncake_conversation.jsonl",
    "worldcup98_opening_day": "worldcup98_first_half_per_minute.csv.gz",
}


def generated(scenario: Scenario) -> Generated:
    assert isinstance(scenario.traffic, Generated)
    return scenario.traffic


@cache
def as_in_the_trace(name: str) -> Chunk:
    """The scenario's traffic as often as its trace has it, thinned where that is a week's."""
    scenario = load_scenario(name)
    traffic = generated(scenario)
    own_per_s = sum(traffic.rates.arrivals_per_bin) / traffic.rates.span_s
    return joined(list(replace(traffic, requests_per_s=min(own_per_s, scenario_rate_most(traffic))).chunks(5)))


def scenario_rate_most(traffic: Generated) -> float:
    return 1e9 if traffic.span_s < 2 * 3600 else 1.0


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_whose_figures_it_has(name: str) -> None:
    scenario = load_scenario(name)

    assert len(scenario.says) > 20
    for figures in (generated(scenario).rates, generated(scenario).lengths):
        assert figures.licence in {"CC-BY-4.0", "Apache-2.0", "MIT"}
        assert "/" in figures.source


@pytest.mark.parametrize("name", NAMES)
def test_a_replica_costs_all_the_gpus_that_its_profile_was_measured_on(name: str) -> None:
    scenario = load_scenario(name)
    _, _, tensor_parallel = scenario.profile.partition("-tp")

    assert scenario.gpus_per_replica == int(tensor_parallel or 1)
    assert ("two H100 each" in scenario.says) == (scenario.gpus_per_replica == 2)


@pytest.mark.parametrize("name", NAMES)
def test_its_requests_are_as_long_as_those_of_its_trace(name: str) -> None:
    known = generated(load_scenario(name)).lengths.known
    summary = summarise([as_in_the_trace(name)]).summary()

    assert summary.prompt.mean == pytest.approx(known.prompt_tokens_mean, rel=0.06)
    assert summary.prompt.p50 == pytest.approx(known.prompt_tokens_p50, rel=0.06)
    assert summary.prompt.p95 == pytest.approx(known.prompt_tokens_p95, rel=0.06)
    assert summary.output.mean == pytest.approx(known.output_tokens_mean, rel=0.06)
    assert summary.output.p95 == pytest.approx(known.output_tokens_p95, rel=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_its_demand_rises_and_falls_with_the_trace(name: str) -> None:
    traffic = generated(load_scenario(name))
    found = as_in_the_trace(name)
    period_s = traffic.span_s / 24
    begin = round(traffic.window.begin_s / traffic.rates.bin_s)
    bins = np.array(traffic.rates.arrivals_per_bin)[begin : begin + round(traffic.span_s / traffic.rates.bin_s)]

    real = np.add.reduceat(bins, np.linspace(0, len(bins), 24, endpoint=False).astype(np.int64))
    ours = np.bincount((found.at_s / period_s).astype(np.int64), minlength=24)[:24]

    assert np.corrcoef(real, ours)[0, 1] > 0.85
    assert len(found) / traffic.span_s == pytest.approx(len(found) / found.at_s[-1], rel=0.05)


def test_code_comes_in_bursts_as_in_its_trace() -> None:
    known = generated(load_scenario("code-hour")).lengths.known

    assert summarise([as_in_the_trace("code-hour")]).summary().gap_variation == pytest.approx(
        known.gap_variation, rel=0.1
    )


def test_agents_prompts_begin_alike_as_in_their_trace() -> None:
    traffic, found = generated(load_scenario("agents-hour")), as_in_the_trace("agents-hour")

    assert found.blocks is not None
    assert traffic.prefixes is not None
    for capacity, known in zip(CAPACITIES, traffic.prefixes.known_hits, strict=True):
        assert lru_hit_ratio(found.blocks, capacity) == pytest.approx(known, abs=0.03)
    assert np.diff(found.blocks.starts).tolist() == (-(-found.prompt_tokens // 512)).tolist()


def test_a_tuesday_has_its_night_and_its_afternoon() -> None:
    found = as_in_the_trace("chat-day")
    hours = np.bincount((found.at_s / 3600).astype(np.int64), minlength=24)

    assert hours.max() / hours.min() > 1.5


def test_a_seed_is_a_course_and_another_seed_another() -> None:
    scenario = load_scenario("chat-hour")

    assert scenario.make(3).tobytes() == scenario.make(3).tobytes()
    assert len(scenario.make(4)) != len(scenario.make(3))


@pytest.mark.skipif(not TRACES.exists(), reason="the real traces are not beside this checkout")
@pytest.mark.parametrize("name", TRACE_OF)
def test_the_figures_that_ship_are_those_of_the_real_trace(name: str) -> None:
    figures = derive_figures.figures_of(name, TRACES / TRACE_OF[name])

    shipped = shipped_figures(name)
    assert list(shipped) == [line.split('"')[1] for line in stored(figures).splitlines()[1:-1]]
    for key, value in shipped.items():
        found = getattr(figures, key)
        assert found.__class__.__name__ == "KnownFigures" or found == value, key


def test_deriving_is_called_with_a_name_and_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert derive_figures.main(["azure_2023_code", str(tmp_path / "absent.csv")]) == 2
    assert "absent.csv: cannot be read" in capsys.readouterr().err
    assert derive_figures.main(["nobody", "x"]) == 2
    assert "NAME is one of azure_2023_conversation, " in capsys.readouterr().err


def test_the_command_lists_them_and_prints_a_file_to_begin_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["scenarios"]) == 0
    listed = capsys.readouterr().out
    assert cli.main(["scenarios", "code-hour"]) == 0
    (tmp_path / "own.yaml").write_text(capsys.readouterr().out, encoding="utf-8")

    assert [line.split()[0] for line in listed.splitlines() if not line.startswith(" ")] == [*NAMES, *TOGETHER]
    assert "AzureLLMInferenceTrace_code.csv (CC-BY-4.0)" in listed
    assert load_scenario(str(tmp_path / "own.yaml")).make(1).tobytes() == load_scenario("code-hour").make(1).tobytes()


def test_prompts_that_begin_alike_are_served_from_a_prefix_cache() -> None:
    traffic = replace(generated(load_scenario("agents-hour")), requests_per_s=0.3)
    setting, _ = replace(load_scenario("agents-hour"), traffic=traffic).setting(1)
    drawn = joined(list(traffic.chunks(1))).blocks
    assert setting.names is not None
    assert drawn is not None

    fleet = replay_compiled(setting.requests, 1, setting.config, setting.times, names=setting.names)

    blocks = setting.requests["prompt_tokens"].astype(np.int64) // 16
    assert (np.diff(setting.names.starts) <= blocks).all()
    hits = fleet.cached_tokens.sum() / setting.requests["prompt_tokens"].sum()
    expected = lru_hit_ratio(drawn, setting.config.kv_capacity_tokens // 512)
    assert hits == pytest.approx(expected, abs=0.05)  # running requests hold some of the cache
    assert hits > 0.1
