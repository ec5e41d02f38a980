"""What `warmtide sim run` and `compare` leave behind, refuse, and say in numbers over several seeds."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from simulations import cli
from simulations.calibration import Coverage, MachineProfile, profile_text
from simulations.commands import study as study_command
from simulations.errors import INTERRUPTED
from simulations.outputs import REPORT
from simulations.replica import PROFILES, EngineConfig
from simulations.study import Engine, Figures, Trial
from simulations.study.trial import carry_out

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BUDGET_MISSED = 3


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.csv"
    rows = (f"2023-11-16 18:15:{number % 60:02d}.{number:06d},900,80\n" for number in range(60))
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return str(path)


def test_out_leaves_a_folder_once(trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    call = ["compare", "--trace", trace, "--policies", "warmtide,kpa", "--out", str(out)]

    assert cli.main(call) == 0
    assert f"written: {out / REPORT}" in capsys.readouterr().out
    assert {"warmtide", "kpa", REPORT} < {path.name for path in out.iterdir()}
    assert cli.main(call) == 2
    assert "is not empty; --force" in capsys.readouterr().err
    assert cli.main([*call, "--force"]) == 0


def test_the_folder_is_left_also_where_nobody_reads_the_table(trace: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    reading, writing = os.pipe()
    os.close(reading)  # as `… | head -1` does, and before the first line

    try:
        call = [sys.executable, "-m", "warmtide", "sim", "run", "--policy", "kpa", "--trace", trace]
        unheard = subprocess.run([*call, "--out", str(out)], stdout=writing, stderr=subprocess.PIPE, timeout=50)
        without = subprocess.run(call, stdout=writing, stderr=subprocess.PIPE, timeout=50)
    finally:
        os.close(writing)

    assert (unheard.returncode, unheard.stderr) == (0, b"")
    assert {"kpa", REPORT} < {path.name for path in out.iterdir()}
    assert (without.returncode, without.stderr) == (1, b"")  # nothing is left to do


@pytest.mark.parametrize(("p95_ms", "code"), [(1e9, 0), (1.0, BUDGET_MISSED)], ids=["kept", "missed"])
def test_a_budget_is_an_exit_code(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], p95_ms: float, code: int
) -> None:
    slo = tmp_path / "slo.json"
    slo.write_text(json.dumps({"p95_ms": p95_ms}))

    assert cli.main(["run", "--trace", trace, "--slo", str(slo)]) == code

    assert ("MISSED: p95_ms" in capsys.readouterr().out) == bool(code)


def test_a_measured_profile_is_not_asked_for_more_than_was_measured(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = MachineProfile(
        name="small",
        config=EngineConfig(max_model_len_tokens=8192, caches_prefixes=False),
        times=PROFILES["llama-3.1-8b-l40s"],
        coverage=Coverage(prompt_tokens=100, running_requests=200, kv_tokens=10**6),
    )
    file = tmp_path / "small.yaml"
    file.write_text(profile_text(profile), encoding="utf-8")
    call = ["run", "--trace", trace, "--policy", "kpa", "--profile", str(file)]

    assert cli.main(call) == 2
    assert "prompt tokens up to 900, measured up to 100" in capsys.readouterr().err
    assert cli.main([*call, "--extrapolate"]) == 0


def test_seeds_give_intervals_and_a_file(trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"

    code = cli.main(["compare", "--trace", trace, "--policies", "kpa", "--seeds", "2", "--curve", "--out", str(out)])

    assert code == 0
    table = capsys.readouterr().out
    assert "cost at 99%" in table
    lines = json.loads((out / "comparison.json").read_text())
    assert [line["policy"] for line in lines] == ["static", "kpa"]
    assert lines[1]["cost_ratio"]["seeds"] == 2
    assert len((out / "runs.jsonl").read_text().splitlines()) == 2 * 2 * 6


@pytest.mark.parametrize(("done", "policies"), [(0, []), (3, ["static", "kpa"])], ids=["before any", "on the way"])
def test_an_interrupt_leaves_the_runs_that_can_be_compared(
    trace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    done: int,
    policies: list[str],
) -> None:
    def interrupted(trials: Sequence[Trial], *, jobs: int, engine: Engine) -> Iterator[Figures]:
        yield from reversed([carry_out(trial) for trial in trials[:done]])  # of several processes any may be first
        raise KeyboardInterrupt

    monkeypatch.setattr(study_command, "carry_out_all", interrupted)
    out = tmp_path / "study"
    call = ["compare", "--trace", trace, "--policies", "kpa", "--seeds", "2", "--jobs", "2", "--out", str(out)]

    assert cli.main(call) == INTERRUPTED

    told = capsys.readouterr()
    assert told.err == f"warmtide sim: interrupted after {done} of 4 runs\n"
    assert [line.split()[1] for line in told.out.splitlines()[1:-1]] == policies
    assert out.exists() == bool(done)


def test_a_study_has_no_gate(trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slo = tmp_path / "slo.json"
    slo.write_text('{"p95_ms": 1}')

    assert cli.main(["compare", "--trace", trace, "--seeds", "2", "--slo", str(slo)]) == 2
    assert "--slo judges one run" in capsys.readouterr().err
