"""Nodes and several services in a scenario file: what they may say, what a wrong one is told, and the table."""

import json
from pathlib import Path

import pytest
import yaml

from simulations import cli
from simulations.commands.scenarios import part_texts
from simulations.errors import ScenarioError
from simulations.scenarios import TOGETHER, Scenario, Together, load_any, load_scenario, shipped_text
from simulations.scenarios.config import parse_scenario

TRACE = "arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(f"{n / 2},300,40\n" for n in range(400))
NODES = """\
nodes:
  - {name: own, gpuClass: NVIDIA-A10, gpus: 2, count: 1, lossesPerHour: 0.5, losses: [{node: 0, atSeconds: 50}]}
  - name: spot
    gpus: 2
    max: 3
    provisionSeconds: 20
    pricePerGpuHour: 0.4
    spot: {reclaimsPerHour: 2}
budgetGpus: 5
"""
SERVICE = """\
traffic: {trace: trace.csv}
machine: {profile: llama-3.1-8b-l40s, gpus: 2, maxModelLenTokens: 4096}
replicas: {max: 4}
"""
ONE = NODES + SERVICE
TWO = (
    NODES
    + "services:\n"
    + "".join(f"  - name: {name}\n" + "".join(f"    {line}\n" for line in SERVICE.splitlines()) for name in ("a", "b"))
)
LAST = "    replicas: {max: 4}\n"  # of a service
TWO_DISKS = "".join(
    f"{part}{LAST}    startup: {{caches: {{diskBytes: {number}}}}}\n"
    for number, part in enumerate(TWO.split(LAST)[:2], start=1)
)


