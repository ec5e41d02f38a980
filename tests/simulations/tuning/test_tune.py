"""`warmtide sim tune`: what it writes, what it says, and that it is the same each time."""

import math
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.parse import parse_policy
from simulations import cli
from simulations.commands.setting import setting_of
from simulations.commands.tune import Verdict
from simulations.errors import INTERRUPTED
from simulations.scenarios import load_scenario
from simulations.tuning import KNOBS, Goal, Judged, Search, Trial, document, policy_of, search, split_courses, turned
from simulations.tuning.knobs import DEFAULT_PLACES
from simulations.world import Setting

PLACES = st.lists(st.floats(0, 1), min_size=len(KNOBS), max_size=len(KNOBS))
HEADER = "arrived_at,num_prefill_tokens,num_decode_tokens\n"


@cache
def code_hour() -> Setting:
    return setting_of(load_scenario("code-hour"), 1)


def waves(tmp_path: Path, mean_per_s: float, swing: float, span_s: int = 1500) -> Path:
    """Requests whose rate rises and falls every five minutes."""
    path, total = tmp_path / "waves.csv", 0.0
    rows: list[str] = []
    for step in range(span_s * 10):
        total += mean_per_s * (1 + swing * math.sin(step / 10 * 2 * math.pi / 300)) / 10
        while total >= 1:
            total -= 1
            rows.append(f"{step / 10},{900 + len(rows) % 300},120\n")
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    (tmp_path / "own.yaml").write_text(
        f"traffic: {{trace: {waves(tmp_path, 2, 0.5, 300).name}}}\n"
        "machine: {profile: llama-3.1-8b-l40s}\nreplicas: {max: 4}\n"
    )
    return setting_of(load_scenario(str(tmp_path / "own.yaml")), 1)


@settings(deadline=None)
@given(places=PLACES)
def test_every_position_of_the_knobs_is_a_policy_that_the_controller_takes(places: list[float]) -> None:
    setting = code_hour()

    found = document("tuned", setting, 0.99, places)

    spec = parse_policy(found).spec
    assert (spec.replicas_min, spec.replicas_max) == (1, 12)
    assert policy_of(found).spec.targets == spec.targets
    for knob, place in zip(KNOBS, places, strict=True):
        assert turned(found).get(knob.name, knob.default) == knob.value(place)


def test_untouched_knobs_are_not_written_and_give_the_defaults(setting: Setting) -> None:
    found = document("tuned", setting, 0.99, DEFAULT_PLACES)

    assert turned(found) == {}
    assert sorted(found["spec"]) == ["leadTimePriorSeconds", "mode", "objectives", "replicas"]


def test_a_policy_is_written_that_the_controller_takes_and_the_same_over_two_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, texts = waves(tmp_path, 12, 0.8), []
    for jobs in ("1", "2"):
        out = tmp_path / f"{jobs}.yaml"
        call = ["tune", "--trace", str(trace), "--trials", "7", "--out", str(out), "--name", "gold", "--seed", "3"]
        call += ["--jobs", jobs]
        assert cli.main(call) == 0
        texts.append(out.read_text(encoding="utf-8"))

    told = capsys.readouterr().out
    found = yaml.safe_load(texts[0])
    assert texts[0] == texts[1]
    assert parse_policy(found).name == "default/gold"
    assert "tuned on thirds 1, 2 of 3, judged on 3" in told
    assert [line for line in texts[0].splitlines() if line.startswith("# ") and line[2:] in told.splitlines()]


def test_where_nothing_is_to_be_gained_it_says_so_and_writes_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = waves(tmp_path, 0.5, 0.0)

    assert cli.main(["tune", "--trace", str(trace), "--trials", "3"]) == 0

    out = capsys.readouterr().out
    assert "Tuning gains nothing on held-out traffic: these are the defaults." in out
    assert turned(yaml.safe_load(out[out.index("apiVersion") :])) == {}


def test_an_interrupt_keeps_the_best_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, calls = search.judge, []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return judge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search, "judge", interrupted)
    out = tmp_path / "best.yaml"

    code = cli.main(["tune", "--trace", str(waves(tmp_path, 8, 0.8)), "--trials", "50", "--out", str(out)])

    assert code == INTERRUPTED
    assert "interrupted; the best so far is kept" in capsys.readouterr().err
    assert parse_policy(yaml.safe_load(out.read_text(encoding="utf-8")))


