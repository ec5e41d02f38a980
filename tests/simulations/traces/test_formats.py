"""Every format that users bring: what loads, what each bad file is told, and that nothing else ever happens."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulations.errors import TraceError
from simulations.traces import FORMATS, Chunk, Drawing, detect, joined, open_trace
from simulations.traces.chunk import TOKENS_MAX

SHARED = Path(__file__).parents[3] / ".." / "shared"
SERVEGEN_ROW = "0,2.0,1.5,Gamma,0.5,1.0\n600,4.0,1.0,Weibull,1.0,0.2\n"
SERVEGEN_LENGTHS = {"0": {"input_tokens": "{100: 0.5, 200: 0.5}", "output_tokens": "{7: 1.0}"}}

GOOD = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,374,44\n2023-11-16 18:15:48.0,396,109\n",
    "burstgpt": "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,1,2.5,ChatGPT,374,44,418,API log\n6.5,,3.5,GPT-4,396,109,505,Conversation log\n",
    "kserve-mini": "id,scheduled_ms,start_ms,ttfb_ms,tllt_ms,latency_ms,status,prompt_tokens,completion_tokens,"
    "total_tokens,error,trace_id\n"
    '2,1700000001500.0,1,2,3,4,200,396,109,505,"odd, but quoted",b\n1,1700000000000.0,1,2,3,4,200,374,44,418,,a\n',
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.25,374,44\n1.75,396,109\n",
    "splitwise": "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
    "0,2,0,1.0,1,374,44\n1,2,0,2.5,1,396,109\n",
    "mooncake": '{"timestamp": 1000, "input_length": 374, "output_length": 44, "hash_ids": [7]}\n'
    '{"timestamp": 2500, "input_length": 396, "output_length": 109, "hash_ids": [7]}\n',
    "bailian": '{"chat_id": 1, "timestamp": 1.0, "input_length": 374, "output_length": 44, "hash_ids": [7, 8]}\n'
    '{"chat_id": 2, "timestamp": 2.5, "input_length": 396, "output_length": 109, "hash_ids": [7, 9]}\n',
    "llmservingsim": '{"input_toks": 374, "output_toks": 44, "arrival_time_ns": 5}\n'
    '{"input_toks": 396, "output_toks": 109, "arrival_time_ns": 1500000005}\n',
    "vllm-bench": json.dumps({"start_times": [11.5, 10.0], "input_lens": [396, 374], "output_lens": [109, 44]}),
}
RATES = {
    "rates": "t_seconds,req_per_s\n0,2.0\n600,4.0\n",
    "prometheus": json.dumps(
        {
            "status": "success",
            "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[0, "2"], [600, "4"]]}]},
        }
    ),
}


def written(tmp_path: Path, content: str | bytes, name: str = "trace") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, format_name: str | None = None) -> Chunk:
    return joined(list(open_trace(path, format_name).chunks()))


@pytest.mark.parametrize("name", GOOD)
def test_two_requests_a_second_and_a_half_apart_load_from_every_format(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, GOOD[name])

    found = read(path)

    assert detect(path) == name
    assert found.at_s.tolist() == [0.0, 1.5]
    assert found.prompt_tokens.tolist() == [374, 396]
    assert found.output_tokens.tolist() == [44, 109]


@pytest.mark.parametrize("name", [*GOOD, *RATES])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="windows line ends"),
        pytest.param(lambda text: text.rstrip("\n"), id="no newline at the end"),
        pytest.param(lambda text: text + "\n\n", id="blank lines at the end"),
    ],
)
def test_harmless_variants_are_the_same_trace(name: str, change, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = (GOOD | RATES)[name]

    plain = read(written(tmp_path, text, "plain"))
    packed = written(tmp_path, gzip.compress(change(text).encode()), "packed")
    smaller = written(tmp_path, pa.compress(change(text).encode(), "zstd", asbytes=True), "smaller")

    for found in (read(written(tmp_path, change(text), "varied")), read(packed), read(smaller)):
        assert found.at_s.tolist() == plain.at_s.tolist()
        assert found.prompt_tokens.tolist() == plain.prompt_tokens.tolist()


@pytest.mark.parametrize("name", RATES)
def test_requests_are_drawn_from_a_rate_by_seed(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, RATES[name])

    trace = open_trace(path, drawing=Drawing(seed=3))
    first, again = joined(list(trace.chunks())), joined(list(trace.chunks()))
    other = joined(list(open_trace(path, drawing=Drawing(seed=4)).chunks()))

    in_first_bin = (first.at_s < 600).sum()
    assert in_first_bin == pytest.approx(1200, abs=150)
    assert len(first) - in_first_bin == pytest.approx(2400, abs=200)
    assert first.at_s.tobytes() == again.at_s.tobytes()
    assert len(other) != len(first)


def test_servegens_clients_keep_their_rate_and_lengths(tmp_path: Path) -> None:
    for client in (0, 7):
        written(tmp_path, SERVEGEN_ROW, f"chunk-{client}-trace.csv")
        written(tmp_path, json.dumps(SERVEGEN_LENGTHS), f"chunk-{client}-dataset.json")

    found = read(tmp_path)

    assert detect(tmp_path) == "servegen"
    assert len(found) == 2 * (1200 + 2400)
    assert set(found.prompt_tokens.tolist()) == {100, 200}
    assert set(found.output_tokens.tolist()) == {7}
    assert (np.diff(found.at_s) >= 0).all()
    assert found.at_s[-1] < 1200


def test_blocks_that_prompts_share_come_along(tmp_path: Path) -> None:
    blocks = read(written(tmp_path, GOOD["bailian"])).blocks

    assert blocks is not None
    assert blocks.ids.tolist() == [7, 8, 7, 9]
    assert blocks.starts.tolist() == [0, 2, 4]
    assert blocks.block_tokens == 16


def one_changed(name: str, old: str, new: str) -> tuple[str, str]:
    assert old in (GOOD | RATES)[name]
    return name, (GOOD | RATES)[name].replace(old, new)


BAD = {
    "empty": ("azure", "", "the file is empty"),
    "zeros": ("azure", "\0" * 64, "zero byte"),
    "wrong header": ("azure", "a,b,c\n1,2,3\n", "line 1, column TIMESTAMP: expected the columns"),
    "header only": ("burstgpt", GOOD["burstgpt"].split("\n")[0], "there is a header but no request"),
    "azure: negative": (*one_changed("azure", "374", "-374"), "line 2, column ContextTokens: expected a whole number"),
    "azure: 10^9 tokens": (*one_changed("azure", "396", "1000000000"), "line 3, column ContextTokens"),
    "azure: unsorted": (
        *one_changed("azure", "15:46.5", "17:46.5"),
        "line 3, column TIMESTAMP: expected no time before",
    ),
    "burstgpt: a field less": (*one_changed("burstgpt", ",418,", ","), "line 2: expected 8 fields, got 7"),
    "burstgpt: time": (*one_changed("burstgpt", "6.5,,", "6.5.1,,"), "line 3, column Timestamp: expected seconds"),
    "burstgpt: unsorted": (*one_changed("burstgpt", "6.5,,", "4.5,,"), "line 3, column Timestamp: expected no time"),
    "kserve: quote": (*one_changed("kserve-mini", 'quoted"', "quoted"), "line 2: expected one row of CSV"),
    "kserve: negative": (*one_changed("kserve-mini", ",396,", ",-1,"), "line 2, column prompt_tokens"),
    "vidur: far future": (*one_changed("vidur", "1.75", "99999999999"), "line 3, column arrived_at"),
    "splitwise: text": (*one_changed("splitwise", "44", "x"), "line 2, column token_size: expected a whole"),
    "mooncake: no JSON": (*one_changed("mooncake", "[7]}\n", "[7\n"), "line 1: expected JSON"),
    "mooncake: array": (
        *one_changed("mooncake", GOOD["mooncake"].split("\n")[1], "[]"),
        "line 2: expected a JSON object",
    ),
    "mooncake: key": (
        *one_changed("mooncake", "output_length", "outputs"),
        "column output_length: expected the",
    ),
    "mooncake: bool": (*one_changed("mooncake", "374", "true"), "line 1, column input_length: expected a whole"),
    "mooncake: 10^9": (*one_changed("mooncake", "396", "1000000000"), "line 2, column input_length"),
    "mooncake: unsorted": (
        *one_changed("mooncake", "1000", "9000"),
        "line 2, column timestamp: expected no time",
    ),
    "mooncake: ids": (*one_changed("mooncake", "[7]", '["7"]'), "line 1, column hash_ids: expected a list of whole"),
    "mooncake: many ids": (
        *one_changed("mooncake", "[7]", "[7, 8]"),
        "hash_ids: expected at most 1 blocks of 512",
    ),
    "mooncake: NaN": (*one_changed("mooncake", "1000", "NaN"), "line 1: expected JSON: 'NaN is no number"),
    "mooncake: digits": (*one_changed("mooncake", "1000", "1" * 5000), "line 1: expected JSON"),
    "mooncake: nested": ("mooncake", "[" * 100_000, "line 1: expected JSON"),
    "bench: not detailed": (
        "vllm-bench",
        '{"completed": 4}',
        "`vllm bench serve --save-result --save-detailed`",
    ),
    "bench: lengths": (*one_changed("vllm-bench", "[396, 374]", "[396]"), "of one length, got 2, 1 and 2"),
    "bench: negative": (*one_changed("vllm-bench", "396", "-1"), "column input_lens[0]: expected a whole"),
    "rates: negative": (*one_changed("rates", "4.0", "-4"), "line 3, column req_per_s: expected a number ≥ 0"),
    "rates: twice": (*one_changed("rates", "600", "0"), "line 3, column t_seconds: expected a later time"),
    "rates: one bin": ("rates", "t_seconds,req_per_s\n0,1\n", "at least 2 bins"),
    "rates: none": ("rates", "t_seconds,req_per_s\n0,0\n600,0\n", "column req_per_s: there is no request"),
    "rates: a count": (*one_changed("rates", "2.0", "1e9"), "column req_per_s: expected a rate from 0 to 1e+07"),
    "prometheus: error": ("prometheus", '{"status": "error", "data": {}}', "column data.result: expected the series"),
    "prometheus: value": (*one_changed("prometheus", '"2"', '"x"'), "column data.result[0].values[0]: expected a rate"),
}


@pytest.mark.parametrize(("name", "content", "said"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_line_that_names_file_line_and_column(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)

    with pytest.raises(TraceError) as caught:
        read(path, name)

    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "servegen"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x7fELF\x02\x01\x01\x00\xff\xfe", id="a program"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b"", id="empty"),
        pytest.param(gzip.compress(b"TIMESTAMP,ContextTokens" * 99)[:-30], id="half a gzip file"),
        pytest.param(b"\x1f\x8b" + b"\0" * 30, id="no gzip file"),
        pytest.param(b"\x28\xb5\x2f\xfd" + b"\0" * 30, id="no Zstandard"),
        pytest.param(pa.compress(b"TIMESTAMP,ContextTokens" * 99, "zstd", asbytes=True)[:-9], id="half of Zstandard"),
    ],
)
def test_what_is_no_text_is_refused_by_every_reader(name: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        read(written(tmp_path, content), name)


@pytest.mark.parametrize(
    "packed",
    [gzip.compress, lambda text: pa.compress(text, "zstd", asbytes=True)],
    ids=["gzip", "Zstandard"],
)
def test_of_a_packed_file_that_ends_too_soon_all_whole_lines_are_read(packed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(1)
    rows = [f"{at_s},{rng.randint(1, 9999)},{rng.randint(1, 9999)}\n" for at_s in range(200_000)]
    whole = packed(("arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(rows)).encode())
    path = written(tmp_path, whole[: len(whole) // 2])
    chunks = []

    with pytest.raises(TraceError) as caught:
        chunks.extend(open_trace(path).chunks())  # extends by each before it fails

    found = joined(chunks)
    assert 50_000 < len(found) < 150_000
    for number in (0, len(found) - 1):
        assert rows[number] == f"{number},{found.prompt_tokens[number]},{found.output_tokens[number]}\n"
    assert str(caught.value).startswith(f"{path}, line {len(found) + 2}: expected a whole packed file: ")


@pytest.mark.parametrize(
    ("row", "lengths", "said"),
    [
        ("0,1,1,Gauss,1,1\n", SERVEGEN_LENGTHS, "line 1, column pattern: expected one of Gamma, Weibull"),
        ("0,-1,1,Gamma,1,1\n", SERVEGEN_LENGTHS, "line 1, column rate: expected a number"),
        ("0,1,1,Gamma,1\n", SERVEGEN_LENGTHS, "line 1: expected 6 fields"),
        ("600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", SERVEGEN_LENGTHS, "line 2, column 1: expected a later time"),
        (SERVEGEN_ROW, {"0": {"input_tokens": "{-1: 1.0}", "output_tokens": "{7: 1.0}"}}, "column 0.input_tokens"),
        (SERVEGEN_ROW, {"0": {"input_tokens": "__import__('os')", "output_tokens": "{}"}}, "expected a text such as"),
        (SERVEGEN_ROW, {"0": {"input_tokens": "{}", "output_tokens": "{}"}}, "there is no request"),
    ],
    ids=["pattern", "rate", "fields", "unsorted", "tokens", "code", "no lengths"],
)
def test_a_bad_client_of_servegen_is_named(row: str, lengths: object, said: str, tmp_path: Path) -> None:
    written(tmp_path, row, "chunk-0-trace.csv")
    written(tmp_path, json.dumps(lengths), "chunk-0-dataset.json")

    with pytest.raises(TraceError) as caught:
        read(tmp_path)

    assert said in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data(), name=st.sampled_from([*GOOD, *RATES]))
def test_any_bytes_are_requests_or_a_trace_error(data: st.DataObject, name: str, tmp_path: Path) -> None:
    good = (GOOD | RATES)[name].encode()
    begin, end = sorted((data.draw(st.integers(0, len(good))), data.draw(st.integers(0, len(good)))))
    path = written(tmp_path, good[:begin] + data.draw(st.binary(max_size=12)) + good[end:])

    for format_name in (None, name):
        try:
            found = read(path, format_name)
        except TraceError as exc:
            said = str(exc)
        else:
            said = ""
            assert len(found)
            assert (np.diff(found.at_s) >= 0).all()
            assert found.at_s[0] >= 0
            assert 0 <= found.prompt_tokens.min() <= found.prompt_tokens.max() <= TOKENS_MAX
        assert "\n" not in said


@pytest.mark.skipif(not SHARED.exists(), reason="the real traces are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "format_name", "requests", "prompt_mean"),
    [
        ("traces/AzureLLMInferenceTrace_code.csv", "azure", 8_819, 2048),
        ("traces/mooncake_conversation.jsonl", "mooncake", 12_031, 12_035),
        ("vllm/bench-serve-sample.json", "vllm-bench", 24, 130),
        ("traces/reason_deepseek-r1_10min_total.csv", "rates", 1_382_000, 1155),
    ],
    ids=["azure code", "mooncake", "vllm bench", "servegen totals"],
)
def test_real_files_load_whole(name: str, format_name: str, requests: int, prompt_mean: float) -> None:
    found = read(SHARED / name)

    assert detect(SHARED / name) == format_name
    assert len(found) == pytest.approx(requests, rel=0.005)
    assert found.prompt_tokens.mean() == pytest.approx(prompt_mean, rel=0.01)
