"""Coefficients from a server's counters: stretches with no idle moment, and the queries that find them."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.prometheus import HistoryResult, HistorySeries
from simulations.calibration import CalibrationError, Stretch, fit_stretches
from simulations.calibration.history import queries, read_stretches

TRUTH = np.array([8e-3, 80e-6, 60e-6, 90e-9])  # base, prefill token, decoding request, KV token


def stretches(count: int, *, scatter: float = 0.0) -> list[Stretch]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(count):
        batch, kv_tokens = rng.uniform(1, 60), rng.uniform(500, 90_000)
        steps, prefill_tokens = rng.uniform(300, 4000), rng.uniform(0, 200_000)
        done = Stretch(
            length_s=1.0,
            steps=steps,
            prefill_tokens=prefill_tokens,
            generated_tokens=batch * steps,
            kv_tokens=kv_tokens,
        )
        found.append(replace(done, length_s=float(np.dot(done.row, TRUTH)) * rng.uniform(1 - scatter, 1 + scatter)))
    return found


def test_what_was_put_in_comes_out() -> None:
    found = fit_stretches(stretches(60))

    times = found.times
    got = [times.base_s, times.prefill_token_s, times.decode_sequence_s, times.kv_token_s]
    assert got == pytest.approx(TRUTH, rel=1e-6)
    assert found.held_out_each_ratio < 1e-6
    assert found.untold == ()


def test_scatter_shows_in_the_error_on_what_was_held_out() -> None:
    found = fit_stretches(stretches(300, scatter=0.2))

    assert 0.05 < found.held_out_each_ratio < 0.2
    assert abs(found.held_out_mean_ratio) < 0.05


def test_too_few_stretches_and_series_without_steps_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"5 stretches .* at least 12"):
        fit_stretches(stretches(5))
    with pytest.raises(CalibrationError, match="no time per step"):
        fit_stretches([replace(one, steps=0.0) for one in stretches(30)])


def test_every_query_takes_both_spellings() -> None:
    for query in queries('pod="a"', 60.0).values():
        assert "vllm:" in query
        assert "vllm_" in query
        assert query.count('{pod="a"}') == 2


class Recorded:
    """A Prometheus with two pods: one busy throughout, one that idles in every other minute."""

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult:
        at_s = np.arange(start_s, end_s + 1, step_s)
        if "min_over_time" in promql:
            rows = {"busy": np.full(len(at_s), 3.0), "idle": np.arange(len(at_s)) % 2.0}
        else:
            rates = {"_total_count": 50.0, "_total_sum": 900.0, "generation_tokens": 400.0, "kv_cache": 0.25}
            [said] = [rate for name, rate in rates.items() if name in promql]
            rows = {pod: np.full(len(at_s), said) for pod in ("busy", "idle")}
        return HistoryResult(
            series=tuple(
                HistorySeries(labels=(("pod", pod),), points=tuple(zip(at_s.tolist(), values.tolist(), strict=True)))
                for pod, values in rows.items()
            )
        )


async def test_only_stretches_without_an_idle_moment_are_taken() -> None:
    found = await read_stretches(Recorded(), "", start_s=0.0, end_s=600.0, step_s=60.0, kv_capacity_tokens=4000)

    assert len(found) == 11 + 5
    assert found[0] == Stretch(
        length_s=60.0, steps=3000.0, prefill_tokens=30_000.0, generated_tokens=24_000.0, kv_tokens=1000.0
    )


async def test_a_prometheus_that_knows_nothing_is_named_with_the_query() -> None:
    class Empty:
        async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult:
            return HistoryResult(series=())

    with pytest.raises(CalibrationError, match="knows nothing of sum by"):
        await read_stretches(Empty(), "", start_s=0.0, end_s=60.0, step_s=60.0, kv_capacity_tokens=1)