def test_the_first_trial_is_the_default_and_no_more_are_made_than_asked_for(setting: Setting) -> None:
    courses = split_courses(load_scenario("code-hour"), 1, 1, lambda scenario, seed: setting)
    told: list[tuple[Trial, bool]] = []

    best = Search(
        name="x", courses=courses.trained, goal=Goal(), trials_max=9, seed=1, tell=lambda *trial: told.append(trial)
    ).run()

    assert turned(told[0][0].document) == {}
    assert [trial.number for trial, _ in told] == list(range(1, len(told) + 1))
    assert len(told) <= 9
    assert best.judged.score == min(trial.judged.score for trial, _ in told)
    assert [trial for trial, is_best in told if is_best][-1] == best


def test_a_week_is_tuned_on_its_first_days(setting: Setting) -> None:
    requests = setting.requests.copy()
    requests["arrived_at_s"] *= 3 * 86_400 / requests["arrived_at_s"][-1]
    week = split_courses(
        load_scenario("code-hour"),
        1,
        2,
        lambda scenario, seed: Setting(
            requests=requests,
            config=setting.config,
            times=setting.times,
            bounds=setting.bounds,
            replicas_at_start=1,
        ),
    )

    assert week.says == "tuned on days 1, 2 of 3, judged on 3"
    days = [*week.trained, *week.held_out]
    assert sum(len(day.setting.requests) for day in days) == pytest.approx(len(requests), abs=1)
    assert all(day.setting.span_s <= 86_400 for day in days)


@pytest.mark.parametrize(
    ("goal", "better", "worse"),
    [
        (Goal(), (0.99, 0.8), (0.99, 0.9)),
        (Goal(), (0.99, 1.2), (0.90, 0.2)),
        (Goal(cost_ratio=0.7), (0.97, 0.7), (0.96, 0.5)),
        (Goal(cost_ratio=0.7), (0.97, 0.7), (0.99, 0.8)),
    ],
    ids=["cheaper", "attains", "attains more", "within the cost"],
)
def test_goals_prefer(goal: Goal, better: tuple[float, float], worse: tuple[float, float]) -> None:
    assert goal.score(*better) < goal.score(*worse)


def judged(attainment_ratio: float, gpu_hours: float) -> Judged:
    cost_ratio = gpu_hours / 10
    score = Goal().score(attainment_ratio, cost_ratio)
    return Judged(attainment_ratio=attainment_ratio, gpu_hours=gpu_hours, cost_ratio=cost_ratio, score=score)


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        (judged(0.995, 8.0), "20.0% fewer GPU-hours, 99.50% in time instead of 95.00%."),
        (judged(0.98, 12.0), "20.0% more GPU-hours, 98.00% in time instead of 95.00%; the goal of 99.0% is missed."),
        (judged(0.95, 10.0), "Tuning gains nothing on held-out traffic: these are the defaults."),
        (judged(0.80, 1.0), "Tuning gains nothing on held-out traffic: these are the defaults."),
    ],
    ids=["gains", "misses the goal", "the same", "overfitted"],
)
def test_the_verdict_is_that_of_the_held_out_traffic(tuned: Judged, said: str) -> None:
    assert Verdict(plain=judged(0.95, 10.0), tuned=tuned, goal=Goal()).text().endswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trials", "1"], "--trials must be 2 to"),
        (["--attainment", "1.5"], "attainment must be in"),
        (["--cost", "-1"], "cost must be > 0"),
        (["--out", "/proc/none/x.yaml", "--trials", "2"], "cannot be written"),
    ],
    ids=["trials", "attainment", "cost", "out"],
)
def test_a_wrong_call_is_one_line_and_exit_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", "--trace", str(waves(tmp_path, 0.5, 0, 100)), *arguments]) == 2

    assert said in capsys.readouterr().err


def test_clients_who_wait_are_not_cut_into_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "closed.yaml"
    scenario.write_text(
        "traffic: {rates: azure_2024_conversation_week, lengths: azure_2023_conversation, rateRatio: 0.0002}\n"
        "clients: {turns: 2, thinkSeconds: 5}\nmachine: {profile: llama-3.1-8b-h100}\nreplicas: {max: 2}\n"
    )

    code = cli.main(["tune", "--scenario", str(scenario), "--trials", "2"])

    assert code == 2
    assert "clients who wait for answers cannot be cut into days" in capsys.readouterr().err
