"""`warmtide sim` as a user calls it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from simulations import cli
from simulations.commands import compare as compare_command
from simulations.compare import Row, Telling, compare
from simulations.errors import INTERRUPTED
from simulations.world import Setting

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    rows = [
        f"2023-11-16 18:{15 + number // 120:02d}:{number // 2 % 60:02d}.{5 * (number % 2)},{400 + number % 90},80\n"
        for number in range(1200)
    ]
    path.write_text(HEADER + "".join(rows) + "2023-11-16 18:26:00.0000000,0,5\n", encoding="utf-8")
    return path


def test_compare_prints_a_row_per_policy_beside_the_static_fleet(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["compare", "--trace", str(trace), "--policies", "warmtide,kpa"])

    out, err = capsys.readouterr()
    assert code == 0
    assert "static-1" in out
    assert "warmtide" in out
    assert "kpa" in out
    assert "1,200 requests" in out
    assert "1 requests left out" in err


def test_run_tells_every_change_of_the_number(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--trace", str(trace)]) == 0

    assert "0 s: 1 replicas" in capsys.readouterr().out


def test_the_same_call_prints_the_same(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for _ in range(2):
        cli.main(["compare", "--trace", str(trace), "--policies", "warmtide,hpa-queue", "--seed", "5"])
        printed.append(capsys.readouterr().out)

    assert printed[0] == printed[1]


@pytest.mark.parametrize(
    ("profile", "gpu_hours"),
    [("llama-3.1-8b-h100", "0.2"), ("qwen3-32b-h100-tp2", "0.3"), ("llama-3.1-70b-h100-tp8", "1.3")],
)
def test_a_profile_of_several_gpus_costs_as_many(
    trace: Path, capsys: pytest.CaptureFixture[str], profile: str, gpu_hours: str
) -> None:
    assert cli.main(["compare", "--trace", str(trace), "--policies", "kpa", "--profile", profile]) == 0

    static = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("static-1 "))
    assert static.split()[4] == gpu_hours  # one replica for ten minutes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--policies", "warmtide,hap"], "no policy named hap; there are: warmtide, "),
        (["compare", "--policies", ""], "no policy named ''"),
        (["run", "--replicas-min", "9", "--replicas-max", "3"], "1 ≤ min ≤ max, got 9 and 3"),
        (["run", "--ttft", "-1"], "objective must be > 0"),
        (["run", "--cold-seconds", "0"], "cold_s must be > 0"),
    ],
    ids=["unknown", "none", "bounds", "objective", "start-up"],
)
def test_a_wrong_call_is_one_line_and_exit_2(
    arguments: list[str], message: str, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--trace", str(trace)]) == 2

    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEADER, "there is a header but no request"),
        (HEADER + "2023-11-16 18:15:00.0,-4,1\n", "line 2, column ContextTokens"),
        (HEADER + "2023-11-16 18:15:00.0,0,0\n", "at least one request"),
    ],
    ids=["empty", "header only", "negative", "nothing to serve"],
)
def test_a_bad_trace_is_one_line_and_exit_2(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")

    assert cli.main(["run", "--trace", str(path)]) == 2

    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_interrupt_leaves_the_rows_that_were_done(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(setting: Setting, names: Sequence[str], tell: Telling, *, is_sized: bool) -> Iterator[Row]:
        yield next(compare(setting, names, tell, is_sized=is_sized))
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_command, "compare", interrupted)

    assert cli.main(["compare", "--trace", str(trace)]) == INTERRUPTED

    out, err = capsys.readouterr()
    assert "static-1" in out
    assert "kpa" not in out
    assert "interrupted" in err


SERVICE = """\
traffic: {{rates: {rates}, endSeconds: 300}}
machine: {{profile: llama-3.1-8b-h100, maxModelLenTokens: 131072, numGpuBlocks: 28000, maxNumBatchedTokens: 8192}}
replicas: {{max: 4}}
objective: {{ttftSeconds: 15}}
"""
SHARING = SERVICE.format(rates="mooncake_conversation, prefixes: mooncake_conversation_prefixes")
ASKING = SERVICE.format(rates="azure_2023_conversation") + "clients: {count: 40, thinkSeconds: 5}\n"


@pytest.mark.parametrize(
    ("text", "extra"),
    [(SERVICE.format(rates="azure_2023_conversation"), []), (SHARING, ["from cache"]), (ASKING, ["requests"])],
    ids=["nothing", "a prefix cache", "clients who wait"],
)
def test_a_setting_has_the_columns_that_say_something_about_it(
    text: str, extra: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")

    assert cli.main(["compare", "--scenario", str(file), "--policies", "kpa"]) == 0

    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.startswith("policy"))
    assert [heading for heading in ("from cache", "requests", "lost") if heading in head] == extra
    assert len({len(line) for line in lines if line.startswith(("policy", "static", "kpa", "─"))}) == 1
    if extra == ["requests"]:
        drawn, came = (int(line.split()[at].replace(",", "")) for line, at in ((lines[0], 2), (lines[-1], -1)))
        assert lines[0].startswith("up to ")
        assert 0 < came < drawn
    if extra == ["from cache"]:
        assert 0.0 < float(lines[-1].split()[-1].rstrip("%")) < 100.0
