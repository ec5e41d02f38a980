"""The demo's parts: settings, workload, yardsticks, what is watched, frames, verdict."""

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from autoscaler.parse import parse_policy
from autoscaler.policy.types import PodPhase
from simulations.cluster.api import Object, WatchEvent
from simulations.cluster.loadgen import Outcome, RequestRecord
from simulations.cluster.vllm.runtime import options_of_pod
from simulations.demo import cli, objects
from simulations.demo.caches import WarmStart
from simulations.demo.frame import Frame, Moment, write_timeline
from simulations.demo.live import LiveView, draw, sparkline
from simulations.demo.plain import PlainView
from simulations.demo.setting import NAMESPACE, SECONDS_MAX, SECONDS_MIN, SERVICE, Setting
from simulations.demo.static_fleet import peak_fleet, static_fleets
from simulations.demo.verdict import ATTAINMENT_BAR, Run, as_text, judge, percentile
from simulations.demo.watching import POD_LABELS, DecisionSeen, Watched, phase_of
from simulations.demo.workload import REQUESTS_MIN, Traffic, make_traffic
from simulations.errors import TraceError
from simulations.trace import Arrival

SHARED = Path(__file__).parents[3] / ".." / "shared" / "traces" / "AzureLLMInferenceTrace_conv.csv"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return make_traffic(Setting(seconds=SECONDS_MIN), None)


@pytest.mark.parametrize("seconds", [SECONDS_MIN - 0.1, SECONDS_MAX + 1, float("nan")])
def test_a_length_that_cannot_be_played_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be from 30 to 3600"):
        Setting(seconds=seconds)


def test_everything_shrinks_by_the_same_compression() -> None:
    setting = Setting(seconds=90)

    assert setting.compression == 40
    assert setting.cold_start_s == 5.0
    assert objects.scaling_policy(setting)["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 5


def test_the_policy_shipped_is_one_that_the_controller_takes() -> None:
    policy = parse_policy(objects.scaling_policy(Setting()))

    assert (policy.spec.replicas_min, policy.spec.replicas_max) == (3, 8)


def test_the_emulator_runs_what_the_static_fleets_are_replayed_on() -> None:
    setting = Setting()
    predictor = objects.inference_service(setting)["spec"]["predictor"]

    options = options_of_pod({"metadata": {"name": "p"}, "spec": {"containers": predictor["containers"]}})

    assert options.engine == setting.engine
    assert options.real_step_times == setting.step_times
    assert options.shutdown_timeout_s < predictor["terminationGracePeriodSeconds"]


def test_the_same_seed_plays_the_same_requests(traffic: Traffic) -> None:
    assert make_traffic(Setting(seconds=SECONDS_MIN), None) == traffic
    assert make_traffic(Setting(seconds=SECONDS_MIN, seed=9), None) != traffic


def test_the_traffic_fills_the_time_and_needs_a_fleet(traffic: Traffic) -> None:
    peak, _ = peak_fleet(traffic.arrivals, traffic.capacity_tokens_per_s)

    assert 0.95 * SECONDS_MIN < traffic.arrivals[-1].at_s <= SECONDS_MIN
    assert 6 <= peak <= 14
    assert all(arrival.prompt_tokens > 0 and arrival.output_tokens > 0 for arrival in traffic.arrivals)


@pytest.mark.skipif(not SHARED.exists(), reason="the real Azure trace is not beside this checkout")
def test_a_real_trace_is_cut_to_the_same_size(traffic: Traffic) -> None:
    real = make_traffic(Setting(seconds=SECONDS_MIN), SHARED)

    assert real.recorded == 19_366
    assert len(real.arrivals) == pytest.approx(len(traffic.arrivals), rel=0.3)


def rows(count: int, *, prompt: int = 100, step_s: int = 1) -> str:
    stamps = (f"2023-11-16 18:{step * step_s // 60:02}:{step * step_s % 60:02}" for step in range(count))
    return HEADER + "".join(f"{stamp},{prompt},10\n" for stamp in stamps)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(rows(REQUESTS_MIN - 1), "at least 50 requests", id="too few"),
        pytest.param(rows(60, prompt=20_000), "20000 tokens exceeds", id="too long"),
        pytest.param(rows(60, step_s=0), "all requests come at the same time", id="no time passes"),
    ],
)
def test_a_trace_that_cannot_be_played_is_told_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)

    with pytest.raises(TraceError, match=said):
        make_traffic(Setting(), path)


