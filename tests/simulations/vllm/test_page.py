"""The page against a real server's: the same families, types, labels and buckets; and what can be wrong with it."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics.catalog import read_sample
from metrics.errors import NotAnEngineError
from simulations.cluster.vllm import BadOptionsError, PageFaults, ServerOptions
from simulations.cluster.vllm.families import VERSIONS
from simulations.cluster.vllm.http_metrics import HttpMetrics
from simulations.cluster.vllm.page import Page
from simulations.cluster.vllm.stats import EngineStats
from simulations.replica import Engine, EngineConfig, Finished, Request, StepTimes

REAL_PAGES = Path(__file__).parents[3] / ".." / "shared" / "vllm"
# The real page was served with this context length: it decides the buckets of lengths.
REAL = ServerOptions(engine=EngineConfig(max_model_len_tokens=2048, block_size_tokens=128, num_gpu_blocks=16384))
STEPS = StepTimes(base_s=0.01, prefill_token_s=1e-4, decode_sequence_s=1e-4, kv_token_s=1e-7)

# Differences from a real 0.32 page that are meant: (family, what) → why. None is.
EXPLAINED: dict[tuple[str, str], str] = {}

Shape = dict[str, tuple[str, frozenset[tuple[str, ...]], tuple[str, ...]]]


def shape_of(text: str, prefix: str) -> Shape:
    """Family → (type, label names of its samples, bucket bounds)."""
    shape: Shape = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith(prefix):
            labels = frozenset(tuple(sorted({*sample.labels} - {"le"})) for sample in family.samples)
            bounds = tuple(sample.labels["le"] for sample in family.samples if "le" in sample.labels)
            shape[family.name] = (family.type, labels, tuple(dict.fromkeys(bounds)))
    return shape


def label_values(text: str) -> dict[str, frozenset[tuple[tuple[str, str], ...]]]:
    """Family → label values that tell its series apart, buckets and the capacity's labels aside."""
    return {
        family.name: frozenset(
            tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
            for sample in family.samples
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("vllm:") and family.name != "vllm:cache_config_info"
    }


def served(options: ServerOptions, requests: int = 5, shared_blocks: tuple[str, ...] = ()) -> tuple[EngineStats, Page]:
    """A page after some requests of 300 + 20 tokens ran to their end."""
    stats = EngineStats(options.engine)
    page = Page(options, stats, created_at_s=1_795_206_015.75)
    engine = Engine(options.engine, STEPS)
    for number in range(requests):
        name = str(number)
        engine.submit(Request(id=name, prompt_tokens=300, output_tokens=20, prefix_block_ids=shared_blocks))
    now_s = 0.0
    while engine.start_step(now_s) is not None:
        result = engine.finish_step()
        now_s = result.ended_at_s
        stats.step_ended(result)
        for done in result.finished:
            stats.first_token(done.ttft_s)
            stats.finished(done, reason="length", max_tokens=20, copies=1)
        stats.refresh(engine)
    return stats, page


def http_text(real_page: str) -> str:
    """HTTP families after the requests that the real page had seen: none, or some on three paths."""
    http_metrics = HttpMetrics("1.0")
    if "http_requests_created" in real_page:
        for path, method in (("/v1/completions", "POST"), ("/v1/chat/completions", "POST"), ("/v1/models", "GET")):
            http_metrics.answered(path, method, 200, duration_s=0.2)
            http_metrics.transferred(path, received_bytes=10, sent_bytes=20)
    return http_metrics.render()


@pytest.fixture(params=["idle", "load"])
def real_page(request: pytest.FixtureRequest) -> str:
    path = REAL_PAGES / f"metrics-0.32-{request.param}.txt"
    if not path.exists():
        pytest.skip("../shared/vllm is not there: no real page to compare with")
    return path.read_text(encoding="utf-8")


def test_every_vllm_family_has_the_real_ones_type_labels_and_buckets(real_page: str) -> None:
    ours, real = shape_of(served(REAL)[1].render(), "vllm:"), shape_of(real_page, "vllm:")

    differences = {
        (name, str((ours.get(name), real.get(name))))
        for name in ours.keys() | real.keys()
        if ours.get(name) != real.get(name)
    }
    assert differences == set(EXPLAINED)


def test_every_series_of_the_real_page_exists_with_its_label_values(real_page: str) -> None:
    assert label_values(served(REAL)[1].render()) == label_values(real_page)


def test_http_and_process_families_are_those_of_the_real_page(real_page: str) -> None:
    text = served(REAL)[1].render() + http_text(real_page)

    for prefix in ("http_", "python_", "process_"):
        assert shape_of(text, prefix) == shape_of(real_page, prefix)


def test_the_page_is_about_as_long_as_a_real_one(real_page: str) -> None:
    ours = served(REAL)[1].render() + http_text(real_page)

    assert len(ours) == pytest.approx(len(real_page), rel=0.15)


def test_the_catalog_reads_what_the_engine_did() -> None:
    _, page = served(REAL)

    sample = read_sample(page.render().encode(), observed_at_s=7.0)

    assert sample.running_requests == 0
    assert sample.prompt_tokens_total == sample.computed_prompt_tokens_total == 1500
    assert sample.generation_tokens_total == 100
    assert sample.finished_requests_total == 5
    assert sample.kv_cache_capacity_tokens == 16384 * 128
    assert sample.iteration_tokens_total == 1600
    assert sample.itl_s is not None
    assert sample.itl_s.count == 95  # tokens after the first ones
    assert sample.ttft_s is not None
    assert sample.ttft_s.count == 5
    assert sample.prompt_length_tokens is not None
    assert sample.prompt_length_tokens.sum == 1500
    assert sample.is_awake is True


def test_cached_prompt_tokens_are_told_from_computed_ones() -> None:
    stats, page = served(REAL, requests=2, shared_blocks=("a", "b"))

    sample = read_sample(page.render().encode(), observed_at_s=0.0)

    assert (sample.prompt_tokens_total, sample.computed_prompt_tokens_total) == (600, 600 - 256)
    assert (sample.prefix_cache_queried_tokens_total, sample.prefix_cache_hit_tokens_total) == (600, 256)
    assert stats.scalars["prompt_tokens_by_source"] == [344, 256, 0]
    assert stats.histograms["request_prefill_kv_computed_tokens"].sum == 344


def test_a_step_that_only_went_on_with_a_prefill_is_not_observed() -> None:
    chunked = EngineConfig(max_num_seqs=8, max_num_batched_tokens=128, max_model_len_tokens=2048)

    stats, _ = served(ServerOptions(engine=chunked), requests=1)

    steps = stats.histograms["iteration_tokens_total"]
    assert list(steps.cumulative())[-1] == 20  # 300 tokens took three steps, of which the last made a token
    assert steps.sum == 320


@pytest.mark.parametrize("version", VERSIONS)
def test_every_generation_of_names_says_the_same_of_load_and_latency(version: str) -> None:
    options = ServerOptions(engine=REAL.engine, metrics_version=version)
    newest = read_sample(served(REAL)[1].render().encode(), observed_at_s=0.0)

    sample = read_sample(served(options)[1].render().encode(), observed_at_s=0.0)

    for name in (
        *("running_requests", "waiting_requests", "kv_cache_usage_ratio", "kv_cache_capacity_tokens"),
        *("prompt_tokens_total", "generation_tokens_total", "prefix_cache_queried_tokens_total"),
        *("prefix_cache_hit_tokens_total", "preemptions_total", "finished_requests_total"),
        *("ttft_s", "itl_s", "queue_time_s", "e2e_s"),
    ):
        assert getattr(sample, name) == getattr(newest, name), name
        assert getattr(sample, name) is not None, name


@pytest.mark.parametrize(
    ("version", "shown", "hidden"),
    [
        ("0.8", "gpu_cache_usage_perc", "kv_cache_usage_perc"),
        ("0.8", "time_per_output_token_seconds", "inter_token_latency_seconds"),
        ("0.10", "gpu_prefix_cache_queries", "engine_sleep_state"),
        ("0.10", "kv_cache_usage_perc", "inter_token_latency_seconds"),
        ("0.11", "inter_token_latency_seconds", "gpu_cache_usage_perc"),
        ("0.12", "time_per_output_token_seconds", "prompt_tokens_by_source"),
        ("0.16", "prompt_tokens_by_source", "time_per_output_token_seconds"),
        ("0.20", "num_requests_waiting_by_reason", "request_num_preemptions"),
        ("0.30", "request_num_preemptions", "admission_rejections"),
        ("0.32", "admission_rejections", "gpu_cache_usage_perc"),
    ],
)
def test_each_version_has_its_names(version: str, shown: str, hidden: str) -> None:
    _, page = served(ServerOptions(engine=REAL.engine, metrics_version=version), requests=0)

    families = shape_of(page.render(), "vllm:")

    assert f"vllm:{shown}" in families
    assert f"vllm:{hidden}" not in families


def test_gauges_that_are_not_numbers_are_written_as_such_and_counters_go_on() -> None:
    _, page = served(REAL)

    page.set_faults(PageFaults(has_nan_gauges=True))
    text = page.render()

    assert 'vllm:num_requests_running{engine="0",model_name="m"} NaN\n' in text
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="m"} NaN\n' in text
    assert 'vllm:generation_tokens_total{engine="0",model_name="m"} 100.0\n' in text
    assert read_sample(text.encode(), observed_at_s=0.0).running_requests is None


