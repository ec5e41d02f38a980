"""`warmtide demo` as a user runs it: real processes, a short hour."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UP_WITHIN_S = 60


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "warmtide", "demo", "--plain", f"--folder={folder}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(demo: "subprocess.Popen[str]", word: str) -> None:
    """Read the demo's log until it says the word."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if word in line:
            return
    pytest.fail(f"the demo ended without saying {word!r}: {demo.stderr.read() if demo.stderr else ''}")


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_short_hour_is_served_whole_and_leaves_its_results(tmp_path: Path) -> None:
    demo = start(tmp_path, "--seconds=30")

    out, err = demo.communicate(timeout=170)

    results = json.loads((tmp_path / "results.json").read_text())
    assert (demo.returncode == 0) == (not results["shortfalls"]), err
    assert results["lost"] == 0, results["lost_by_reason"]
    assert results["requests"] > 300
    assert 0 < results["slo_attainment"] <= 1
    assert 0 < results["replica_seconds"] < results["static_replica_seconds"]
    assert results["ttft_p95_s"] > 0
    assert [change for change in results["decisions"] if change["after"] > change["before"]]
    assert {"Lenses", "Steps"} <= {word.split(":")[0].split()[0] for word in out.splitlines() if word.strip()}
    assert (tmp_path / "why.txt").read_text() in out
    assert len((tmp_path / "timeline.csv").read_text().splitlines()) > 30


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_demo_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    demo = start(tmp_path)
    wait_for(demo, "model cache: a replica on")
    children = children_of(demo.pid)

    demo.send_signal(number)
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == 130
    assert "interrupted; everything is stopped" in err
    assert len(children) == 5  # hub, cluster, controller, two agents
    assert [pid for pid in children if is_running(pid)] == []
    assert not (tmp_path / "results.json").exists()


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_child_that_dies_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    demo = start(tmp_path)
    wait_for(demo, "model cache: a replica on")
    _, cluster, controller, *_ = sorted(children_of(demo.pid))  # in the order of their start
    due = time.monotonic() + UP_WITHIN_S
    while "leading" not in (tmp_path / "controller.log").read_text() and time.monotonic() < due:
        time.sleep(0.05)

    os.kill(controller, signal.SIGKILL)
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == 1
    assert "the controller ended with -9" in err
    assert "leading" in err
    assert not is_running(cluster)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds=5"], "seconds must be from 30 to 3600, got 5"),
        (["--seconds=soon"], "invalid float value: 'soon'"),
        (["--trace=absent.csv"], "absent.csv: cannot be read"),
        (["--speed=3"], "unrecognized arguments"),
    ],
    ids=["too short", "no number", "no trace", "no such option"],
)
def test_a_wrong_call_is_a_usage_error_before_anything_starts(tmp_path: Path, arguments: list[str], said: str) -> None:
    demo = start(tmp_path / "new", *arguments)

    out, err = demo.communicate(timeout=60)

    assert demo.returncode == 2
    assert said in err
    assert out == ""
    assert not (tmp_path / "new").exists()