def test_just_enough_requests_are_played(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(rows(REQUESTS_MIN))

    assert len(make_traffic(Setting(), path).arrivals) == REQUESTS_MIN


def test_the_smallest_fleet_reaches_what_one_fewer_does_not(traffic: Traffic) -> None:
    setting, capacity = Setting(seconds=SECONDS_MIN), traffic.capacity_tokens_per_s

    fleets = static_fleets(traffic.arrivals, setting, attainment_ratio=ATTAINMENT_BAR, capacity=capacity)

    assert fleets.smallest is not None
    assert fleets.smallest.attainment_ratio(ttft_s=2.0) >= ATTAINMENT_BAR
    assert fleets.smallest.replicas <= fleets.peak_replicas


def pod(name: str, *, ready: bool = True, scheduled: bool = True, **metadata: object) -> Object:
    conditions = [
        {"type": "Ready", "status": str(ready)},
        {"type": "PodScheduled", "status": str(scheduled)},
    ]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(POD_LABELS), **metadata},
        "status": {"conditions": conditions},
    }


@pytest.mark.parametrize(
    ("given", "phase"),
    [
        (pod("p"), PodPhase.READY),
        (pod("p", ready=False), PodPhase.STARTING),
        (pod("p", ready=False, scheduled=False), PodPhase.UNSCHEDULABLE),
        (pod("p", deletionTimestamp="2026-01-01T00:00:00Z"), PodPhase.TERMINATING),
        ({"metadata": {"name": "new"}}, PodPhase.STARTING),
    ],
    ids=["ready", "starting", "unschedulable", "terminating", "new"],
)
def test_a_pods_phase(given: Object, phase: PodPhase) -> None:
    assert phase_of(given) is phase


def test_replica_seconds_count_every_pod_that_exists_from_the_start_of_the_traffic() -> None:
    watched = Watched()
    watched.take(WatchEvent("ADDED", pod("a")), 0.0)
    watched.begin(10.0)

    watched.take(WatchEvent("ADDED", pod("b", ready=False)), 12.0)
    watched.take(WatchEvent("MODIFIED", pod("b", deletionTimestamp="2026-01-01T00:00:00Z")), 13.0)
    watched.take(WatchEvent("DELETED", pod("b")), 15.0)
    watched.take(WatchEvent("ADDED", pod("c") | {"metadata": {"name": "c", "namespace": "other"}}), 15.0)

    assert watched.replica_seconds(20.0) == 10 + 3
    assert watched.replica_seconds(20.0) == 13


STEP: Mapping[str, object] = {"replicas": 3, "reason": "FollowingQueue", "detail": ""}


def change(second: int, before: int, after: int) -> Object:
    return {"time": f"1970-01-01T00:00:{second:02}Z", "before": before, "after": after, "reason": "FollowingQueue"}


def service(*changes: Object, steps: int = 1) -> WatchEvent:
    """A ScaledService; its changes newest first, as the controller keeps them."""
    newest = changes[0]
    decision = {"current": newest["before"], "replicas": newest["after"], "steps": [STEP] * steps}
    status = {"decision": decision, "recentChanges": list(changes)}
    metadata = {"name": SERVICE, "namespace": NAMESPACE}
    return WatchEvent("MODIFIED", {"kind": "ScaledService", "metadata": metadata, "status": status})


