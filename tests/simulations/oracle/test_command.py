"""`warmtide sim oracle` as one types it."""

from pathlib import Path

import pytest

from simulations.cli import main


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Ten minutes: calm, a busy stretch of two minutes, calm."""
    rows = []
    for second in range(600):
        for part in range(12 if 200 <= second < 320 else 2):
            stamp = f"2023-11-16 18:{second // 60:02d}:{second % 60:02d}.{part:02d}00000"
            rows.append(f"{stamp},900,150\n")
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows), encoding="utf-8")
    return file


def test_it_prints_a_row_per_lead_time_and_the_fixed_fleet(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["oracle", "--trace", str(trace), "--replicas-max", "4", "--lead-seconds", "60,0"])

    told = capsys.readouterr().out
    assert code == 0
    rows = [line.split() for line in told.splitlines() if line.startswith(("0 s", "60 s"))]
    instant, slow = (float(row[2]) for row in rows)
    assert instant < slow  # at least
    assert all(float(row[2]) <= float(row[3]) for row in rows)  # the plan
    assert all(float(row[3]) <= float(row[5]) for row in rows)  # in the world
    assert "a fixed fleet of " in told


def test_it_says_what_lead_times_leave_out_where_starts_share_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "lines.yaml"
    scenario.write_text(
        "traffic: {rates: azure_2023_code, endSeconds: 300}\nmachine: {profile: llama-3.1-8b-h100}\n"
        "replicas: {max: 4}\nstartup: {phases: {weightsBytes: 16e9}}\n"
    )

    code = main(["oracle", "--scenario", str(scenario), "--lead-seconds", "60"])

    assert code == 0
    assert "of starts at once that share a line it takes more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lead-seconds", "soon"], "--lead-seconds soon: numbers separated by commas are expected"),
        (["--lead-seconds", "-1"], "--lead-seconds -1: at most 20 numbers ≥ 0 are expected"),
        (["--attainment", "1.5"], "attainment must be in (0, 1]"),
        (["--replicas-max", "1", "--attainment", "0.999"], "are late with the most replicas (1)"),
    ],
)
def test_it_refuses_in_one_line(
    trace: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code = main(["oracle", "--trace", str(trace), *options])

    told = capsys.readouterr().err.splitlines()
    assert code == 2
    assert message in told[-1]


def test_where_requests_wait_for_others_it_says_that_it_knows_no_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "closed.yaml"
    scenario.write_text(
        "traffic: {rates: azure_2023_code, endSeconds: 60}\nclients: {count: 3, thinkSeconds: 5}\n"
        "machine: {profile: llama-3.1-8b-h100}\nreplicas: {max: 2}\n"
    )

    codes = (
        main(["oracle", "--scenario", str(scenario)]),
        main(["compare", "--scenario", str(scenario), "--policies", "warmtide-foresight"]),
    )

    told = capsys.readouterr().err.splitlines()
    assert codes == (2, 2)
    assert told[-2].startswith("warmtide sim: no bound is known where requests come")
    assert told[-1].startswith("warmtide sim: warmtide-foresight must know all traffic before")


POOLS = """\
traffic: {rates: azure_2023_conversation, rateRatio: 4, endSeconds: 300}
machine: {profile: llama-3.1-8b-l40s, maxModelLenTokens: 16384, numGpuBlocks: 12000}
replicas: {max: 8}
pools: {PREFILL, kvBytesPerToken: 131072, bytesPerSecond: 25e9}
"""
SERVICES = """\
nodes: [{name: own, count: NODES}]
services:
  - name: chat
    traffic: {rates: azure_2023_conversation, rateRatio: 3, endSeconds: 300}
    machine: &machine {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 16384}
    replicas: {max: 6}
  - name: code
    traffic: {rates: azure_2023_code, endSeconds: 300}
    machine: *machine
    replicas: {max: 6}
    objective: {ttftSeconds: 4}
"""


def hours(told: str, lead: str) -> dict[str, list[str]]:
    """Of each row of a lead time the cells after the name."""
    rows = [line.removeprefix(lead).split() for line in told.splitlines() if line.startswith(lead)]
    return {row[0]: row[1:] for row in rows}


def bounds_of(text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, *options: str) -> str:
    """What the command says of a scenario."""
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(text, encoding="utf-8")
    code = main(["oracle", "--scenario", str(scenario), *options])
    assert code == 0
    return capsys.readouterr().out


def test_of_two_pools_each_has_a_bound_and_both_plans_keep_the_objective_in_the_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pools = POOLS.replace("PREFILL", "prefill: {max: 6}")

    told = bounds_of(pools, capsys, tmp_path, "--lead-seconds", "60,0")

    for lead in ("0 s", "60 s"):
        rows = hours(told, lead)
        assert list(rows) == ["prefill", "decode", "all"]
        lower = [float(row[0]) for row in rows.values()]
        assert lower[2] == pytest.approx(lower[0] + lower[1], abs=0.011)
        assert lower[2] <= float(rows["all"][1]) <= float(rows["all"][3])  # the plan, in the world
    assert float(hours(told, "0 s")["all"][0]) < float(hours(told, "60 s")["all"][0])
    assert "a fixed fleet of 3+4 costs" in told


def test_beside_a_pool_that_nobody_scales_the_bound_is_of_the_other_and_of_what_both_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pools = POOLS.replace("PREFILL", "prefill: {replicas: 4}")

    told = bounds_of(pools, capsys, tmp_path, "--lead-seconds", "60")

    (row,) = [line.split() for line in told.splitlines() if line.startswith("60 s")]
    assert 4 * 300 / 3600 < float(row[2]) <= float(row[3]) <= float(row[5])


@pytest.mark.parametrize(("nodes", "is_kept"), [(12, True), (4, False)], ids=["room for both", "too few nodes"])
def test_of_several_services_each_has_a_bound_and_their_plans_meet_on_the_nodes(
    nodes: int, is_kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = SERVICES.replace("NODES", str(nodes))

    told = bounds_of(services, capsys, tmp_path, "--lead-seconds", "30", "--attainment", "0.95")

    rows = hours(told, "30 s")
    assert list(rows) == ["chat", "code", "all"]
    assert float(rows["all"][0]) == pytest.approx(float(rows["chat"][0]) + float(rows["code"][0]), abs=0.011)
    assert (rows["all"][3] != "-") == is_kept
    assert ("keep the objective on the nodes that there are" in told) != is_kept
