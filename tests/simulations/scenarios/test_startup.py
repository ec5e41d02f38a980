"""How a scenario file says that replicas start: by tier or by phases, and what a wrong one is told."""

from dataclasses import asdict, fields
from pathlib import Path

import pytest

from simulations import cli
from simulations.errors import ScenarioError
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.scenarios.startup import PhasesPart
from simulations.world.phases import Phases
from simulations.world.startup import StartupTimes

FILE = """\
traffic: {rates: azure_2023_code, endSeconds: 60}
machine: {profile: llama-3.1-8b-h100}
replicas: {max: 2}
startup: """


def scenario(startup: str) -> Scenario:
    return parse_scenario(FILE + startup, "own.yaml", Path())


def test_phases_of_a_file_are_those_of_the_world_and_what_it_leaves_out_is_as_ever() -> None:
    found = scenario("{phases: {weightsBytes: 64e9, originBytesPerSecond: 5e8, compileCachedSeconds: 0}}").startup

    changed = {"weights_bytes": 64e9, "origin_bytes_per_s": 5e8, "compile_cached_s": 0.0}
    assert found == Phases(**(asdict(Phases()) | changed))


def test_every_figure_of_a_phase_can_be_said() -> None:
    said = {name.replace("_seconds", "_s").replace("_per_second", "_per_s") for name in PhasesPart.model_fields}

    assert said == {field.name for field in fields(Phases)}


def test_without_phases_it_is_times_by_tier() -> None:
    assert scenario("{warmSeconds: 20}").startup == StartupTimes(warm_s=20.0)


WRONG = {
    "both": ("{coldSeconds: 9, phases: {}}", "startup: Value error, coldSeconds and warmSeconds do not go with phases"),
    "no weights": ("{phases: {weightsBytes: 0}}", "startup.phases.weightsBytes: Input should be greater than 0"),
    "negative": ("{phases: {graphsSeconds: -1}}", "startup.phases.graphsSeconds: Input should be greater than"),
    "infinite": ("{phases: {initSeconds: .inf}}", "startup.phases.initSeconds: Input should be a finite number"),
    "unknown": ("{phases: {linkSeconds: 1}}", "startup.phases.linkSeconds: Extra inputs are not permitted"),
    "no phases": ("{phases: [1]}", "startup.phases: Input should be a valid dictionary"),
}


@pytest.mark.parametrize(("startup", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_start_up_is_told_by_field_and_value(startup: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=r"^scenario own\.yaml: ") as caught:
        scenario(startup)

    assert said in str(caught.value)


def test_times_by_tier_are_not_asked_of_replicas_that_start_by_phases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(FILE + "{phases: {}}", encoding="utf-8")

    assert cli.main(["run", "--scenario", str(path), "--cold-seconds", "9"]) == 2

    assert "--cold-seconds and --warm-seconds: this scenario's replicas start by phases" in capsys.readouterr().err
