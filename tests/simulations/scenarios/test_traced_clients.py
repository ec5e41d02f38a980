"""Conversations and adapters of a trace, as a scenario has them: who comes when, and with what."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations import cli
from simulations.compiled.layout import NOBODY
from simulations.errors import ScenarioError
from simulations.policies.static import Static
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.world import Setting, simulate

HEADER = "Timestamp,Session ID,Elapsed time,Request tokens,Response tokens,adapter\n"
ROWS = "0,a,4,100,50,x\n1,b,,100,50,\n3,,1,100,50,y\n10,a,2,150,50,x\n15,a,9,200,50,x\n31,b,,150,50,\n"
ROWS += "40,c,9,10,9,\n45,c,1,20,9,\n"
SCENARIO = """\
traffic: {trace: trace.csv}
machine: {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 32768}
replicas: {max: 8}
"""
FROM_TRACE: Mapping[str, str] = {
    "clients": "clients: fromTrace\n",
    "adapters": "adapters: {fromTrace: true, loadSeconds: 0.5, maxLoras: 2}\n",
}


def scenario_of(folder: Path, *parts: str, rows: str = ROWS, header: str = HEADER) -> Scenario:
    (folder / "trace.csv").write_text(header + rows, encoding="utf-8")
    found = parse_scenario(SCENARIO + "".join(parts), "test", folder)
    assert isinstance(found, Scenario)
    return found


def setting_of(folder: Path, *parts: str) -> Setting:
    return scenario_of(folder, *parts).setting(1)[0]


def test_who_asked_again_asks_again_after_as_long_a_thought(tmp_path: Path) -> None:
    setting = setting_of(tmp_path, FROM_TRACE["clients"])

    outcome = simulate(replace(setting, replicas_at_start=2), Static(2))

    assert setting.follows is not None
    assert setting.follows["next_request"].tolist() == [3, 5, NOBODY, 4, NOBODY, NOBODY, 7, NOBODY]
    # a: 10 s after its first one, of which its answer took 4; then 5 s after one that took 2. b: nobody noted it.
    # c: asked again before it was answered.
    np.testing.assert_allclose(setting.follows["think_s"][[0, 3, 1, 6]], [6.0, 3.0, 30.0, 0.0])
    come, gone = outcome.requests["arrived_at_s"], outcome.requests["finished_at_s"]
    assert {0.0, 1.0, 3.0, 40.0} <= set(come.tolist())  # the first of each, and who has no conversation
    for thought_s in (6.0, 3.0, 30.0, 0.0):
        assert np.isclose(come[:, None], gone[None, :] + thought_s).any()


def test_who_is_answered_as_in_the_trace_comes_as_in_the_trace(tmp_path: Path) -> None:
    def come(*parts: str, rows: str = ROWS) -> list[float]:
        setting = scenario_of(tmp_path, *parts, rows=rows).setting(1)[0]
        outcome = simulate(replace(setting, replicas_at_start=2), Static(2))
        come_s: list[float] = outcome.requests["arrived_at_s"].tolist()
        took_s = outcome.requests["finished_at_s"] - outcome.requests["arrived_at_s"]
        took.update(zip(come_s, took_s.tolist(), strict=True))
        return come_s

    took: dict[float, float] = {}
    open_loop = come()
    columns = [row.split(",") for row in ROWS.split()]
    noted = "".join(",".join([row[0], row[1], f"{took[float(row[0])]:.9f}", *row[3:]]) + "\n" for row in columns)

    np.testing.assert_allclose(come(FROM_TRACE["clients"], rows=noted), open_loop, atol=1e-6)


def test_each_request_has_the_adapter_that_the_trace_names(tmp_path: Path) -> None:
    setting = setting_of(tmp_path, *FROM_TRACE.values())

    assert setting.follows is not None
    assert setting.adapters is not None
    assert setting.adapters.count == 2
    x, nobody, y = setting.follows["adapter"][:3].tolist()
    assert nobody == 0
    assert {x, y} == {1, 2}
    assert setting.follows["adapter"].tolist() == [x, 0, y, x, x, 0, 0, 0]


def test_adapters_that_are_drawn_keep_to_the_conversations_of_the_trace(tmp_path: Path) -> None:
    rows = "".join(f"{number},{number % 40},1,100,50,x\n" for number in range(400))
    drawn = "adapters: {count: 9, loadSeconds: 0.5}\n"

    follows = scenario_of(tmp_path, FROM_TRACE["clients"], drawn, rows=rows).setting(1)[0].follows

    assert follows is not None
    by_session = follows["adapter"].reshape(10, 40)
    assert (by_session == by_session[0]).all()
    assert len(np.unique(by_session[0])) > 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["clients: fromtrace\n"], "clients.fromtrace: Extra inputs are not permitted"),
        (["clients: {fromTrace: true, thinkSeconds: 3}\n"], "clients: fromTrace says all"),
        (["adapters: {count: 3, fromTrace: true, loadSeconds: 1}\n"], "adapters needs either a count, or fromTrace"),
        (["adapters: {loadSeconds: 1}\n"], "adapters needs either a count, or fromTrace"),
    ],
    ids=["word", "both", "both counts", "neither"],
)
def test_what_a_file_cannot_say_is_said_by_name(parts: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario_of(tmp_path, *parts)


@pytest.mark.parametrize(
    ("parts", "header", "message"),
    [
        ([FROM_TRACE["clients"]], HEADER.replace("Session ID", "who"), "clients: fromTrace needs a trace that says"),
        ([FROM_TRACE["adapters"]], HEADER.replace("adapter", "lora"), "adapters.fromTrace needs a trace whose"),
        (["clients: {count: 3, thinkSeconds: 1}\n", FROM_TRACE["adapters"]], HEADER, "clients.count draws others"),
    ],
    ids=["no sessions", "no adapters", "other requests"],
)
def test_a_trace_that_does_not_say_it_is_refused(parts: list[str], header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        scenario_of(tmp_path, *parts, header=header).setting(1)


def test_a_comparison_runs_from_such_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario_of(tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text(SCENARIO + "".join(FROM_TRACE.values()), encoding="utf-8")

    assert cli.main(["compare", "--scenario", str(path), "--policies", "hpa-queue"]) == 0

    out = capsys.readouterr().out
    assert "up to 8 requests" in out  # who comes again comes when he was answered
    assert out.count("\n") == 5
