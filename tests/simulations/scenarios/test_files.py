"""Scenario files that users write: what they may say, and what a wrong one is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations import cli
from simulations.compiled.fleet import Router
from simulations.errors import ScenarioError
from simulations.policies.static import Static
from simulations.scenarios import load_scenario, scenario
from simulations.scenarios.config import parse_scenario
from simulations.static_fleet import smallest_static
from simulations.traces import source
from simulations.world import simulate

OWN = """\
says: ours
traffic:
  trace: trace.csv
  rateRatio: 2
  beginSeconds: 1
machine:
  profile: llama-3.1-8b-h100
  maxModelLenTokens: 4096
replicas: {min: 2, max: 5}
objective: {ttftSeconds: 1.5}
startup: {coldSeconds: 60}
router: round-robin
"""
TRACE = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n1,20,5\n2,9000,5\n"


def test_a_file_says_all_that_a_setting_needs(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")

    scenario = load_scenario(str(tmp_path / "own.yaml"))
    requests = scenario.make(1)

    assert (scenario.bounds.low, scenario.bounds.high, scenario.ttft_s) == (2, 5, 1.5)
    assert (scenario.startup.cold_s, scenario.startup.warm_s) == (60.0, 52.0)
    assert scenario.setting(1)[0].router is Router.ROUND_ROBIN
    assert requests["prompt_tokens"].tolist() == [20, 20]  # twice as many, from second 1 on, without the too long one
    assert requests["arrived_at_s"][0] == 0.0


def changed(old: str, new: str) -> str:
    assert old in OWN
    return OWN.replace(old, new)


WRONG = {
    "no YAML": ("traffic: [", "line 1, column 11: expected YAML"),
    "nothing": (" \n", "the file is empty; expected fields"),
    "a misspelt field": (
        changed("traffic:", "traffik:"),
        "traffik: Extra inputs are not permitted; `warmtide sim scenarios --parts` has the fields (and 1 more)",
    ),
    "a list": ("- a\n", "the file: Input should be a valid dictionary"),
    "unknown field": (changed("says:", "sais:"), "sais: Extra inputs are not permitted"),
    "nothing to serve it": (changed("  profile: llama-3.1-8b-h100\n", ""), "machine.profile: Field required"),
    "profile": (changed("-h100", "-h1"), "machine.profile: no 'llama-3.1-8b-h1'; there are: llama-3.1-8b-h100, "),
    "bounds": (changed("min: 2", "min: 9"), "bounds need 1 ≤ min ≤ max, got 9 and 5"),
    "negative": (changed("1.5", "-1"), "objective.ttftSeconds: Input should be greater than 0, got '-1'"),
    "not a number": (changed("1.5", ".nan"), "objective.ttftSeconds: Input should be "),
    "model length": (changed("4096", "99999999"), "max_model_len_tokens is 99999999, but the KV cache holds"),
    "both": (changed("  trace", "  rates: x\n  trace"), "traffic needs either a trace (a file) or rates"),
    "neither": (changed("  trace: trace.csv\n", ""), "traffic needs either a trace (a file) or rates"),
    "figures": (changed("trace: trace.csv", "rates: x"), "traffic: no figures named 'x'; there are: azure_2023_code"),
    "no lengths": (
        changed("trace: trace.csv", "rates: worldcup98_opening_day"),
        "the figures 'worldcup98_opening_day' have no ",
    ),
    "waves": (changed("  rateRatio", "  waves: azure_2023_code\n  rateRatio"), "traffic.waves goes with rates"),
    "router": (
        changed("round-robin", "nearest"),
        "router: Input should be 'least-outstanding', 'round-robin' or 'prefix-aware'",
    ),
    "window": (changed("beginSeconds: 1", "beginSeconds: 9\n  endSeconds: 3"), "must be after beginSeconds, got 3"),
    "format": (changed("  rateRatio", "  format: csv\n  rateRatio"), "traffic.format: no 'csv'; there are: azure, "),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_line_and_exit_2(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")

    assert cli.main(["run", "--scenario", str(path)]) == 2

    err = capsys.readouterr().err
    assert err.startswith(f"warmtide sim: scenario {path}: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "chat-our"], "no scenario named 'chat-our'; there are: agents-hour, "),
        (["--scenario", "absent.yaml"], "scenario absent.yaml cannot be read: No such file"),
        (["--profile", "h100"], "no profile named 'h100'; there are: llama-3.1-8b-h100"),
        (["--profile", "absent.yaml"], "absent.yaml"),
        (["--trace", "absent.csv"], "absent.csv: cannot be read"),
    ],
    ids=["name", "file", "profile", "profile file", "trace"],
)
def test_what_is_not_there_is_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *arguments]) == 2

    assert said in capsys.readouterr().err


@given(text=st.text(max_size=200) | st.sampled_from(OWN.split("\n")).map(lambda line: OWN.replace(line, line[::-1])))
def test_any_text_is_a_scenario_or_a_scenario_error(text: str) -> None:
    try:
        parse_scenario(text, "any", Path())
    except ScenarioError as exc:
        said = str(exc)
        assert said


def test_a_course_too_long_for_memory_is_read_in_parts_with_the_same_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{number / 8},{9000 if number % 50 == 7 else 600},90\n" for number in range(4000)]
    (tmp_path / "trace.csv").write_text(TRACE.splitlines()[0] + "\n" + "".join(rows), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(OWN.replace("  rateRatio: 2\n", ""), encoding="utf-8")
    own = load_scenario(str(tmp_path / "own.yaml"))
    monkeypatch.setattr(source.blocks, "__kwdefaults__", {"block_bytes": 4096})  # many small chunks
    whole, refused = own.setting(1)
    monkeypatch.setattr(scenario, "IN_MEMORY_MAX", 700)
    parts, refused_in_parts = own.setting(1)

    assert len(parts.requests) < 1200 < len(whole.requests)
    assert refused == refused_in_parts == 79
    assert smallest_static(parts) == smallest_static(whole)
    assert simulate(parts, Static(2)) == simulate(whole, Static(2))
