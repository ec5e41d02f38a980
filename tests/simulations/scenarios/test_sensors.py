"""What a scenario file may say of sensors, what a wrong one is told, and that policies see it."""

from pathlib import Path

import pytest
import yaml

from simulations import cli
from simulations.errors import ScenarioError
from simulations.imports.choose import chosen
from simulations.scenarios import sensors
from simulations.scenarios.config import parse_scenario
from simulations.scenarios.scenario import Scenario
from simulations.world import simulate
from simulations.world.sensing.faults import FaultKind, SensorFault
from simulations.world.sensing.prometheus import Monitoring

FILE = """\
traffic: {rates: azure_2023_conversation, rateRatio: 2, endSeconds: 900}
machine: {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 32768}
replicas: {min: 2, max: 6}
"""


def parsed(more: str) -> Scenario:
    return parse_scenario(FILE + more, "own.yaml", Path())


def example() -> str:
    """Of the module's own words."""
    text = (sensors.__doc__ or "").split("\n\n", 1)[1]
    assert text.startswith("sensors:\n")
    return text


def test_the_example_of_the_module_is_read_as_it_says() -> None:
    found = parse_scenario(FILE.replace("endSeconds: 900", "endSeconds: 3000") + example(), "own.yaml", Path())

    assert found.monitoring == Monitoring(scrape_s=30.0, rule_s=60.0)
    assert found.faults == (
        SensorFault(kind=FaultKind.MISSING, begin_s=1200.0, end_s=1500.0),
        SensorFault(kind=FaultKind.STUCK, begin_s=1800.0, end_s=1900.0),
        SensorFault(kind=FaultKind.LATE, begin_s=2000.0, end_s=2100.0, amount=40.0),
        SensorFault(kind=FaultKind.SCALED, begin_s=2400.0, end_s=2500.0, amount=3.0),
    )
    setting, _ = found.setting(1)
    assert (setting.monitoring, setting.faults) == (found.monitoring, found.faults)


def one(**fault: object) -> str:
    return yaml.safe_dump({"sensors": {"faults": [fault]}})


WRONG = {
    "kind": (
        one(kind="lost", beginSeconds=1, endSeconds=2),
        "sensors.faults.0.kind: Input should be 'missing', 'stuck'",
    ),
    "no end": (one(kind="stuck", beginSeconds=1), "sensors.faults.0.endSeconds: Field required"),
    "backwards": (one(kind="stuck", beginSeconds=5, endSeconds=2), "endSeconds must be after beginSeconds, got 2"),
    "no amount": (one(kind="late", beginSeconds=1, endSeconds=2), "a fault of the kind late needs an amount"),
    "amount": (
        one(kind="missing", beginSeconds=1, endSeconds=2, amount=1),
        "a fault of the kind missing has no amount",
    ),
    "negative": (
        one(kind="scaled", beginSeconds=1, endSeconds=2, amount=-1),
        "sensors.faults.0.amount: Input should be",
    ),
    "never": ("sensors: {scrapeSeconds: 0}\n", "sensors.scrapeSeconds: Input should be greater than 0, got '0'"),
    "too often": ("sensors: {scrapeSeconds: 0.5}\n", "sensors.scrapeSeconds must be between 1 and 150, got 0.5"),
    "too rarely": ("sensors: {ruleSeconds: 600}\n", "sensors.ruleSeconds must be between 1 and 150, got 600"),
    "a name": ("sensors: {scrapeSecond: 9}\n", "sensors.scrapeSecond: Extra inputs are not permitted"),
}


@pytest.mark.parametrize(("more", "said"), WRONG.values(), ids=WRONG)
def test_wrong_sensors_are_refused_by_field_and_value(more: str, said: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        parsed(more)

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_fault_after_the_last_request_is_refused_as_it_would_never_be_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(FILE + one(kind="stuck", beginSeconds=5000, endSeconds=6000), encoding="utf-8")

    assert cli.main(["run", "--scenario", str(file), "--policy", "kpa"]) == 2

    said = capsys.readouterr().err
    assert "sensors.faults: a fault begins at 5000 s, and the last request comes at 899" in said
    assert said.count("\n") == 1


def test_a_slower_prometheus_is_a_slower_hpa_and_the_same_warmtide() -> None:
    outcomes = {}
    for seconds in (15, 60):
        shared = parsed(f"sensors: {{scrapeSeconds: {seconds}}}\n").setting(1)[0]
        for name in ("warmtide", "hpa-queue"):
            outcomes[name, seconds] = simulate(shared, chosen(name, shared))

    assert outcomes["warmtide", 15] == outcomes["warmtide", 60]
    assert outcomes["hpa-queue", 15] != outcomes["hpa-queue", 60]


def test_faults_of_a_file_reach_every_policy_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for name, more in (("sound", ""), ("wrong", one(kind="scaled", beginSeconds=0, endSeconds=800, amount=20))):
        file = tmp_path / f"{name}.yaml"
        file.write_text(FILE + more, encoding="utf-8")
        assert cli.main(["run", "--scenario", str(file), "--policy", "hpa-queue"]) == 0
        said[name] = capsys.readouterr().out

    assert said["sound"] != said["wrong"]
