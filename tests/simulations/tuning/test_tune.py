"""`warmtide sim tune`: what it writes, what it says, and that it is the same each time."""

import math
from dataclasses import replace
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
from simulations.tuning import (
    KNOBS,
    Goal,
    Judged,
    Search,
    Served,
    Trial,
    document,
    policy_of,
    search,
    split_courses,
    turned,
)
from simulations.tuning.knobs import DEFAULT_PLACES
from simulations.world import ALONE, Setting

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


def test_an_objective_between_tokens_is_one_of_the_policy(setting: Setting) -> None:
    found = document("tuned", replace(setting, itl_s=0.06), 0.99, DEFAULT_PLACES)

    assert parse_policy(found).spec.objectives.itl_s == 0.06


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

    assert turned(told[0][0].documents[ALONE]) == {}
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
    assert sum(len(day.services[ALONE].requests) for day in days) == pytest.approx(len(requests), abs=1)
    assert all(day.services[ALONE].span_s <= 86_400 for day in days)


@pytest.mark.parametrize(
    ("goal", "better", "worse"),
    [
        (Goal(), (0.99, 0.8), (0.99, 0.9)),
        (Goal(), (0.99, 1.2), (0.90, 0.2)),
        (Goal(cost_ratio=0.7), (0.97, 0.7), (0.96, 0.5)),
        (Goal(cost_ratio=0.7), (0.97, 0.7), (0.99, 0.8)),
        (Goal(), (0.99, 0.99, 0.9), (1.0, 0.98, 0.9)),
    ],
    ids=["cheaper", "attains", "attains more", "within the cost", "all services attain"],
)
def test_goals_prefer(goal: Goal, better: tuple[float, ...], worse: tuple[float, ...]) -> None:
    assert goal.score(better[:-1], better[-1]) < goal.score(worse[:-1], worse[-1])


def judged(attainment_ratio: float, gpu_hours: float, **others: float) -> Judged:
    """One service, or one beside others that attain so much."""
    ratios = {"chat": attainment_ratio, **others} if others else {ALONE: attainment_ratio}
    services = {name: Served(requests=100, met=100 * ratio) for name, ratio in ratios.items()}
    whole = Served(requests=100, met=100 * attainment_ratio, gpu_hours=gpu_hours, static_gpu_hours=10.0)
    score = Goal().score(list(ratios.values()), whole.cost_ratio)
    return Judged(whole=whole, services=services, score=score)


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        (judged(0.995, 8.0), "20.0% fewer GPU-hours, 99.50% in time instead of 95.00%."),
        (judged(0.98, 12.0), "20.0% more GPU-hours, 98.00% in time instead of 95.00%; the goal of 99.0% is missed."),
        (judged(0.95, 10.0), "Tuning gains nothing on held-out traffic: these are the defaults."),
        (judged(0.80, 1.0), "Tuning gains nothing on held-out traffic: these are the defaults."),
        (
            judged(0.995, 8.0, code=0.985),
            "99.50% in time instead of 95.00%; the goal of 99.0% is missed by code (98.50%).",
        ),
    ],
    ids=["gains", "misses the goal", "the same", "overfitted", "one of two misses the goal"],
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


POOLS = """\
traffic: {rates: azure_2023_conversation, rateRatio: 4, endSeconds: 240}
machine: {profile: llama-3.1-8b-h100, maxModelLenTokens: 16384, numGpuBlocks: 12000}
replicas: {max: 3}
startup: {coldSeconds: 30, warmSeconds: 15}
pools: {prefill: {max: 2, maxNumBatchedTokens: 8192}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}
"""
SERVICES = """\
nodes: [{name: own, count: 4}]
services:
  - name: chat
    traffic: {rates: azure_2023_conversation, rateRatio: 2, endSeconds: 240}
    machine: &machine {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 16384}
    replicas: {max: 3}
  - name: code
    traffic: {rates: azure_2023_code, endSeconds: 240}
    machine: *machine
    replicas: {max: 3}
    objective: {ttftSeconds: 4}
"""


@pytest.mark.parametrize(
    ("text", "names", "most"),
    [(POOLS, ["gold-prefill", "gold-decode"], [2, 3]), (SERVICES, ["gold-chat", "gold-code"], [3, 3])],
    ids=["two pools", "two services"],
)
def test_each_pool_and_each_service_gets_a_policy_that_the_controller_takes(
    text: str, names: list[str], most: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, out = tmp_path / "own.yaml", tmp_path / "gold.yaml"
    scenario.write_text(text, encoding="utf-8")
    call = ["tune", "--scenario", str(scenario), "--trials", "6", "--courses", "1", "--name", "gold"]

    code = cli.main([*call, "--out", str(out)])

    told = capsys.readouterr().out
    found = list(yaml.safe_load_all(out.read_text(encoding="utf-8")))
    specs = [parse_policy(one) for one in found]
    assert code == 0
    assert [one.name for one in specs] == [f"default/{name}" for name in names]
    assert [one.spec.replicas_max for one in specs] == most
    assert "tuned on 1 draws of the traffic, judged on 1 others" in told
    assert ("  chat" in told) == ("chat" in names[0])  # what each service got


def test_knobs_of_parts_are_turned_together_first_and_then_part_by_part(tmp_path: Path) -> None:
    scenario = tmp_path / "own.yaml"
    scenario.write_text(POOLS, encoding="utf-8")
    courses = split_courses(load_scenario(str(scenario)), 1, 1, setting_of)
    told: list[Trial] = []

    Search(
        name="x", courses=courses.trained, goal=Goal(), trials_max=12, seed=1, tell=lambda trial, _: told.append(trial)
    ).run()

    knobs = [[turned(one) for one in trial.documents.values()] for trial in told]
    first = round(12 * search.EVOLUTION_RATIO)
    assert len(told) == 12
    assert all(prefill == decode for prefill, decode in knobs[:first])
    of_prefill, of_decode = knobs[first:10], knobs[10:]
    assert len({str(decode) for _, decode in of_prefill}) == 1
    assert len({str(prefill) for prefill, _ in of_decode}) == 1
    assert any(prefill != decode for prefill, decode in knobs[first:])


def test_pools_are_cut_into_parts_of_a_recording(tmp_path: Path) -> None:
    waves(tmp_path, 6, 0.5, 300)
    (tmp_path / "own.yaml").write_text(
        "traffic: {trace: waves.csv}\nmachine: {profile: llama-3.1-8b-h100}\nreplicas: {max: 2}\n"
        "pools: {prefill: {max: 2}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}\n",
        encoding="utf-8",
    )

    courses = split_courses(load_scenario(str(tmp_path / "own.yaml")), 1, 2, setting_of)

    assert courses.says == "tuned on thirds 1, 2 of 3, judged on 3"
    assert all(course.services[ALONE].span_s < 101 for course in (*courses.trained, *courses.held_out))
    assert list(courses.trained[0].parts) == ["prefill", "decode"]