def test_a_file_says_which_nodes_there_are(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")

    setting, _ = load_scenario(str(tmp_path / "one.yaml")).setting(1)

    own, spot = setting.nodes
    assert (own.gpus, own.low, own.high, own.losses_per_hour, own.losses_at_s) == (2, 1, 1, 0.5, ((0, 50.0),))
    assert own.price_per_gpu_hour == 1.10  # of an A10, as kserve-vllm-mini has it
    assert (spot.low, spot.high, spot.provision_s, spot.price_per_gpu_hour) == (0, 3, 20.0, 0.4)
    assert (spot.reclaims_per_hour, spot.notice_s) == (2.0, 120.0)
    assert (setting.gpus_per_replica, setting.budget_gpus) == (2, 5)


WRONG = {
    "no number": (ONE.replace("count: 1, ", ""), "nodes own: either a count is expected, or a max and perhaps a min"),
    "both": (ONE.replace("max: 3", "max: 3\n    count: 2"), "nodes spot: either a count is expected"),
    "bounds": (ONE.replace("max: 3", "max: 3\n    min: 4"), "nodes spot: 0 ≤ min ≤ max"),
    "negative": (
        ONE.replace("reclaimsPerHour: 2", "reclaimsPerHour: -2"),
        "nodes.1.spot.reclaimsPerHour: Input should",
    ),
    "twice": (ONE.replace("name: spot", "name: own"), "nodes: 2 groups are called 'own'"),
    "no node": (ONE.replace("node: 0", "node: 1"), "nodes own: there is no node 1 to be lost at 50.0 s"),
    "too large": (
        ONE.replace("gpus: 2, max", "gpus: 3, max"),
        "a replica of 3 GPUs does not fit a node, got at most 2",
    ),
    "class": (ONE.replace("gpus: 2, max", "gpus: 2, gpuClass: H100, max"), "does not fit a node of class H100"),
    "one name": (TWO.replace("name: b\n", "name: a\n"), "services: a name of its own is expected for each, got a, a"),
    "alone": (TWO[: TWO.index("  - name: b\n")], "services: List should have at least 2 items"),
    "no nodes": (TWO.replace(NODES, ""), "nodes: Field required"),
    "no folder": (TWO.replace("name: b\n", "name: ../b\n"), "services.1.name: String should match pattern"),
    "two disks": (TWO_DISKS, "services that share nodes need the same caches.diskBytes, got 1 and 2"),
    "nameless": (TWO.replace("  - name: a\n    traffic", "  - traffic"), "services.0.name: Field required"),
    "mixed": (TWO + "router: round-robin\n", "router: Extra inputs are not permitted"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_wrong_nodes_and_services_are_told_so(text: str, said: str, tmp_path: Path) -> None:
    assert text not in (ONE, TWO)

    with pytest.raises(ScenarioError, match=r"^scenario any: ") as caught:
        parse_scenario(text, "any", tmp_path)

    assert said in str(caught.value)


def test_on_nodes_a_row_says_what_was_lost_and_what_they_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")

    assert cli.main(["compare", "--scenario", str(tmp_path / "one.yaml"), "--policies", "kpa"]) == 0

    head, _, static, kpa = capsys.readouterr().out.splitlines()[1:5]
    assert head.split()[-4:] == ["lost", "waited", "nodes", "cost"]
    lost, _, _, cost = static.split()[-4:]
    assert int(lost) > 0
    assert 0.1 < float(cost.removeprefix("$")) < 0.3  # two A10 for 200 s, and two of spot for most of them
    assert kpa.split()[-1].startswith("$")


def test_several_services_are_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    (tmp_path / "two.yaml").write_text(TWO, encoding="utf-8")

    assert cli.main(["compare", "--scenario", str(tmp_path / "two.yaml"), "--policies", "warmtide,hpa-queue"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a: 400 requests, TTFT ≤ 2 s"
    assert lines[2] == "0.1 h on nodes: 1 own of 2 GPUs, 0 to 3 spot of 2 GPUs, a quota of 5 GPUs"
    rows = [line.split() for line in lines[5:]]
    assert [row[0] for row in rows] == ["static-1+1", "b", "all", "nodes", "nodes"] + [
        word for policy in ("warmtide", "hpa-queue") for word in (policy, "b", "all", "nodes", "nodes")
    ]
    assert "1 lost" in lines[8]


def test_a_run_of_several_services_tells_the_changes_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    (tmp_path / "two.yaml").write_text(TWO, encoding="utf-8")

    assert cli.main(["run", "--scenario", str(tmp_path / "two.yaml"), "--policy", "keda-epp-queue"]) == 0

    out = capsys.readouterr().out.splitlines()
    assert "a 0 s: 1 replicas" in out
    assert "b 0 s: 1 replicas" in out


@pytest.fixture
def two(tmp_path: Path) -> str:
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    (tmp_path / "two.yaml").write_text(TWO, encoding="utf-8")
    return str(tmp_path / "two.yaml")


def test_a_comparison_of_several_services_leaves_a_folder_for_each_and_one_page(
    two: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "slo.json").write_text('{"ttft_attainment_min": 0.999, "error_rate": 1}', encoding="utf-8")
    budgets = ["--slo", str(tmp_path / "slo.json")]
    call = ["compare", "--scenario", two, "--policies", "warmtide,kpa", "--out", str(out), *budgets]

    assert cli.main(call) == 3  # a node is lost with what is on it

    said = capsys.readouterr().out.splitlines()
    assert said[-5] == f"written: {out / 'report.html'}"
    late = "share of first tokens too late"
    assert [line.split(": ")[:3] for line in said[-4:]] == [
        [verdict, service, name]
        for service in ("a", "b")
        for verdict, name in (("kept", "error_rate"), ("MISSED", late))
    ]
    for policy in ("static-1+1", "warmtide", "kpa"):
        for service in ("a", "b"):
            folder = out / policy / service
            assert len((folder / "requests.csv").read_text(encoding="utf-8").splitlines()) == 1 + 400
            assert json.loads((folder / "meta.json").read_text())["pattern"] == service
            assert json.loads((folder / "results.json").read_text())["autoscaler"]["policy"] == policy
    page = (out / "report.html").read_text(encoding="utf-8")
    assert [page.count(f'<section id="service-{number}"') for number in (1, 2, 3)] == [1, 1, 0]
    assert "3 policies on the same nodes" in page


def test_several_services_are_compared_over_seeds_one_by_one_and_together(
    two: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    call = ["compare", "--scenario", two, "--policies", "kpa", "--seeds", "2", "--curve", "--out", str(out)]

    assert cli.main(call) == 0

    head, *lines = capsys.readouterr().out.splitlines()[:-1]
    assert head.split()[:3] == ["scenario", "service", "policy"]
    assert head.endswith("starts  lost  waited  nodes cost  cost at 99%")
    assert [line.split()[1:3] for line in lines] == [
        [service, policy] for policy in ("static", "kpa") for service in ("a", "b", "all")
    ]
    compared = json.loads((out / "comparison.json").read_text())
    of_kpa = {line["service"]: line for line in compared if line["policy"] == "kpa"}
    apart = sum(of_kpa[name]["gpu_hours"]["mean"] for name in ("a", "b"))
    assert of_kpa[""]["gpu_hours"]["mean"] == pytest.approx(apart)
    assert of_kpa["a"]["lost_requests"]["seeds"] == 2
    assert len((out / "runs.jsonl").read_text().splitlines()) == 2 * 2 * 6 * 3


def test_what_is_of_one_service_is_refused_for_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--scenario", "two-services", "--seeds", "3", "--caches", "none"]) == 2
    assert cli.main(["run", "--scenario", "two-services", "--ttft", "3"]) == 2
    assert cli.main(["oracle", "--scenario", "two-services", "--replicas-max", "9"]) == 2
    assert cli.main(["tune", "--scenario", "two-services", "--profile", "llama-3.1-8b-h100"]) == 2
    assert cli.main(["replay", "--scenario", "two-services"]) == 2

    said = capsys.readouterr().err.splitlines()
    assert said == [
        "warmtide sim: --caches: for one service; two-services has 2, say it in its file",
        "warmtide sim: --ttft: for one service; two-services has 2, say it in its file",
        "warmtide sim: --replicas-max: for one service; two-services has 2, say it in its file",
        "warmtide sim: --profile: for one service; two-services has 2, say it in its file",
        "warmtide sim: scenario two-services is of several services: run, compare, tune and oracle take it; "
        "here a file of one of them is expected",
    ]


def test_scenarios_of_several_services_ship_and_their_files_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for name in TOGETHER:
        assert isinstance(load_any(name), Together)
        assert cli.main(["scenarios", name]) == 0

    assert "spot: {reclaimsPerHour: 0.2" in capsys.readouterr().out


@pytest.mark.parametrize("text", part_texts(), ids=lambda text: text.splitlines()[0])
def test_what_is_told_of_the_parts_of_a_file_is_what_a_file_may_say(text: str) -> None:
    whole = yaml.safe_load(shipped_text("chat-hour"))
    said = yaml.safe_load(text.split("\n\n")[1])

    for name, value in said.items():
        with_part = whole | {name: whole["machine"] | value if name == "machine" else value}
        assert isinstance(parse_scenario(yaml.safe_dump(with_part), "any", Path()), Scenario)


def test_the_parts_of_a_file_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scenarios", "--parts"]) == 0

    out = capsys.readouterr().out
    assert all(f"\n{part}:" in out for part in ("clients", "pools", "startup", "nodes", "machine", "sensors"))