def test_stuck_gauges_stay_while_counters_move_until_the_fault_ends() -> None:
    stats, page = served(REAL)
    stats.scalars["num_requests_running"][0] = 3.0

    page.set_faults(PageFaults(has_stuck_gauges=True))
    stats.scalars["num_requests_running"][0] = 8.0
    stats.scalars["generation_tokens"][0] = 900.0
    stuck = read_sample(page.render().encode(), observed_at_s=0.0)
    page.set_faults(PageFaults())
    healed = read_sample(page.render().encode(), observed_at_s=0.0)

    assert (stuck.running_requests, stuck.generation_tokens_total) == (3.0, 900.0)
    assert healed.running_requests == 8.0


def test_a_server_can_change_its_names_while_it_runs() -> None:
    _, page = served(REAL)

    page.set_faults(PageFaults(metrics_version="0.8"))
    renamed = page.render()
    page.set_faults(PageFaults())

    assert "vllm:gpu_cache_usage_perc" in renamed
    assert "vllm:kv_cache_usage_perc" not in renamed
    assert "vllm:kv_cache_usage_perc" in page.render()
    assert read_sample(renamed.encode(), observed_at_s=0.0).generation_tokens_total == 100
    with pytest.raises(BadOptionsError, match=r"'0\.9'"):
        PageFaults(metrics_version="0.9")


