"""The past as traffic and as a course: what is read, what is not known, and what a wrong call is told."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoscaler.examples import NOW_S, decision, report
from autoscaler.report import render
from metrics.prometheus import HistoryResult, HistorySeries
from simulations import cli
from simulations.errors import ReplayError
from simulations.replays import Change, Course, Drawn, History, Service, read_decisions, read_past
from simulations.traces import joined

LOG = """\
2026-11-21 10:00:00,120 I autoscaler.leader: leading
2026-11-21 10:00:05,500 I autoscaler.controller: team-a/llama: 2 → 4 replicas (FollowingLoad)
2026-11-21 10:01:00,000 I autoscaler.controller: team-b/qwen: 1 would be 2 replicas (QueueGrows)
2026-11-21 10:07:30,250 I autoscaler.controller: team-a/llama: 4 → 3 replicas (StableShrink)
"""


class Known:
    """A Prometheus that answers by what is in the query."""

    def __init__(self, answers: dict[str, Callable[[float], float | None]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult:
        self.asked.append(promql)
        for part, value_at in self._answers.items():
            if part in promql:
                times = np.arange(start_s, end_s + step_s / 2, step_s).tolist()
                points = tuple((at_s, value) for at_s in times if (value := value_at(at_s)) is not None)
                return HistoryResult(series=(HistorySeries(labels=(), points=points),))
        return HistoryResult(series=())


def demand(at_s: float) -> float | None:
    """Four requests a second, six in the second half; nothing is known of a minute."""
    return None if 1500 <= at_s < 1560 else 4.0 if at_s <= 1800 else 6.0


def answers() -> dict[str, Callable[[float], float | None]]:
    return {
        "request_success_total": demand,
        "prompt_tokens_total": lambda at_s: None if demand(at_s) is None else 1000 * (demand(at_s) or 0),
        "generation_tokens_total": lambda at_s: None if demand(at_s) is None else 50 * (demand(at_s) or 0),
        "num_requests_running": lambda at_s: 2.0 if at_s <= 900 else 3.0,
    }


async def past(source: Known) -> History:
    service = Service(namespace="team-a", pods="llama-.*")
    return await read_past(source, service, begin_s=0, end_s=3600, step_s=30, ttft_s=2.0)


async def test_a_past_becomes_requests_like_its_own_and_a_course() -> None:
    history = await past(Known(answers()))
    found = joined(list(Drawn(history=history).chunks(3)))

    assert history.unknown_steps == 2
    assert history.span_s == 3600
    assert history.ttft_ratio is None
    assert (found.at_s < 1800).sum() == pytest.approx(7200, rel=0.05)
    assert (found.at_s >= 1800).sum() == pytest.approx(10_800, rel=0.05)
    assert found.prompt_tokens.mean() == pytest.approx(1000, rel=0.03)
    assert found.output_tokens.mean() == pytest.approx(50, rel=0.04)
    assert history.replicas == Course(changes=(Change(at_s=30, replicas=2), Change(at_s=930, replicas=3)))
    assert found.at_s.tobytes() == joined(list(Drawn(history=history).chunks(3))).at_s.tobytes()


async def test_both_spellings_are_asked_for_and_names_are_literal() -> None:
    source = Known(answers())
    await past(source)

    assert all("vllm:" in query and "vllm_" in query for query in source.asked)
    assert all('namespace=~"team-a",pod=~"llama-.*"' in query for query in source.asked)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("request_success_total",), "Prometheus has no requests of pods"),
        (("prompt_tokens_total", "generation_tokens_total"), "has no prompt tokens and no generated tokens of pods"),
    ],
    ids=["requests", "tokens"],
)
async def test_what_the_server_does_not_know_is_said(missing: tuple[str, ...], said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        await past(Known({name: value for name, value in answers().items() if name not in missing}))


async def test_a_past_with_more_gaps_than_data_is_refused() -> None:
    short = {name: lambda at_s: 1.0 if at_s < 1000 else None for name in answers()}

    with pytest.raises(ReplayError, match="data for 28% of the time only"):
        await past(Known(short))


def test_a_log_has_the_decisions_of_each_service(tmp_path: Path) -> None:
    path = tmp_path / "controller.log"
    path.write_text(LOG, encoding="utf-8")

    service, course = read_decisions(path, "team-a/llama")

    assert service == "team-a/llama"
    assert [change.replicas for change in course.changes] == [2, 4, 3]
    assert course.changes[2].at_s - course.changes[1].at_s == pytest.approx(444.75)
    assert course.changes[1].reason == "FollowingLoad"
    with pytest.raises(ReplayError, match=r"decisions of 2 services; name one: team-a/llama, team-b/qwen"):
        read_decisions(path, None)
    with pytest.raises(ReplayError, match=r"no decision of team-c/x; there are: team-a/llama"):
        read_decisions(path, "team-c/x")


def test_json_lines_and_status_objects_say_the_same(tmp_path: Path) -> None:
    lines, objects = tmp_path / "log.jsonl", tmp_path / "scs.json"
    message = "team-a/llama: 3 → 5 replicas (Steady)"
    lines.write_text(json.dumps({"time": "2027-01-15 08:00:00,000", "message": message}) + "\n", encoding="utf-8")
    status = render(report(decision(5, current=3)), {}, NOW_S)
    item = {"kind": "ScaledService", "metadata": {"namespace": "team-a", "name": "llama"}, "status": status}
    objects.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [item]}), encoding="utf-8")

    assert read_decisions(lines, None) == read_decisions(objects, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no decision is in it"),
        ('{"apiVersion": "v1", ', "expected JSON"),
        (
            '{"apiVersion": "v1", "kind": "ScaledService", "metadata": {"name": "a"}, '
            '"status": {"recentChanges": [{"time": "x"}]}}',
            "status.recentChanges is not as Warmtide writes it",
        ),
    ],
    ids=["empty", "cut off", "no numbers"],
)
def test_a_bad_record_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ReplayError, match=said) as caught:
        read_decisions(path, None)

    assert "\n" not in str(caught.value)


def test_a_course_knows_its_number_and_its_cost() -> None:
    course = Course(changes=(Change(at_s=-5, replicas=2), Change(at_s=1800, replicas=4)))

    assert [course.at(at_s) for at_s in (-9, 0, 1799.9, 1800, math.inf)] == [2, 2, 2, 4, 4]
    assert course.replica_hours(0, 3600) == 3.0
    assert course.most == 4


def test_recorded_decisions_are_replayed_on_the_trace_they_were_taken_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "controller.log").write_text(LOG, encoding="utf-8")
    rows = [f"{step / 4},700,60\n" for step in range(4 * 600)]
    (tmp_path / "trace.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(rows))
    call = ["replay", "--decisions", str(tmp_path / "controller.log"), "--trace", str(tmp_path / "trace.csv")]

    assert cli.main([*call, "--service", "team-a/llama", "--begin", "2026-11-21T10:00:00Z"]) == 0

    out = capsys.readouterr().out
    assert "2 decisions of team-a/llama: FollowingLoad, StableShrink" in out
    assert "as it was, simulated" in out
    assert "2026-11-21 10:00" in out
    first = out.splitlines()[-24].split()
    assert first[0] == "2026-11-21"
    assert float(first[2]) == pytest.approx(4.0, abs=0.5)  # requests a second
    assert 3.0 < float(first[3]) < 4.0  # from 2 to 4 replicas within these 25 seconds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --prometheus URL, or --decisions FILE"),
        (["--prometheus", "http://127.0.0.1:1"], "--prometheus needs --namespace NAME and --pods REGEX"),
        (["--prometheus", "nowhere", "--namespace", "a", "--pods", "b"], "Prometheus url must be http(s)://"),
        (["--prometheus", "http://127.0.0.1:1", "--namespace", "a", "--pods", "b"], "gave no answer"),
        (["--prometheus", "http://x", "--namespace", "a", "--pods", "b", "--end", "noon"], "--end must be a time"),
        (
            ["--prometheus", "http://x", "--namespace", "a", "--pods", "b", "--step", "0"],
            "give 1 to 100,000 steps",
        ),
        (["--decisions", "absent.log"], "absent.log cannot be read"),
    ],
    ids=["nothing", "whose", "url", "no server", "end", "step", "no file"],
)
def test_a_wrong_call_is_one_line_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["replay", *arguments]) == 2

    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
