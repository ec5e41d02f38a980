"""The folder: files that others read, budgets that are kept or not, nothing half written."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from simulations.compare import Row
from simulations.outputs import (
    PolicyRun,
    PriceError,
    gate,
    meta_of,
    prices_of,
    read_budgets,
    read_prices,
    summarise,
    watts_of,
    write_folder,
)
from simulations.world import Setting

PROFILE = "llama-3.1-8b-l40s"
REQUEST_COLUMNS = [
    *("id", "scheduled_ms", "start_ms", "ttfb_ms", "tllt_ms", "latency_ms", "status"),
    *("prompt_tokens", "completion_tokens", "total_tokens", "error", "trace_id"),
]


@pytest.fixture(scope="module")
def runs(setting: Setting, rows: list[Row]) -> list[PolicyRun]:
    prices, watts = prices_of(PROFILE), watts_of(PROFILE)
    meta = meta_of(setting, source="test", profile=PROFILE)
    return [
        PolicyRun(
            policy=row.policy,
            outcome=row.outcome,
            results=summarise(row.policy, row.outcome, setting, prices, watts),
            meta=meta,
        )
        for row in rows
    ]


def written(path: Path, setting: Setting, runs: list[PolicyRun]) -> Path:
    write_folder(path, runs, "<!doctype html>", may_replace=path.exists())
    return path


def test_each_policy_has_the_files_that_others_read(tmp_path: Path, setting: Setting, runs: list[PolicyRun]) -> None:
    folder = written(tmp_path / "out", setting, runs)

    assert sorted(path.name for path in folder.iterdir()) == sorted(["report.html", *(run.policy for run in runs)])
    for run in runs:
        with (folder / run.policy / "requests.csv").open(newline="") as text:
            requests = list(csv.DictReader(text))
        assert list(requests[0]) == REQUEST_COLUMNS
        assert len(requests) == len(setting.requests)
        latencies = np.array([float(row["latency_ms"]) for row in requests])
        results = json.loads((folder / run.policy / "results.json").read_text())
        assert results["p95_ms"] == pytest.approx(np.percentile(latencies, 95))
        assert results["requests"] == {"total": len(requests), "success": len(requests)}
        assert json.loads((folder / run.policy / "meta.json").read_text())["policy"] == run.policy
        assert json.loads((folder / run.policy / "energy.json").read_text())["Wh_active"] > 0
        series = pyarrow.parquet.read_table(folder / run.policy / "series.parquet").to_pydict()
        assert sum(series["arrived_requests"]) == len(setting.requests)
        decisions = (folder / run.policy / "decisions.jsonl").read_text().splitlines()
        assert [json.loads(line)["after"] for line in decisions] == [one.after for one in run.outcome.decisions]


def test_replacing_leaves_nothing_of_before(tmp_path: Path, setting: Setting, runs: list[PolicyRun]) -> None:
    folder = written(tmp_path / "out", setting, runs)
    written(folder, setting, runs[:1])

    assert sorted(path.name for path in folder.iterdir()) == ["report.html", runs[0].policy]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_money_is_gpu_hours_times_price_with_overhead(tmp_path: Path, runs: list[PolicyRun]) -> None:
    file = tmp_path / "cost.yaml"
    file.write_text("gpu: {default: 2.0, NVIDIA-L40S: 3.0}\ncpu: {hourly_per_core: 0.04}\noverhead: {fraction: 0.5}\n")

    prices = read_prices(file, PROFILE)

    assert (prices.gpu, prices.per_gpu_hour, prices.overhead_fraction) == ("NVIDIA-L40S", 3.0, 0.5)
    assert read_prices(file, "somebody's own").per_gpu_hour == 2.0


def test_a_budget_is_kept_or_missed_by_so_much(tmp_path: Path, runs: list[PolicyRun]) -> None:
    file = tmp_path / "slo.json"
    file.write_text(
        json.dumps({"p95_ms": 1e9, "ttft_attainment_min": 1.0, "$per_1k_tokens": 0.0, "cold_multiplier_max": 2})
    )
    run = runs[-1]

    checks = gate(read_budgets(file), run.results.results, run.results.energy)

    told = {check.name: check.holds for check in checks}
    late = run.outcome.attainment_ratio < 1.0
    assert told == {"p95_ms": True, "share of first tokens too late": not late, "$per_1k_tokens": False}
    assert "over by" in next(check.line() for check in checks if check.name == "$per_1k_tokens")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        pytest.param("slo.json", "{", "cannot be parsed", id="no JSON"),
        pytest.param("slo.json", "[]", "expected a mapping, got list", id="a list"),
        pytest.param("slo.json", '{"other": 1}', "none of the budgets", id="nothing known"),
        pytest.param("slo.json", '{"p95_ms": "fast"}', "p95_ms is 'fast'", id="text"),
        pytest.param("slo.json", '{"ttft_attainment_min": 99}', "must be a share", id="per cent"),
        pytest.param("cost.yaml", "gpu: [1]", "gpu must be a mapping", id="no mapping"),
        pytest.param("cost.yaml", "gpu: {default: -1}", "gpu.default is '-1'", id="negative price"),
        pytest.param("cost.yaml", "a: b: c", "cannot be parsed", id="no YAML"),
    ],
)
def test_bad_files_of_prices_and_budgets_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    with pytest.raises(PriceError, match=name) as caught:
        read_budgets(file) if name.endswith("json") else read_prices(file, PROFILE)

    assert said in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriceError, match=r"absent\.json: No such file"):
        read_budgets(tmp_path / "absent.json")
