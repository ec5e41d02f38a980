"""Our queries on a real Prometheus, over a history written for it and over what it scraped itself."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from metrics.clock import WallClock
from metrics.errors import HistoryQueryError
from metrics.prometheus import History, HistoryConfig, demand_query
from simulations.cluster.real_prometheus import prometheus, scraping, write_history


def openmetrics_history() -> list[str]:
    """An hour of two pods; Prometheus respells one of them half way, so that both spellings overlap at 1800 s."""
    lines = []
    for name, per_s in (("prompt_tokens", 30), ("generation_tokens", 10)):
        for prefix, times in (("vllm:", range(0, 1801, 30)), ("vllm_", range(1770, 3601, 30))):
            lines.append(f"# TYPE {prefix}{name} counter")
            for pod in ("llama-0", "llama-1", "other-0"):
                labels = f'{{namespace="ns",pod="{pod}"}}'
                lines.extend(f"{prefix}{name}_total{labels} {per_s * at_s} {at_s}" for at_s in times)
    return lines


async def test_a_real_prometheus_gives_the_demand_over_a_change_of_spelling(tmp_path: Path) -> None:
    await write_history(tmp_path, openmetrics_history())
    async with prometheus(tmp_path, WallClock()) as url:
        history = History(HistoryConfig(url=url))
        result = await history.query_range(demand_query("ns", "llama-.*"), start_s=300, end_s=3600, step_s=60)
        nothing = await history.query_range("no_such_metric", start_s=300, end_s=3600, step_s=60)
        with pytest.raises(HistoryQueryError):
            await history.query_range("sum(", start_s=300, end_s=3600, step_s=60)
        await numbers_of_now(history)

    (demand,) = result.series
    assert [at_s for at_s, _ in demand.points] == list(range(300, 3601, 60))
    # two pods of 40 tokens/s; where one spelling has just begun, `rate` sees less of it
    assert all(0 < value <= 80.1 for _, value in demand.points)
    assert sum(value == pytest.approx(80.0) for _, value in demand.points) >= 54
    assert nothing.is_empty


async def numbers_of_now(history: History) -> None:
    """What an instant query may give, from the server itself."""
    answers = [
        await history.query(promql) for promql in ("scalar(vector(3))", "vector(0)", "sum(no_such_metric)", "0/0")
    ]
    assert [(answer.value, answer.said) for answer in answers] == [(3.0, "3"), (0.0, "0"), (None, ""), (None, "NaN")]
    for promql, said in (
        ('label_replace(vector(1), "a", "b", "", "") or vector(2)', "2 series"),
        ("up[5m]", "a matrix"),
        ("sum(", "HTTP 400"),
    ):
        with pytest.raises(HistoryQueryError, match=said):
            await history.query(promql)


async def test_what_a_real_prometheus_scraped_from_a_real_exporter_is_found(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    tokens = [Counter(f"vllm:{name}_tokens", "As vLLM has it.", registry=registry) for name in ("prompt", "generation")]
    exporter, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    clock = WallClock()
    try:
        config = scraping({"llama-0": f"127.0.0.1:{exporter.server_port}/metrics"})
        query = demand_query("ns", "llama-[0-9]+", window_s=10.0)
        async with prometheus(tmp_path, clock, config=config) as url, asyncio.timeout(30):
            history = History(HistoryConfig(url=url))
            demand = 0.0
            while demand <= 0:
                for counter in tokens:
                    counter.inc(100)
                await asyncio.sleep(0.25)
                now_s = clock.now_s()
                result = await history.query_range(query, start_s=now_s - 5, end_s=now_s, step_s=1)
                demand = max((value for one in result.series for _, value in one.points), default=0.0)
    finally:
        exporter.shutdown()
        exporter.server_close()
        thread.join()

    assert demand > 0
