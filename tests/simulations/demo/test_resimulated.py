"""What a demo leaves in its folder is read back, and simulated with the same policy."""

import csv
import json
from pathlib import Path

import pytest

from simulations.cluster.loadgen import Outcome, RequestRecord
from simulations.demo import objects
from simulations.demo.frame import Moment, write_timeline
from simulations.demo.recording import write_requests
from simulations.demo.resimulated import live_course, simulated_course
from simulations.demo.run import REQUESTS, RESULTS, TIMELINE
from simulations.demo.setting import Setting

SECONDS = 60.0


def record(due_s: float, *, outcome: Outcome = Outcome.SERVED) -> RequestRecord:
    return RequestRecord(
        scheduled_s=due_s,
        sent_s=due_s + 0.001,
        end_s=due_s + 0.8,
        outcome=outcome,
        prompt_tokens=900,
        output_tokens=20,
        received_tokens=20,
        first_token_s=due_s + 0.3,
    )


def moment(at_s: float) -> Moment:
    numbers = {
        "demand_tokens_per_s": 0.0,
        "outstanding_requests": 1,
        "waiting_requests": 0.0,
        "kv_cache_usage_ratio": 0.1,
    }
    return Moment(at_s=at_s, ready=3, starting=0, terminating=0, desired=3, served=0, lost=0, **numbers)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    setting = Setting(seconds=SECONDS)
    write_requests(tmp_path / REQUESTS, [record(number * 0.2) for number in reversed(range(250))])
    write_timeline(tmp_path / TIMELINE, [moment(number * 0.5) for number in range(120)])
    results = {
        "seconds": SECONDS,
        "seed": 1,
        "duration_s": SECONDS,
        "replica_seconds": 3 * SECONDS,
        "policy": objects.scaling_policy(setting)["spec"],
    }
    (tmp_path / RESULTS).write_text(json.dumps(results))
    return tmp_path


def test_requests_stand_in_the_order_in_which_they_were_due(folder: Path) -> None:
    with (folder / REQUESTS).open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert [int(row["id"]) for row in rows] == list(range(250))
    assert float(rows[-1]["scheduled_ms"]) == pytest.approx(249 * 200)
    assert {row["status"] for row in rows} == {"200"}
    assert float(rows[0]["ttfb_ms"]) == pytest.approx(300)


def test_a_quiet_demo_needs_its_least_replicas_in_the_simulation_too(folder: Path) -> None:
    live = live_course(folder)

    simulated = simulated_course(folder, live)

    assert len(simulated.replicas) == len(live.replicas) == 120
    assert simulated.replicas.mean() == pytest.approx(3.0, abs=0.1)
    assert simulated.replica_seconds == pytest.approx(live.replica_seconds, rel=0.1)
    assert simulated.attainment_ratio == live.attainment_ratio == 1.0
    assert simulated.ttft_p95_s < 1.0
