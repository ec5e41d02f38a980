"""What the README shows is what the program takes."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from autoscaler.parse import parse_policy, parse_scaled_service
from metrics.names import markdown_table
from warmtide import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
EXAMPLES = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
COMMANDS = [line for kind, text in BLOCKS if kind == "" for line in text.splitlines() if line.strip()]


def test_its_objects_are_taken_as_they_stand() -> None:
    parsers = {"ScalingPolicy": parse_policy, "ScaledService": parse_scaled_service}
    taken = [
        example["kind"] for example in EXAMPLES if example["kind"] in parsers and parsers[example["kind"]](example)
    ]

    assert taken == ["ScalingPolicy", "ScaledService", "ScalingPolicy"]


def test_its_table_of_metrics_is_the_catalog() -> None:
    table = README.split("<!-- catalog -->\n")[1].split("<!-- /catalog -->")[0]

    assert table.strip() == markdown_table().strip(), "run: python -m metrics.catalog and paste it between the marks"


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("warmtide ")])
def test_its_commands_exist(command: str) -> None:
    shown = CliRunner().invoke(app(), ["--help"]).output

    assert shlex.split(command)[1] in shown


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_its_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert re.search(rf"^{shlex.split(command)[1]}:", makefile, flags=re.M)


def test_every_benchmark_it_names_is_there() -> None:
    names = re.findall(r"make bench NAME=([\w-]+)", README)

    assert names
    assert [name for name in names if not (ROOT / f"tests/benchmarks/bench_{name.replace('-', '_')}.py").exists()] == []


def test_every_path_it_names_is_there() -> None:
    paths = re.findall(r"`(manifests/[\w/.-]*)`", README)

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "manifests/RUNBOOK.md"])
def test_every_link_leads_to_a_file_and_a_heading(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")

    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        there = ((ROOT / file).parent / target) if target else ROOT / file
        assert there.exists(), target
        headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), flags=re.M)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}
