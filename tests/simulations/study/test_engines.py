"""The same trials in this process, in several, and on a Ray cluster: the same figures."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulations.errors import SimulationError, UsageError
from simulations.scenarios import load_scenario
from simulations.study import STATIC, Engine, Figures, Trial, carry_out_all, spread_over

ROOT = Path(__file__).parents[3]
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    hour = load_scenario("chat-hour")
    minutes = replace(hour, traffic=replace(hour.traffic, window=replace(hour.traffic.window, end_s=150.0)))
    return [
        Trial(scenario=minutes, seed=seed, policy=policy) for seed in (1, 2) for policy in (STATIC, "warmtide", "kpa")
    ]


@pytest.fixture(scope="module")
def alone(trials: list[Trial]) -> list[Figures]:
    return list(carry_out_all(trials))


def by_key(found: list[Figures]) -> list[Figures]:
    return sorted(found, key=lambda one: (one.key.seed, one.key.policy))


def test_one_process_keeps_the_order_and_repeats_itself(trials: list[Trial], alone: list[Figures]) -> None:
    assert [one.key for one in alone] == [trial.key for trial in trials]
    assert list(carry_out_all(trials)) == alone
    assert len({one.gpu_hours for one in alone}) > 2


def test_two_processes_find_the_same(trials: list[Trial], alone: list[Figures]) -> None:
    assert by_key(list(carry_out_all(trials, jobs=2))) == by_key(alone)


def test_who_stops_listening_ends_the_work(trials: list[Trial]) -> None:
    found = carry_out_all(trials, jobs=2)

    next(found)
    found.close()


def test_a_process_that_is_killed_is_told_in_one_line() -> None:
    with pytest.raises(SimulationError, match="was killed; fewer of them"), spread_over(2) as spread:
        list(spread(os._exit, [1]))


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_it_is_said_how_to_get_it(trials: list[Trial]) -> None:
    with pytest.raises(UsageError, match="pip install"):
        list(carry_out_all(trials, engine=Engine.RAY))


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed (extra: ray)")
@pytest.mark.enable_socket
def test_a_ray_cluster_finds_the_same(trials: list[Trial], alone: list[Figures]) -> None:
    assert by_key(list(carry_out_all(trials, engine=Engine.RAY))) == by_key(alone)


INTERRUPTED = """
import os, signal
from simulations.study import spread_over

if __name__ == "__mp_main__":  # what a process runs first
    os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C on a terminal does to each
if __name__ == "__main__":
    with spread_over(2) as spread:
        list(spread(int, [1]))
"""


def test_a_process_that_is_interrupted_while_it_starts_says_nothing(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)

    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert "SimulationError: a process of --jobs was killed" in done.stderr
    assert "KeyboardInterrupt" not in done.stderr
