"""Reading Azure's CSV: what loads, and what each bad file is told."""

import itertools
from pathlib import Path

import pytest

from simulations.errors import TraceError
from simulations.trace import Arrival
from simulations.traces import read_arrivals
from simulations.traces.chunk import TOKENS_MAX
from simulations.traces.source import LINE_BYTES_MAX

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
FIRST = "2023-11-16 18:15:46.6805900,374,44\n"
SHARED = Path(__file__).parents[3] / ".." / "shared" / "traces" / "AzureLLMInferenceTrace_conv.csv"


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "trace.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_times_count_from_the_first_request_with_all_seven_digits(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + FIRST + "2023-11-16 18:15:50.9951691,396,109\n")

    assert list(read_arrivals(path)) == [
        Arrival(at_s=0.0, prompt_tokens=374, output_tokens=44),
        Arrival(at_s=4.3145791, prompt_tokens=396, output_tokens=109),
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param((HEADER + FIRST).replace("\n", "\r\n"), id="windows line ends"),
        pytest.param("\ufeff" + HEADER + FIRST, id="byte order mark"),
        pytest.param(HEADER + FIRST.rstrip("\n"), id="no newline at the end"),
        pytest.param(HEADER + FIRST + "\n\n", id="blank lines at the end"),
        pytest.param("ContextTokens,TIMESTAMP,GeneratedTokens\n374,2023-11-16 18:15:46,44\n", id="other column order"),
        pytest.param("TIMESTAMP,ContextTokens,GeneratedTokens,Model\n2023-11-16 18:15:46,374,44,x\n", id="one more"),
        pytest.param(HEADER + "2024-05-10 00:00:00.009930+00:00,374,44\n", id="the 2024 form with a zone"),
    ],
)
def test_harmless_variants_load(tmp_path: Path, content: str) -> None:
    assert list(read_arrivals(written(tmp_path, content))) == [Arrival(at_s=0.0, prompt_tokens=374, output_tokens=44)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", "empty", id="empty file"),
        pytest.param(HEADER, "no request", id="header only"),
        pytest.param("a,b,c\n1,2,3\n", "line 1: expected the header of a trace (azure, ", id="wrong header"),
        pytest.param(HEADER + "2023-11-16 18:15:46,374\n", "line 2: expected 3 fields, got 2", id="short row"),
        pytest.param(HEADER + "2023-11-16 18:15:46,-5,44\n", "line 2, column ContextTokens: ", id="negative tokens"),
        pytest.param(HEADER + "2023-11-16 18:15:46,7,4e2\n", "column GeneratedTokens: expected a whole", id="no int"),
        pytest.param(HEADER + f"2023-11-16 18:15:46,{TOKENS_MAX + 1},4\n", "column ContextTokens", id="too many"),
        pytest.param(HEADER + f"2023-11-16 18:15:46,{'9' * 3000},4\n", "column ContextTokens", id="huge number"),
        pytest.param(HEADER + "yesterday,1,2\n", "line 2, column TIMESTAMP: expected a time such as", id="no time"),
        pytest.param(HEADER + "2023-13-16 18:15:46,1,2\n", "column TIMESTAMP", id="month 13"),
        pytest.param(HEADER + FIRST + "2023-11-16 18:15:46.1,1,2\n", "line 3, column TIMESTAMP", id="goes back"),
        pytest.param(b"\x7fELF\x02\x01\x01\x00\xff\xfe", "expected text", id="binary"),
        pytest.param(b"\0" * 100, "zero byte", id="zeros"),
        pytest.param(HEADER + FIRST + "1" * 2 * LINE_BYTES_MAX, f"at most {LINE_BYTES_MAX:,} bytes", id="endless line"),
        pytest.param("TIMESTAMP,ContextTokens\n1,2\n", "column GeneratedTokens: expected", id="a column less"),
    ],
)
def test_a_bad_file_is_told_where_and_what(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = written(tmp_path, content)

    with pytest.raises(TraceError) as caught:
        list(read_arrivals(path))

    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"absent\.csv: cannot be read"):
        list(read_arrivals(tmp_path / "absent.csv"))


def test_a_file_is_streamed_so_a_late_error_comes_late(tmp_path: Path) -> None:
    arrivals = read_arrivals(written(tmp_path, HEADER + FIRST * 100 + "nonsense\n"))

    assert len(list(itertools.islice(arrivals, 100))) == 100
    with pytest.raises(TraceError, match="line 102"):
        next(arrivals)


@pytest.mark.skipif(not SHARED.exists(), reason="the real Azure trace is not beside this checkout")
def test_the_real_trace_loads_whole() -> None:
    arrivals = list(read_arrivals(SHARED))

    assert len(arrivals) == 19_366
    assert arrivals[-1].at_s == pytest.approx(3501.7219, abs=1e-3)
