"""Who asked: conversations and adapters that traces name, from every kind of file to every kind of change."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations import cli
from simulations.errors import TraceError
from simulations.traces import Chunk, fast, joined, open_trace
from simulations.traces.chunk import NOBODY, Callers
from simulations.traces.reshape import Scale, overlaid, resampled, scaled, spliced
from simulations.traces.values import number_of

BURSTGPT = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type,adapter
0,7,2.5,ChatGPT,100,10,110,Conversation log,legal
1,,0.5,GPT-4,200,20,220,API log,
9,7,,ChatGPT,120,30,150,Conversation log,legal
10,8,1,ChatGPT,90,30,120,Conversation log,tax
"""
NAN = float("nan")


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "trace"
    path.write_text(content, encoding="utf-8")
    return path


def callers_of(path: Path) -> Callers:
    found = joined(list(open_trace(path).chunks())).callers
    assert found is not None
    return found


def lines(*rows: Mapping[str, object]) -> str:
    lengths = {"input_length": 600, "output_length": 10}
    return "".join(json.dumps({"timestamp": number, **lengths, **row}) + "\n" for number, row in enumerate(rows))


@pytest.mark.parametrize("spoilt", [False, True], ids=["at once", "line by line"])
def test_burstgpts_sessions_and_durations_and_anybodys_adapters_are_read(spoilt: bool, tmp_path: Path) -> None:
    text = BURSTGPT.replace("\n1,", '\n"1",') if spoilt else BURSTGPT  # a quote is left to the slow way

    found = callers_of(written(tmp_path, text))

    assert found.sessions.tolist() == [7, NOBODY, 7, 8]
    np.testing.assert_array_equal(found.took_s, [2.5, 0.5, NAN, 1.0])
    assert found.adapters.tolist() == [number_of("legal"), NOBODY, number_of("legal"), number_of("tax")]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("TIMESTAMP,ContextTokens,GeneratedTokens,session_id,adapter", "2023-11-16 18:15:46.5,374,44,a b,x"),
        ("session_id,adapter,arrived_at,num_prefill_tokens,num_decode_tokens", "a b,x,0.25,374,44"),
    ],
    ids=["azure", "vidur"],
)
def test_every_table_may_say_who_asked(header: str, row: str, tmp_path: Path) -> None:
    found = callers_of(written(tmp_path, f"{header}\n{row}\n"))

    assert (found.sessions.tolist(), found.adapters.tolist()) == ([number_of("a b")], [number_of("x")])


def test_aiperfs_sessions_are_read_and_a_file_without_any_has_no_callers(tmp_path: Path) -> None:
    some = callers_of(written(tmp_path, lines({"session_id": "s-1"}, {}, {"session_id": 3, "adapter": "x"})))

    assert some.sessions.tolist() == [number_of("s-1"), NOBODY, 3]
    assert some.adapters.tolist() == [NOBODY, NOBODY, number_of("x")]
    assert joined(list(open_trace(written(tmp_path, lines({}, {}))).chunks())).callers is None


def test_bailians_turns_belong_to_the_chat_that_began_them(tmp_path: Path) -> None:
    chats = [(1, -1), (2, -1), (3, 1), (4, 3), (5, 2), (6, 99)]  # whoever answers a chat before the trace begins anew

    found = callers_of(written(tmp_path, lines(*[{"chat_id": chat, "parent_chat_id": of} for chat, of in chats])))

    assert found.sessions.tolist() == [1, 2, 1, 1, 2, 6]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BURSTGPT.replace("2.5", "-2.5"), "line 2, column Elapsed time: expected seconds ≥ 0, got '-2.5'"),
        (lines({"session_id": []}), "line 1, column session_id: expected a text or a whole number ≥ 0"),
        (lines({"adapter": True}), "line 1, column adapter: expected a text"),
        (lines({"chat_id": -3}), "line 1, column chat_id: expected a text or a whole number ≥ 0, got -3"),
    ],
    ids=["duration", "list", "bool", "negative"],
)
def test_bad_callers_are_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        callers_of(written(tmp_path, text))

    assert said in str(caught.value)


@given(st.lists(st.text("09az-. ", max_size=18), min_size=1, max_size=5))
def test_names_at_once_are_those_of_one_by_one(names: list[str]) -> None:
    columns = fast.columns("".join(f"{name},1\n" for name in names).encode(), 2)

    assert columns is not None
    assert fast.names(columns[0]).tolist() == [number_of(name.strip()) for name in names]


def chatting(*sessions: int) -> Chunk:
    count = len(sessions)
    return Chunk(
        at_s=np.linspace(0.0, 10.0 * count, count, endpoint=False),
        prompt_tokens=np.full(count, 10, np.int32),
        output_tokens=np.full(count, 10, np.int32),
        callers=Callers(
            sessions=np.array(sessions), took_s=np.full(count, 2.0), adapters=np.arange(count, dtype=np.int64)
        ),
    )


def test_copies_are_led_by_others_and_a_faster_clock_answers_faster() -> None:
    given_chunk = chatting(5, NOBODY, 5)

    found = joined(list(scaled([given_chunk], Scale(rate_ratio=2, speed_ratio=4), np.random.default_rng(1)))).callers

    assert found is not None
    sessions = found.sessions[found.sessions != NOBODY]
    assert sorted(np.unique(sessions, return_counts=True)[1].tolist()) == [2, 2]
    assert 5 in sessions
    assert set(found.took_s.tolist()) == {0.5}
    assert sorted(found.adapters.tolist()) == [0, 0, 1, 1, 2, 2]


def test_no_conversation_goes_on_in_the_next_part_of_a_splice_nor_in_a_resampled_trace() -> None:
    spliced_parts = joined(list(spliced([([chatting(5, 5)], None), ([chatting(5)], None)], 1.0))).callers
    resampled_one = joined(list(resampled([chatting(5, 5, 5)], 60.0, np.random.default_rng(1)))).callers
    over = joined(list(overlaid([[chatting(5)], [chatting(5)]])))

    assert spliced_parts is not None
    assert spliced_parts.sessions[:2].tolist() == [5, 5]
    assert spliced_parts.sessions[2] not in (5, NOBODY)
    assert resampled_one is not None
    assert (resampled_one.sessions == NOBODY).all()
    assert over.callers is None


def test_chunks_without_callers_are_joined_as_nobodys() -> None:
    whole = joined([chatting(5), replace(chatting(6), callers=None)])

    assert whole.callers is not None
    assert whole.callers.sessions.tolist() == [5, NOBODY]


def test_inspect_counts_them_and_convert_says_what_it_cannot_keep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, kept, lost = written(tmp_path, BURSTGPT), tmp_path / "kept.jsonl", tmp_path / "lost.csv"

    assert cli.main(["trace", "inspect", str(path), "--format", "burstgpt"]) == 0
    told = capsys.readouterr().out
    assert cli.main(["trace", "convert", str(path), "--out", str(kept)]) == 0
    of_kept = capsys.readouterr().err
    assert cli.main(["trace", "convert", str(path), "--out", str(lost)]) == 0
    of_lost = capsys.readouterr().err

    assert "conversations         2, of 1.50 requests on average\nadapters              2\n" in told
    assert "does not say how long answers took" in of_kept
    assert "azure has no conversations or adapters: they were left out" in of_lost
    after = callers_of(kept)
    assert after.sessions.tolist() == [7, NOBODY, 7, 8]
    assert len(np.unique(after.adapters)) == 3
