"""The demo with real servers, its parts without them: what is seen, what is judged, and what a user is told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autoscaler.parse import parse_policy
from simulations.cluster.api import Object, WatchEvent
from simulations.cluster.loadgen import Outcome, RequestRecord
from simulations.cluster.real_vllm import find_venv, serve_command, write_model
from simulations.demo import cli, real
from simulations.demo.real_course import Course
from simulations.demo.real_verdict import RealVerdict, as_text, judge_real
from simulations.demo.watching import DecisionSeen

LABELS = {"serving.kserve.io/inferenceservice": "chat"}


def pod(name: str, *, ready: bool = False, going: bool = False, namespace: str = "demo") -> Object:
    metadata = {"namespace": namespace, "name": name, "labels": LABELS}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"kind": "Pod", "metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


def told(scraped: int, *, p50_s: float = 30.0, starts: int = 0) -> Object:
    status = {
        "freshness": {"podsScraped": scraped},
        "decision": {"lenses": [{"name": "queue", "replicas": scraped + 1}, {"name": "ttft"}]},
        "leadTimes": [{"tier": "cold", "nodeClass": "CPU", "p50Seconds": p50_s, "starts": starts}],
    }
    return {"kind": "ScaledService", "metadata": {"namespace": "demo", "name": "chat"}, "status": status}


def played() -> Course:
    """Two starts of 30 and 40 s; the second one's metrics used 2 s after Ready; the first one drains for 5 s."""
    course = Course()
    events: list[tuple[float, str, Object]] = [
        (0.0, "ADDED", pod("a")),
        (1.0, "ADDED", pod("elsewhere", namespace="other")),
        (30.0, "MODIFIED", pod("a", ready=True)),
        (30.5, "MODIFIED", told(1)),
        (40.0, "ADDED", pod("b")),
        (80.0, "MODIFIED", pod("b", ready=True)),
        (81.0, "MODIFIED", told(1, starts=1)),
        (82.0, "MODIFIED", told(2, p50_s=41.0, starts=2)),
        (90.0, "MODIFIED", pod("a", ready=True, going=True)),
        (95.0, "DELETED", pod("a", ready=True, going=True)),
    ]
    for at_s, kind, obj in events:
        course.take(WatchEvent(kind, obj), at_s)
    return course


def record(outcome: Outcome = Outcome.SERVED) -> RequestRecord:
    return RequestRecord(
        scheduled_s=0.0, sent_s=0.0, end_s=2.0, outcome=outcome, prompt_tokens=1, output_tokens=1, first_token_s=0.5
    )


def decisions(*replicas: int) -> list[DecisionSeen]:
    return [DecisionSeen(at_s=1.0, before=0, after=number, reason="FollowingQueue", steps=()) for number in replicas]


def verdict(course: Course, *outcomes: Outcome, replicas: tuple[int, ...] = (3, 1)) -> RealVerdict:
    records = [record(outcome) for outcome in outcomes]
    return judge_real(course, records, decisions(*replicas), retried_requests=1, drained_requests=2)


def test_a_run_is_told_from_what_the_watch_said_and_when() -> None:
    seen = verdict(played(), Outcome.SERVED)

    assert seen.starts_s == (30.0, 40.0)
    assert seen.used_after_s == [0.5, 2.0]
    assert seen.drains_s == [5.0]
    assert seen.lens_wishes == {"queue": 3}
    assert (seen.lead_time_measured_p50_s, seen.lead_time_learned_p50_s) == (40.0, 41.0)  # the newer start weighs more
    assert seen.shortfalls == []
    assert "Verdict: it holds." in as_text(seen)


def test_whatever_falls_short_is_named(tmp_path: Path) -> None:
    late = played()
    late.lives["b"].used_at_s = 86.0
    late.status["leadTimes"][0]["p50Seconds"] = 60.0

    seen = verdict(late, Outcome.SERVED, Outcome.ABORTED, replicas=(2,))
    seen.write(tmp_path / "results.json")

    complaints = [
        "1 requests lost: {'aborted by the server': 1}",
        "never more than 2 replicas",
        "it did not come back to 1 replica: [2]",
        "metrics of new replicas used after [0.5, 6.0] s, bar 5 s",
        "lead time learned 60.0 s, measured 40.0 s",
    ]
    assert seen.shortfalls == complaints
    assert json.loads((tmp_path / "results.json").read_text())["shortfalls"] == complaints
    assert "falls short" in as_text(seen)
    assert verdict(Course(), replicas=()).shortfalls[0] == "nothing was sent"


def test_policy_and_service_are_as_a_user_may_write_them() -> None:
    policy = parse_policy(real.policy())
    predictor = real.service()["spec"]["predictor"]

    assert policy.spec.replicas_max == real.REPLICAS_MAX
    assert f"--shutdown-timeout={real.DRAIN_S}" in predictor["containers"][0]["args"]
    assert predictor["terminationGracePeriodSeconds"] > real.DRAIN_S


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        pytest.param({"WARMTIDE_VLLM": "{0}/venv"}, True, id="named"),
        pytest.param({"WARMTIDE_VLLM": "{0}/elsewhere"}, False, id="named and not there"),
        pytest.param({"WARMTIDE_CACHE": "{0}"}, False, id="nothing in the cache"),
        pytest.param({"HOME": "{0}"}, False, id="nothing at home"),
    ],
)
def test_a_venv_counts_where_vllm_is_in_it(tmp_path: Path, variables: Mapping[str, str], found: bool) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "vllm").touch()
    environment = {name: value.format(tmp_path) for name, value in variables.items()}

    assert find_venv(environment) == (tmp_path / "venv" if found else None)


def test_the_model_is_its_configuration_alone(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")

    assert [file.name for file in model.iterdir()] == ["config.json"]
    assert json.loads((model / "config.json").read_text())["vocab_size"] == 31_000
    command = serve_command(tmp_path, model, host="{ip}", port="{port}", limits=["{args}"])
    assert command[:3] == [str(tmp_path / "bin" / "vllm"), "serve", str(model)]
    assert command[-1] == "{args}"


@pytest.mark.parametrize(
    ("present", "arguments", "said"),
    [
        pytest.param(False, [], "run `make vllm`", id="not installed"),
        pytest.param(True, ["--trace=x.csv"], "--trace is for the emulated engine", id="with a trace"),
    ],
)
def test_what_cannot_be_played_is_said_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, present: bool, arguments: list[str], said: str
) -> None:
    (tmp_path / "bin").mkdir()
    if present:
        (tmp_path / "bin" / "vllm").touch()
    monkeypatch.setenv("WARMTIDE_VLLM", str(tmp_path))

    code = cli.main(["--engine=vllm", f"--folder={tmp_path / 'demo'}", *arguments])

    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
