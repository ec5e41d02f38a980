"""One sample from one page: names of every generation, several engines, and what stops at the edge."""

import contextlib
import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.catalog import LINES_MAX, ROWS, markdown_table, read_sample
from metrics.errors import ExpositionError, NotAnEngineError
from metrics.exposition import LINE_BYTES_MAX, PAGE_BYTES_MAX, parse
from metrics.names import NOT_USED
from metrics.pages import LENGTH_BOUNDS, OLD_NAMES, TTFT_BOUNDS, vllm_page
from metrics.sample import EngineSample, Histogram


def read(page: str | bytes) -> EngineSample:
    return read_sample(page.encode() if isinstance(page, str) else page, observed_at_s=7.0)


def test_a_page_becomes_one_sample_with_every_field() -> None:
    sample = read(vllm_page(steps=1200))

    assert sample.observed_at_s == 7.0
    assert (sample.running_requests, sample.waiting_requests, sample.deferred_requests) == (8.0, 3.0, 1.0)
    assert (sample.kv_cache_usage_ratio, sample.kv_cache_capacity_tokens) == (0.5, 16_000.0)
    assert (sample.prompt_tokens_total, sample.computed_prompt_tokens_total) == (192_000.0, 144_000.0)
    assert sample.generation_tokens_total == 9_600.0
    assert (sample.prefix_cache_queried_tokens_total, sample.prefix_cache_hit_tokens_total) == (192_000.0, 48_000.0)
    assert sample.preemptions_total == 12.0
    assert (sample.finished_requests_total, sample.aborted_requests_total) == (900.0, 150.0)
    assert sample.rejected_requests_total == 300.0
    assert (sample.iterations_total, sample.iteration_tokens_total) == (1200.0, 1200.0 * 256)
    assert sample.ttft_s == Histogram(
        bounds=(*map(float, TTFT_BOUNDS), math.inf),
        counts=(*(float(1200 * place // 23) for place in range(1, 23)), 1200.0),
        sum=1200.0 * 1,
    )
    assert sample.prompt_length_tokens is not None
    assert sample.prompt_length_tokens.bounds == (*map(float, LENGTH_BOUNDS), math.inf)
    assert sample.is_awake is True
    assert None not in [getattr(sample, row.field) for row in ROWS]


def test_the_numbers_of_a_recorded_page_are_those_of_its_full_parse(real_page: bytes) -> None:
    sample = read(real_page)
    by_name: dict[str, float] = {}
    for family in parse(real_page):
        for series in family.series:
            by_name[series.name] = by_name.get(series.name, 0.0) + series.value

    assert sample.running_requests == by_name["vllm:num_requests_running"]
    assert sample.prompt_tokens_total == by_name["vllm:prompt_tokens_total"]
    assert sample.generation_tokens_total == by_name["vllm:generation_tokens_total"]
    assert sample.iterations_total == by_name["vllm:iteration_tokens_total_count"]
    assert sample.kv_cache_capacity_tokens == 2_097_152.0
    for histogram, name in ((sample.ttft_s, "time_to_first_token"), (sample.itl_s, "inter_token_latency")):
        assert histogram is not None
        assert histogram.count == by_name[f"vllm:{name}_seconds_count"]
        assert histogram.sum == by_name[f"vllm:{name}_seconds_sum"]
        assert sum(histogram.counts) == by_name[f"vllm:{name}_seconds_bucket"]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", sorted(OLD_NAMES))
def test_pages_of_older_generations_read_the_same(generation: str) -> None:
    assert read(vllm_page(names=generation)) == read(vllm_page())


def test_names_that_prometheus_respelled_read_the_same() -> None:
    page = vllm_page()

    assert read(page.replace(b"vllm:", b"vllm_")) == read(page)


@pytest.mark.parametrize("prefix", ["vllm:", "vllm_"])
@pytest.mark.parametrize("tail", ["", "_total"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.shape == "counter"], ids=lambda row: row.field)
def test_every_counter_is_known_with_and_without_total(row: object, prefix: str, tail: str) -> None:
    known = next(other for other in ROWS if other is row)
    for name in known.names:
        labels = "".join(f'{{{label}="{value}"}}' for label, value in sorted(known.picks)[:1])
        assert getattr(read(f"{prefix}{name}{tail}{labels} 5\n"), known.field) == 5.0


def test_an_old_and_a_new_name_on_one_page_count_once() -> None:
    page = (
        "vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.5\n"
        "vllm:gpu_prefix_cache_hits_total 7\nvllm:prefix_cache_hits_total 5\n"
        "vllm_generation_tokens_total 3\nvllm:generation_tokens_total 4\n"
        'vllm:time_per_output_token_seconds_bucket{le="+Inf"} 8\nvllm:time_per_output_token_seconds_sum 8\n'
        'vllm:inter_token_latency_seconds_bucket{le="+Inf"} 6\nvllm:inter_token_latency_seconds_sum 6\n'
    )

    sample = read(page)

    assert sample.kv_cache_usage_ratio == 0.5
    assert sample.prefix_cache_hit_tokens_total == 5.0
    assert sample.generation_tokens_total == 4.0
    assert sample.itl_s == Histogram(bounds=(math.inf,), counts=(6.0,), sum=6.0)


def test_names_that_only_start_alike_are_not_taken() -> None:
    sample = read("vllm:num_requests_running 1\nvllm:num_requests_waiting_long 5\nvllm:prompt_tokens_created 6\n")

    assert (sample.waiting_requests, sample.prompt_tokens_total) == (None, None)


def test_no_name_is_both_used_and_not_used() -> None:
    assert not {name for row in ROWS for name in row.names} & NOT_USED.keys()


def test_every_vllm_family_of_a_recorded_page_is_accounted_for(real_page: bytes) -> None:
    known = {name.removesuffix("_total") for row in ROWS for name in row.names} | NOT_USED.keys()
    families = {family.name for family in parse(real_page) if family.name.startswith("vllm:")}

    short = {name.removeprefix("vllm:").removesuffix("_created").removesuffix("_total") for name in families}

    assert short - known == set()


# --- engines and labels ----------------------------------------------------------------------------------------------


def test_engines_are_summed_and_their_kv_usage_is_averaged() -> None:
    one, two = read(vllm_page()), read(vllm_page(engines=2))

    assert two.running_requests == 16.0
    assert two.kv_cache_usage_ratio == 0.5
    assert two.kv_cache_capacity_tokens == 32_000.0
    assert one.generation_tokens_total is not None
    assert two.generation_tokens_total == 2 * one.generation_tokens_total
    assert one.ttft_s is not None
    assert two.ttft_s == Histogram(
        bounds=one.ttft_s.bounds, counts=tuple(2 * count for count in one.ttft_s.counts), sum=2 * one.ttft_s.sum
    )


def test_a_pod_is_awake_when_all_its_engines_are() -> None:
    line = 'vllm:engine_sleep_state{{engine="{}",sleep_state="awake"}} {}\n'

    assert read(line.format(0, 1) + line.format(1, 1)).is_awake is True
    assert read(line.format(0, 1) + line.format(1, 0)).is_awake is False
    assert read(line.format(0, 1) + line.format(1, "NaN")).is_awake is None


def test_aborts_and_errors_are_no_finished_requests() -> None:
    line = 'vllm:request_success_total{{finished_reason="{}"}} {}\n'
    reasons = {"stop": 1, "length": 2, "repetition": 4, "abort": 8, "error": 16}
    page = "".join(line.format(reason, count) for reason, count in reasons.items())

    sample = read(page)

    assert (sample.finished_requests_total, sample.aborted_requests_total) == (7.0, 8.0)


@pytest.mark.parametrize(
    ("labels", "tokens"),
    [
        pytest.param('block_size="16",num_gpu_blocks="100"', 1600.0, id="blocks"),
        pytest.param(
            'block_size="16",num_gpu_blocks="100",kv_cache_size_tokens="1500"', 1500.0, id="tokens come first"
        ),
        pytest.param('block_size="16",num_gpu_blocks="100",kv_cache_size_tokens="None"', 1600.0, id="tokens unknown"),
        pytest.param('block_size="16",num_gpu_blocks="None"', None, id="blocks unknown"),
        pytest.param('num_gpu_blocks="100"', None, id="no block size"),
        pytest.param('block_size="16",num_gpu_blocks="0"', None, id="no blocks"),
        pytest.param('kv_cache_size_tokens="inf"', None, id="infinite"),
        pytest.param(f'x="{"a" * 9000}",kv_cache_size_tokens="5"', 5.0, id="labels too long for the memo"),
    ],
)
def test_the_kv_capacity_comes_from_labels(labels: str, tokens: float | None) -> None:
    assert read(f"vllm:cache_config_info{{{labels}}} 1\n").kv_cache_capacity_tokens == tokens


def test_a_repeated_series_counts_once_the_first_time() -> None:
    page = 'vllm:num_requests_running{a="1",b="2"} 5\nvllm:num_requests_running{b="2",a="1"} 9\n'
    bucket = 'vllm:time_to_first_token_seconds_bucket{le="+Inf"}'

    sample = read(page + f"{bucket} 3\n{bucket} 4\nvllm:time_to_first_token_seconds_sum 1\n")

    assert sample.running_requests == 5.0
    assert sample.ttft_s == Histogram(bounds=(math.inf,), counts=(3.0,), sum=1.0)


def test_buckets_may_come_in_any_order() -> None:
    name = "vllm:time_to_first_token_seconds"
    page = f'{name}_sum 9\n{name}_bucket{{le="+Inf"}} 3\n{name}_bucket{{le="2"}} 2\n{name}_bucket{{le="1e0"}} 1\n'

    assert read(page).ttft_s == Histogram(bounds=(1.0, 2.0, math.inf), counts=(1.0, 2.0, 3.0), sum=9.0)


# --- what stops at the edge ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1"])
@pytest.mark.parametrize("name", ["num_requests_waiting", "kv_cache_usage_perc", "generation_tokens_total"])
def test_a_value_that_is_no_count_is_unknown_not_zero(name: str, value: str) -> None:
    sample = read(f'vllm:num_requests_running 2\nvllm:{name}{{engine="0"}} 1\nvllm:{name}{{engine="1"}} {value}\n')

    assert sample.running_requests == 2.0
    assert (sample.waiting_requests, sample.kv_cache_usage_ratio, sample.generation_tokens_total) == (None,) * 3


@pytest.mark.parametrize("broken", ['_bucket{le="+Inf"} NaN', '_bucket{le="+Inf"} -3', "_sum Inf"])
def test_a_histogram_with_a_value_that_is_no_count_is_unknown(broken: str) -> None:
    name = "vllm:time_to_first_token_seconds"
    lines = {'_bucket{le="1"}': "1", '_bucket{le="+Inf"}': "3", "_sum": "2"}
    lines[broken.rsplit(" ", 1)[0]] = broken.rsplit(" ", 1)[1]

    sample = read("vllm:num_requests_running 2\n" + "".join(f"{name}{key} {value}\n" for key, value in lines.items()))

    assert (sample.running_requests, sample.ttft_s) == (2.0, None)


def test_what_is_not_on_the_page_is_unknown() -> None:
    assert read("vllm:num_requests_running 0\n") == EngineSample(observed_at_s=7.0, running_requests=0.0)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('vllm:num_requests_running{engine="0"} 4 1700000000000', id="timestamp"),
        pytest.param('vllm:num_requests_running{engine="0"} 4\r', id="CRLF"),
        pytest.param('  vllm:num_requests_running{engine="0"} 4', id="leading blanks"),
        pytest.param('vllm:num_requests_running { engine = "0", } 4  ', id="odd blanks"),
        pytest.param('vllm:num_requests_running{engine="a} 7"} 4', id="a brace within quotes"),
        pytest.param('vllm:num_requests_running{engine="0"} 4 # {trace="} 9"} 9', id="exemplar"),
        pytest.param("vllm:num_requests_running 4", id="no labels"),
        pytest.param("vllm:num_requests_running\t4", id="tab"),
        pytest.param("vllm:num_requests_running{} 4", id="empty labels"),
    ],
)
def test_every_legal_form_of_a_line_is_read(line: str) -> None:
    assert read(f"# TYPE vllm:num_requests_running gauge\n{line}\nother 1\n").running_requests == 4.0
    assert read(f"{line}\n").running_requests == 4.0


@pytest.mark.parametrize(
    ("page", "line"),
    [
        pytest.param("ok 1\nvllm:num_requests_running four\n", 2, id="no number"),
        pytest.param("vllm:num_requests_running 1_0\n", 1, id="underscore"),
        pytest.param('vllm:num_requests_running{engine="0} 4\n', 1, id="open quote"),
        pytest.param('ok 1\nvllm:num_requests_running{engine="0",engine="1"} 4\n', 0, id="label twice"),
        pytest.param("vllm:num_requests_running{engine=0} 4\n", 0, id="no quotes"),
        pytest.param("vllm:num_requests_running\n", 1, id="no value"),
        pytest.param('vllm:time_to_first_token_seconds_bucket{le="1"} 4\n', 0, id="no +Inf"),
        pytest.param('vllm:time_to_first_token_seconds_bucket{le="+Inf"} 4\n', 0, id="no sum"),
        pytest.param("vllm:time_to_first_token_seconds_sum 4\n", 0, id="no buckets"),
        pytest.param('vllm:time_to_first_token_seconds_bucket{le="x"} 4\n', 0, id="le is a word"),
        pytest.param('vllm:time_to_first_token_seconds_bucket{a="x"} 4\n', 0, id="no le"),
        pytest.param('vllm:time_to_first_token_seconds_bucket{le="NaN"} 4\n', 0, id="le NaN"),
    ],
)
def test_a_broken_line_of_a_used_family_is_an_error(page: str, line: int) -> None:
    with pytest.raises(ExpositionError) as caught:
        read(page)

    assert caught.value.line in (line, 0)


def test_nonsense_in_families_we_do_not_use_is_passed_over() -> None:
    assert read("garbage {{{\nvllm:num_requests_running 4\nvllm:something_new nonsense\n").running_requests == 4.0


@pytest.mark.parametrize(
    "page", [b"", b"\n", b"<html><body>vllm:num_requests_running</body></html>", b"process_cpu_seconds_total 4\n"]
)
def test_a_page_without_our_series_is_not_an_engine(page: bytes) -> None:
    with pytest.raises(NotAnEngineError):
        read(page)


def test_a_page_cut_within_a_histogram_or_a_line_is_an_error() -> None:
    page = vllm_page()
    within_buckets = page.index(b'vllm:time_to_first_token_seconds_bucket{engine="0",model_name="m",le="0.5"}')

    for cut in (len(page) - 1, within_buckets, within_buckets + 20):
        with pytest.raises(ExpositionError, match="cut"):
            read(page[:cut])


@given(st.data())
def test_a_cut_page_never_gives_a_smaller_number(data: st.DataObject) -> None:
    page = vllm_page()
    whole = read(page)
    cut = page[: data.draw(st.integers(0, len(page)))]

    with contextlib.suppress(ExpositionError, NotAnEngineError):
        sample = read(cut)
        for row in ROWS:
            assert getattr(sample, row.field) in (None, getattr(whole, row.field))


@given(st.data())
def test_no_bytes_make_it_raise_anything_but_its_own_errors(data: st.DataObject) -> None:
    page = vllm_page()
    at = data.draw(st.integers(0, len(page)))
    garbled = page[:at] + data.draw(st.binary(max_size=8)) + page[at + data.draw(st.integers(0, 30)) :]

    with contextlib.suppress(ExpositionError, NotAnEngineError):
        read(garbled)


@given(st.binary(max_size=60), st.sampled_from([b"{", b" ", b'{le="', b"_bucket{", b"_sum "]))
def test_no_line_of_ours_makes_it_raise_anything_but_its_own_errors(tail: bytes, start: bytes) -> None:
    with contextlib.suppress(ExpositionError, NotAnEngineError):
        read(b"vllm:time_to_first_token_seconds" + start + tail + b"\nvllm:num_requests_running" + start + tail + b"\n")


def test_a_page_or_a_line_beyond_its_limit_is_refused() -> None:
    ours = b"vllm:num_requests_running 1\n"

    with pytest.raises(ExpositionError, match="more than"):
        read(ours + b"\n" * PAGE_BYTES_MAX)
    with pytest.raises(ExpositionError, match="more than"):
        read(ours + b"x" * (LINE_BYTES_MAX + 1) + b"\n")


@pytest.mark.parametrize(("extra", "is_taken"), [(-1, True), (0, True), (1, False)], ids=["under", "at", "over"])
def test_more_series_than_any_server_has_are_refused(extra: int, *, is_taken: bool) -> None:
    page = "vllm:num_requests_running 1\n" * (LINES_MAX + extra)

    if is_taken:
        assert read(page).running_requests == 1.0
    else:
        with pytest.raises(ExpositionError, match="20001 lines"):
            read(page)


def test_an_error_names_the_field_and_the_value() -> None:
    with pytest.raises(ExpositionError, match=r"running_requests cannot be read: b'four'"):
        read('vllm:num_requests_running{engine="0"} four\n')


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_names_every_field_of_a_sample() -> None:
    fields = set(EngineSample.__dataclass_fields__) - {"observed_at_s"}

    assert {row.field for row in ROWS} == fields
    assert all(f"| `{field}` |" in markdown_table() for field in fields)


def test_a_row_for_a_field_that_does_not_exist_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="gpu_mood"):
        dataclasses.replace(ROWS[0], field="gpu_mood")


def test_the_module_prints_its_table() -> None:
    root = Path(__file__).parents[2]

    printed = subprocess.run(
        [sys.executable, "-m", "metrics.catalog"], cwd=root, capture_output=True, text=True, check=True, timeout=30
    )

    assert printed.stdout == markdown_table()