def test_every_change_since_the_start_of_the_traffic_is_kept_once_and_the_largest_is_told() -> None:
    watched = Watched()
    before, up, more, down = change(1, 1, 3), change(4, 3, 5), change(5, 5, 6), change(9, 6, 4)
    watched.take(service(before), 1.0)
    watched.begin(2.0)

    for event in (service(before), service(more, up, before), service(more, up), service(down, more, up, steps=3)):
        watched.take(event, 10.0)

    assert [(seen.at_s, seen.before, seen.after) for seen in watched.decisions] == [(2, 3, 5), (8, 5, 6), (8, 6, 4)]
    assert [len(seen.steps) for seen in watched.decisions] == [0, 1, 3]  # one status told of two changes
    assert watched.desired == 4
    assert watched.told is not None
    assert watched.told[0]["status"]["recentChanges"][0] == down


def moment(at_s: float = 0.0, **changes: float) -> Moment:
    base = Moment(
        at_s=at_s,
        demand_tokens_per_s=1000.0,
        outstanding_requests=3,
        waiting_requests=2.0,
        kv_cache_usage_ratio=0.25,
        ready=3,
        starting=1,
        terminating=1,
        desired=4,
        served=7,
        lost=0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # all of them are numbers


DECISION = DecisionSeen(at_s=1.0, before=3, after=4, reason="FollowingQueue", steps=())


def frame(*history: Moment, decisions: tuple[DecisionSeen, ...] = (DECISION,)) -> Frame:
    return Frame(seconds=30, requests=10, history=history, decisions=decisions, ttft_p95_s=0.5, ttft_objective_s=2.0)


def test_the_log_tells_each_decision_once_and_a_summary_every_five_seconds() -> None:
    out = StringIO()
    view = PlainView(out)

    for at_s in (0.0, 0.5, 4.5, 5.0, 9.5, 10.0):
        view.show(frame(moment(at_s)))
    view.close()

    lines = out.getvalue().splitlines()
    assert sum("3 → 4 replicas: FollowingQueue" in line for line in lines) == 1
    assert [line.split()[0] for line in lines if "tokens/s in" in line] == ["0.0", "5.0", "10.0"]


def test_the_log_is_in_the_order_of_time_though_a_decision_is_told_late() -> None:
    out = StringIO()
    view = PlainView(out)

    view.show(frame(moment(0.0), decisions=()))
    view.show(frame(moment(2.0), decisions=()))
    assert out.getvalue() == ""  # a status may still tell of a decision before that
    view.show(frame(moment(5.0), decisions=(replace(DECISION, at_s=4.1),)))
    view.show(frame(moment(5.5), decisions=(replace(DECISION, at_s=4.1),)))
    view.say("the end")

    told = [line.split()[0] for line in out.getvalue().splitlines()]
    assert told == ["0.0", "4.1", "5.0", "the"]


def test_the_live_view_draws_what_matters() -> None:
    console = Console(file=StringIO(), width=120, force_terminal=True, color_system=None)
    view = LiveView(console)

    view.show(frame(moment(), moment(1.0, waiting_requests=9.0)))
    view.say("done")

    console.print(draw(frame(moment(waiting_requests=9.0)), 40))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    for word in ("9 waiting", "3 ready, 4 wanted", "1 starting, 1 leaving", "25%", "0.50 s", "FollowingQueue", "done"):
        assert word in text


def test_both_views_show_a_run_whose_end_nobody_knows() -> None:
    out, console = StringIO(), Console(file=StringIO(), width=120, force_terminal=True, color_system=None)
    endless = replace(frame(moment(outstanding_requests=5)), seconds=None, requests=None, ttft_objective_s=None)

    view = PlainView(out)
    view.show(endless)
    view.close()
    console.print(draw(endless, 40))

    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "7 served, 0 lost" in out.getvalue()
    for word in ("5 on their way", "no objective", " s ─"):
        assert word in text


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 5, ""),
        ([0.0, 0.0], 5, "  "),
        ([0.0, 4.0, 8.0], 5, " ▄█"),
        ([1.0, 8.0, 1.0, 8.0], 2, "██"),
    ],
    ids=["nothing", "all zero", "rising", "a column shows its largest"],
)
def test_sparkline(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


def test_the_timeline_is_a_csv_with_a_row_per_moment(tmp_path: Path) -> None:
    write_timeline(tmp_path / "timeline.csv", [moment(0.0), moment(0.5)])

    header, *body = (tmp_path / "timeline.csv").read_text().splitlines()
    assert header.startswith("at_s,demand_tokens_per_s,")
    assert [row.split(",")[0] for row in body] == ["0.0", "0.5"]


def record(ttft_s: float | None, outcome: Outcome = Outcome.SERVED) -> RequestRecord:
    return RequestRecord(
        scheduled_s=1.0,
        sent_s=1.0,
        end_s=10.0,
        outcome=outcome,
        prompt_tokens=5,
        output_tokens=5,
        first_token_s=None if ttft_s is None else 1.0 + ttft_s,
    )


@pytest.mark.parametrize(
    ("records", "replica_seconds", "shortfalls"),
    [
        pytest.param([record(0.5)] * 20, 20.0, [], id="all well"),
        pytest.param([record(0.5)] * 19 + [record(2.1)], 20.0, [], id="just enough within the objective"),
        pytest.param([record(0.5)] * 18 + [record(2.1)] * 2, 20.0, ["attainment 90.0%"], id="too slow"),
        pytest.param([record(2.0)] * 20, 20.0, [], id="just within the objective"),
        pytest.param(
            [record(0.5)] * 19 + [record(None, Outcome.ABORTED)], 20.0, ["1 requests lost: {'aborted by"], id="lost"
        ),
        pytest.param([record(0.5)] * 20, 69.9, [], id="just cheap enough"),
        pytest.param([record(0.5)] * 20, 70.0, ["70% of the static"], id="not cheaper"),
        pytest.param([], 0.0, ["nothing was sent"], id="no request at all"),
    ],
)
def test_the_verdict(
    records: list[RequestRecord], replica_seconds: float, shortfalls: list[str], traffic: Traffic
) -> None:
    arrivals = tuple(Arrival(at_s=0.1 * step, prompt_tokens=1990, output_tokens=10) for step in range(20))
    run = Run(
        setting=Setting(),
        traffic=replace(traffic, arrivals=arrivals, capacity_tokens_per_s=2000.0),
        records=records,
        replica_seconds=replica_seconds,
        decisions=(DECISION,),
        retried_requests=0,
        policy={},
        warm_start=WarmStart(model_bytes=1, cold_s=10.0, prefetch_s=5.0, warm_s=2.0),
    )
    fleets = static_fleets(arrivals, Setting(), attainment_ratio=ATTAINMENT_BAR, capacity=2000.0)
    assert fleets.peak_replicas == 10

    verdict = judge(run, fleets)

    assert len(verdict.shortfalls) == len(shortfalls)
    for found, expected in zip(verdict.shortfalls, shortfalls, strict=True):
        assert expected in found
    assert ("Verdict: it holds." in as_text(verdict)) == (not shortfalls)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([1.0], 0.95, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([1.0, 2.0], 1.0, 2.0)],
)
def test_percentile(values: list[float], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        pytest.param("there", "File exists", id="a file"),
        pytest.param("there/demo", "Not a directory", id="below a file"),
        pytest.param("/proc/demo", "No such file or directory", id="no place for files"),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, said: str
) -> None:
    (tmp_path / "there").write_text("a file")
    place = tmp_path / folder

    assert cli.main(["--seconds=30", f"--folder={place}"]) == 2

    assert capsys.readouterr().err == f"warmtide demo: --folder {place} cannot be written: {said}\n"