async def test_an_empty_page_is_a_200_without_a_byte(serve: Any, client: Any) -> None:
    server = await serve()

    server.faults = PageFaults(is_empty=True)
    async with client.get(f"{server.url}/metrics") as response:
        body = await response.read()

    assert (response.status, body) == (200, b"")
    with pytest.raises(NotAnEngineError):
        read_sample(body, observed_at_s=0.0)


async def test_a_page_that_hangs_does_not_stop_the_server(serve: Any, client: Any) -> None:
    server = await serve()

    server.faults = PageFaults(hangs=True)
    with pytest.raises(TimeoutError):
        await client.get(f"{server.url}/metrics", timeout=0.05)
    async with client.get(f"{server.url}/health") as response:
        assert response.status == 200
    server.faults = PageFaults()
    async with client.get(f"{server.url}/metrics") as response:
        assert response.status == 200


def test_a_model_name_with_quotes_percents_and_line_breaks_survives() -> None:
    name = 'a "quoted" 100%\\ name\nwith %s'
    _, page = served(ServerOptions(model_name=name, engine=REAL.engine))

    families = {family.name: family for family in text_string_to_metric_families(page.render())}

    assert families["vllm:num_requests_running"].samples[0].labels["model_name"] == name


def test_an_observation_on_a_bound_counts_at_that_bound() -> None:
    stats, page = served(REAL, requests=0)

    done = Finished(
        request=Request(id="a", prompt_tokens=10, output_tokens=1),
        scheduled_at_s=0.0,
        first_token_at_s=0.3,
        finished_at_s=0.3,
        cached_tokens=0,
        preemptions=0,
    )
    stats.finished(done, reason="stop", max_tokens=5, copies=1)
    text = page.render()

    assert 'vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3",model_name="m"} 1.0' in text
    assert 'vllm:request_prompt_tokens_bucket{engine="0",le="5.0",model_name="m"} 0.0' in text
    assert 'vllm:request_prompt_tokens_bucket{engine="0",le="10.0",model_name="m"} 1.0' in text
