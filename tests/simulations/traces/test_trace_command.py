"""`warmtide sim trace` as a user calls it."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simulations import cli
from simulations.derive_figures import lengths_from
from simulations.errors import INTERRUPTED
from simulations.traces import Chunk, Trace, joined, open_trace
from simulations.traces.write import WRITERS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 500 * n, "input_length": 600 + n, "output_length": 1 + n % 50, "hash_ids": [0, n + 1]}
        for n in range(400)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_inspect_says_what_is_in_it(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", "inspect", str(trace)]) == 0
    text = capsys.readouterr().out
    assert cli.main(["trace", "inspect", str(trace), "--output", "json"]) == 0
    figures = json.loads(capsys.readouterr().out)

    assert "mooncake" in text
    assert "mean 799.5, p50 799, p95 979, p99 995, max 999" in text
    assert figures["requests"] == 400
    assert figures["requests_per_s"] == pytest.approx(400 / 199.5)
    assert figures["gap_variation"] == pytest.approx(0.0, abs=1e-6)
    assert figures["shared_block_ratio"] == pytest.approx(399 / 800)


@pytest.mark.parametrize("ending", ["csv", "gz", "zst"])
@pytest.mark.parametrize("to", WRITERS)
def test_what_is_written_in_a_format_is_read_back_from_it(to: str, ending: str, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out.{ending}"

    assert cli.main(["trace", "convert", str(trace), "--to", to, "--out", str(out)]) == 0

    before, after = (joined(list(open_trace(path).chunks())) for path in (trace, out))
    assert after.at_s.tolist() == before.at_s.tolist()
    assert after.prompt_tokens.tolist() == before.prompt_tokens.tolist()
    assert after.output_tokens.tolist() == before.output_tokens.tolist()
    if to == "mooncake":
        assert after.blocks is not None
        assert before.blocks is not None
        assert after.blocks.ids.tolist() == before.blocks.ids.tolist()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_parts_are_spliced_scaled_and_resampled(trace: Path, tmp_path: Path) -> None:
    two, more, like = tmp_path / "two.jsonl", tmp_path / "more.jsonl", tmp_path / "like.jsonl"

    assert cli.main(["trace", "splice", f"{trace}@0..50s", f"{trace}@1m..", "--out", str(two)]) == 0
    assert cli.main(["trace", "scale", str(trace), "--rate", "2", "--end", "1m", "--out", str(more)]) == 0
    assert cli.main(["trace", "resample", str(trace), "--out", str(like), "--seed", "4"]) == 0

    counts = [len(joined(list(open_trace(path).chunks()))) for path in (two, more, like)]
    assert counts[:2] == [100 + 280, 2 * 120]
    assert counts[2] == pytest.approx(400, abs=80)


def test_a_plot_is_a_picture_of_its_own(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plot.svg"
    odd = trace.rename(tmp_path / "a<b>&.jsonl")

    assert cli.main(["trace", "plot", str(odd), "--end", "1h", "--out", str(out)]) == 0
    written = out.read_bytes()
    assert cli.main(["trace", "plot", str(odd), str(out)]) == 0
    assert cli.main(["trace", "plot", str(odd)]) == 0

    picture = ET.parse(out).getroot()  # ours
    assert next(picture.iter(f"{SVG}text")).text == "a<b>&.jsonl"
    assert len(list(picture.iter(f"{SVG}polyline"))) == 2
    assert "http" not in out.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "█" in capsys.readouterr().out
    assert out.read_bytes() == written
    marks = [mark.text for mark in picture.iter(f"{SVG}text")]
    assert marks[marks.index("512") + 1] == "1k"  # tokens per request, at powers of two


def test_a_table_is_written_where_the_name_is_of_one_and_says_what_it_cannot_hold(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, format_name in (("a.csv", "azure"), ("a.csv.gz", "azure"), ("a.jsonl", "mooncake"), ("a", "mooncake")):
        assert cli.main(["trace", "convert", str(trace), "--out", str(tmp_path / name)]) == 0
        said = capsys.readouterr()
        assert said.out.endswith(f"{name}: 400 requests as {format_name}\n")
        assert ("azure has no blocks: what prompts share was left out" in said.err) == (format_name == "azure")


def test_lengths_that_are_not_in_a_file_are_said_to_come_from_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("minute,requests\n0,60\n1,90\n", encoding="utf-8")

    assert cli.main(["trace", "inspect", str(rates)]) == 0
    assert (
        "lengths are not in the file: as in Azure's conversations of 2023; others: --lengths" in capsys.readouterr().out
    )
    assert cli.main(["trace", "inspect", str(rates), "--lengths", "azure_2023_code"]) == 0
    assert "lengths are not in the file: as in azure_2023_code\n" in capsys.readouterr().out
    assert cli.main(["trace", "plot", str(rates), str(tmp_path / "a.svg")]) == 0
    assert "tokens on average, as in Azure" in (tmp_path / "a.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "absent.csv"], "absent.csv: cannot be read: No such file or directory"),
        (["scale", "T", "--rate", "0", "--out", "x"], "rate_ratio must be > 0"),
        (["convert", "T", "--begin", "yesterday", "--out", "x"], "expected a time such as 90, 90s"),
        (["resample", "T", "--period", "0", "--out", "x"], "--period must be > 0"),
        (["plot", "T", "--begin", "9d"], "no request comes between 777600 s and inf s"),
        (["plot", "T", "x.png"], "a plot is an SVG: expected a name that ends in .svg, got x.png"),
        (["convert", "T", "--out", "/"], "is a directory"),
        (["convert", "T", "--out", "/proc/none/x"], "cannot be written"),
    ],
    ids=["absent", "rate", "time", "period", "window", "picture", "directory", "unwritable"],
)
def test_a_wrong_call_is_one_line_and_exit_2(
    arguments: list[str], said: str, trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trace.parent)

    assert cli.main(["trace", *[str(trace) if word == "T" else word for word in arguments]]) == 2

    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_bad_line_leaves_no_half_written_file(trace: Path, tmp_path: Path) -> None:
    with trace.open("a", encoding="utf-8") as file:
        file.write("nonsense\n")

    assert cli.main(["trace", "convert", str(trace), "--out", str(tmp_path / "out.jsonl")]) == 2

    assert [path.name for path in tmp_path.iterdir()] == [trace.name]


def test_the_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", "formats"]) == 0

    assert "burstgpt      reads  " in capsys.readouterr().out


def test_an_interrupt_leaves_the_figures_of_what_was_read(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Trace) -> Iterator[Chunk]:
        yield next(read(self)).between(0, 150)
        raise KeyboardInterrupt

    read = Trace.chunks
    monkeypatch.setattr(Trace, "chunks", interrupted)

    assert cli.main(["trace", "inspect", str(trace)]) == INTERRUPTED
    assert cli.main(["trace", "convert", str(trace), "--out", str(trace.with_name("out.jsonl"))]) == INTERRUPTED

    out, err = capsys.readouterr()
    assert "requests              150" in out
    assert "interrupted; what was read so far is above" in err
    assert [path.name for path in trace.parent.iterdir()] == [trace.name]


@pytest.mark.parametrize(("lengths", "prompts"), [("OTHER", (600, 999)), ("azure_2023_code", (3, 7500))])
def test_requests_drawn_from_rates_are_as_long_as_one_says(
    lengths: str, prompts: tuple[int, int], trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("t_seconds,req_per_s\n0,5\n60,5\n", encoding="utf-8")
    given = str(trace) if lengths == "OTHER" else lengths

    assert cli.main(["trace", "inspect", str(rates), "--lengths", given, "--output", "json"]) == 0

    found = json.loads(capsys.readouterr().out)["prompt"]
    assert prompts[0] <= found["p50"] <= found["most"] <= prompts[1]


@pytest.mark.parametrize(
    ("lengths", "said"),
    [("nobody", "no figures named 'nobody'; there are: azure_2023_code"), ("FEW", "at least 50 requests to draw")],
)
def test_lengths_that_are_not_there_are_named(
    lengths: str, said: str, trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.csv"
    few.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n", encoding="utf-8")

    assert cli.main(["trace", "inspect", str(trace), "--lengths", str(few) if lengths == "FEW" else lengths]) == 2

    assert said in capsys.readouterr().err


def test_lengths_may_all_be_the_same(tmp_path: Path) -> None:
    same = tmp_path / "same.csv"
    rows = "".join(f"{number},512,128\n" for number in range(60))
    same.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + rows, encoding="utf-8")

    prompts, outputs = lengths_from(str(same)).draw(np.random.default_rng(1), 100)

    assert set(prompts.tolist()) <= {512, 513}
    assert set(outputs.tolist()) == {128}
