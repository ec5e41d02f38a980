"""Files of measurements: three shapes are read, anything else is refused with file, line and field."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulations.calibration import Limits, MeasurementError, read_run, read_runs

ENGINE_ROW = {"input_toks": 100, "output_toks": 11, "queued_ts": 5.0, "first_token_ts": 5.5, "last_token_ts": 6.5}
CLIENT_ROW = {"prompt_len": 100, "output_len": 11, "send": 1.0, "first": 1.5, "end": 2.5}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def engine_rows(count: int) -> list[dict[str, float]]:
    return [
        {name: value + (0.1 * n if name.endswith("ts") else 0) for name, value in ENGINE_ROW.items()}
        for n in range(count)
    ]


def bench(count: int, **changed: object) -> str:
    document = {
        "start_times": [10.0 + n for n in range(count)],
        "input_lens": [100] * count,
        "output_lens": [11] * count,
        "ttfts": [0.5] * count,
        "latencies": [1.5] * count,
        "duration": 8.0,
    }
    return json.dumps(document | changed)


def test_the_engines_own_stamps(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(lines(*reversed(engine_rows(8))))

    run = read_run(file)

    assert len(run) == 8
    assert not run.seen_by_client
    assert run.arrived_at_s[:2] == pytest.approx([0.0, 0.1])
    assert run.ttft_s == pytest.approx([0.5] * 8)
    assert run.e2e_s == pytest.approx([1.5] * 8)


def test_a_load_generators_stamps_after_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "burst.requests.jsonl"
    file.write_text(lines({"meta": {"conc": 4}}, *[CLIENT_ROW] * 8, CLIENT_ROW | {"error": "HTTP 500"}))

    run = read_run(file)

    assert (run.name, len(run), run.seen_by_client) == ("burst", 8, True)


def test_what_the_bench_of_vllm_saves_in_detail(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(bench(8, ttfts=[0.5] * 7 + [0.0]))  # a failed request has no first token

    run = read_run(file)

    assert (len(run), run.seen_by_client) == (7, True)
    assert run.e2e_s == pytest.approx([1.5] * 7)


def test_a_folder_with_what_is_known_of_the_server_beside_the_requests(tmp_path: Path) -> None:
    (tmp_path / "gpu" / "vllm").mkdir(parents=True)
    (tmp_path / "gpu" / "vllm" / "requests.jsonl").write_text(lines(*engine_rows(8)))
    (tmp_path / "gpu" / "vllm" / "other.jsonl").write_text(lines({"t": 1}, {"t": 2}))
    meta = {"engine_kwargs": {"max_num_seqs": 64, "max_model_len": None}, "kv_cache": {"num_gpu_blocks": 99}}
    (tmp_path / "gpu" / "vllm" / "meta.json").write_text(json.dumps(meta))

    [run] = read_runs(tmp_path)

    assert run.name == "gpu"
    assert run.limits == Limits(max_num_seqs=64, num_gpu_blocks=99)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "no request in it", id="empty"),
        pytest.param("{not json\n", "line 1: not JSON", id="no JSON"),
        pytest.param("[1]\n", "line 1: expected a JSON object", id="a list"),
        pytest.param(
            lines(ENGINE_ROW, ENGINE_ROW | {"input_toks": "many"}), "line 2, field input_toks: 'many'", id="text"
        ),
        pytest.param(lines({"queued_ts": 5, "input_toks": 5}), "field output_tokens: missing", id="no output"),
        pytest.param(lines(*[ENGINE_ROW | {"input_toks": 10**9}] * 8), "a column is mixed up", id="a billion tokens"),
        pytest.param(lines(*engine_rows(3)), "3 requests that were served; at least 6", id="too few"),
        pytest.param(bench(8, latencies=None), "field latencies: missing", id="bench without details"),
        pytest.param(bench(8, ttfts=[0.5]), "must be of one length", id="bench with holes"),
        pytest.param(bench(8, ttfts=[-1.0] * 8), "field ttfts: item 0", id="negative"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(text)

    with pytest.raises(MeasurementError, match=r"bad\.jsonl") as caught:
        read_run(file)

    assert said in str(caught.value)


def test_a_file_that_is_not_there_and_a_folder_with_nothing(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="No such file"):
        read_runs(tmp_path / "absent.json")
    with pytest.raises(MeasurementError, match=r"no \*\.jsonl file"):
        read_runs(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_run_or_refused(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "any.jsonl"
    file.write_bytes(raw)
    with pytest.raises(MeasurementError):
        read_run(file)
