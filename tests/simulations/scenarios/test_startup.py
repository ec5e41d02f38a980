"""How a scenario file says that replicas start: by tier or by phases, and what a wrong one is told."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from simulations import cli
from simulations.errors import ScenarioError
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.scenarios.startup import PhasesPart, StartupPart
from simulations.world.starts.caches import Keeping, NodeCaches, OtherModel
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import Deviations, StartupTimes

FILE = """\
traffic: {rates: azure_2023_code, endSeconds: 60}
machine: {profile: llama-3.1-8b-h100}
replicas: {max: 2}
startup: """


def scenario(startup: str) -> Scenario:
    return parse_scenario(FILE + startup, "own.yaml", Path())


def test_phases_of_a_file_are_those_of_the_world_and_what_it_leaves_out_is_as_ever() -> None:
    found = scenario("{phases: {weightsBytes: 64e9, originBytesPerSecond: 5e8, compileCachedSeconds: 0}}").startup

    assert found == replace(Phases(), weights_bytes=64e9, origin_bytes_per_s=5e8, compile_cached_s=0.0)


def test_every_figure_of_a_phase_can_be_said() -> None:
    names = {*PhasesPart.model_fields, *StartupPart.model_fields} - {"phases", "cold_seconds", "warm_seconds"}
    said = {name.replace("_seconds", "_s").replace("_per_second", "_per_s") for name in names}

    assert said == {field.name for field in fields(Phases)}


def test_caches_of_a_file_are_those_of_the_world() -> None:
    others = "[{name: big, bytes: 6.5e10, usesPerHour: 0.5, useSeconds: 600}]"
    caches = f"{{keep: prefetch, prefetchNodes: 3, diskBytes: 1e11, memoryBytes: 64e9, others: {others}}}"

    assert scenario(f"{{phases: {{initSeconds: 9}}, caches: {caches}}}").startup == Phases(
        init_s=9.0,
        caches=NodeCaches(
            keep=Keeping.PREFETCH,
            prefetch_nodes=3,
            disk_bytes=10**11,
            memory_bytes=64 * 10**9,
            others=(OtherModel(name="big", size_bytes=65 * 10**9, uses_per_hour=0.5, use_s=600.0),),
        ),
    )
    assert scenario("{caches: {keep: none}}").startup == Phases(caches=NodeCaches(keep=Keeping.NONE))


def test_without_phases_it_is_times_by_tier() -> None:
    assert scenario("{warmSeconds: 20}").startup == StartupTimes(warm_s=20.0)


WRONG = {
    "both": ("{coldSeconds: 9, phases: {}}", "startup: coldSeconds and warmSeconds do not go with phases"),
    "no weights": ("{phases: {weightsBytes: 0}}", "startup.phases.weightsBytes: Input should be greater than 0"),
    "negative": ("{phases: {graphsSeconds: -1}}", "startup.phases.graphsSeconds: Input should be greater than"),
    "infinite": ("{phases: {initSeconds: .inf}}", "startup.phases.initSeconds: Input should be a finite number"),
    "unknown": ("{phases: {linkSeconds: 1}}", "startup.phases.linkSeconds: Extra inputs are not permitted"),
    "both with caches": ("{warmSeconds: 9, caches: {}}", "startup: coldSeconds and warmSeconds do not go with"),
    "kept how": ("{caches: {keep: some}}", "startup.caches.keep: Input should be 'none', 'on-demand', 'prefetch' or "),
    "no nodes": ("{caches: {prefetchNodes: 2}}", "prefetch_nodes goes with keep=prefetch and is ≥ 1, got 2 with "),
    "no disk": ("{caches: {diskBytes: -1}}", "startup.caches.diskBytes: Input should be greater than or equal to 0"),
    "no use": (
        "{caches: {others: [{name: a, bytes: 1e9, usesPerHour: 1, useSeconds: 0}]}}",
        "startup.caches.others.0.useSeconds: Input should be greater than 0, got '0'",
    ),
    "one name": (
        "{caches: {others: [&a {name: a, bytes: 1, usesPerHour: 1, useSeconds: 1}, *a]}}",
        "NodeCaches.others need names of their own, got a and one twice",
    ),
    "nodes to come": (
        "{phases: {provisionSeconds: 60}, caches: {keep: all-nodes}}",
        "Phases.provision_s must be 0 with caches that keep all-nodes: ",
    ),
    "no phases": ("{phases: [1]}", "startup.phases: Input should be a valid dictionary"),
}


@pytest.mark.parametrize(("startup", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_start_up_is_told_by_field_and_value(startup: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=r"^scenario own\.yaml: ") as caught:
        scenario(startup)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("startup", "arguments", "said"),
    [
        ("{phases: {}}", ["--cold-seconds", "9"], "--cold-seconds and --warm-seconds: these replicas start by phases"),
        ("{}", ["--caches", "none"], "--caches none: only replicas that start by phases have caches"),
    ],
    ids=["times of phases", "caches of times"],
)
def test_an_option_that_does_not_go_with_the_scenario_is_refused(
    startup: str, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(FILE + startup, encoding="utf-8")

    assert cli.main(["run", "--scenario", str(path), *arguments]) == 2

    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0.5", 0.5),
        ("{warm: 0.1}", Deviations(warm=0.1)),
        ("{cold: 0, warm: 0, hot: 0}", Deviations(cold=0, warm=0, hot=0)),
    ],
    ids=["one", "one of three", "three"],
)
def test_deviations_and_sleep_can_be_said_of_tiers_and_of_phases(said: str, expected: Deviations | float) -> None:
    more = f"sleepSeconds: 900, hotSeconds: 2, logDeviation: {said}"

    plain, phased = scenario(f"{{{more}}}").startup, scenario(f"{{{more}, phases: {{initSeconds: 1}}}}").startup

    assert plain == StartupTimes(sleep_s=900.0, hot_s=2.0, log_deviation=expected)
    assert phased == Phases(sleep_s=900.0, hot_s=2.0, log_deviation=expected, init_s=1.0)
