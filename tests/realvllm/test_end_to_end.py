"""Real vLLM servers as the pods of an InferenceService: the real controller takes them from one to three and back."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE_WITHIN_S = 120  # until vLLM says its first words
PLAYED_WITHIN_S = 840  # three starts on two shared cores


def test_the_demo_with_real_servers_scales_up_and_down_and_loses_nothing(venv: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "warmtide", "demo", "--engine=vllm", f"--folder={tmp_path}"]

    demo = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PLAYED_WITHIN_S, check=False)

    print(demo.stdout)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["shortfalls"] == []
    assert results["lost"] == 0
    assert results["requests"] > 50
    assert max(results["replicas"]) == 3
    assert results["replicas"][-1] == 1
    assert results["lens_wishes"]["queue"] > 1
    assert results["lens_wishes"]["kv_cache"] > 1
    assert len(results["starts_s"]) == len(results["used_after_s"]) == 3
    assert max(results["used_after_s"]) <= 5.0
    assert abs(results["lead_time_learned_p50_s"] - results["lead_time_measured_p50_s"]) <= 2.0
    assert len(results["drains_s"]) == 2
    assert "Lenses" in demo.stdout
    assert left_of(tmp_path) == []


def test_ctrl_c_while_a_server_starts_leaves_nothing_running(venv: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "warmtide", "demo", "--engine=vllm", f"--folder={tmp_path}"]
    demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    due_s = time.monotonic() + ENGINE_WITHIN_S
    while not pids_of(tmp_path) and time.monotonic() < due_s and demo.poll() is None:
        time.sleep(0.2)
    started = pids_of(tmp_path)

    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == 130
    assert "everything is stopped" in err
    assert started
    assert left_of(tmp_path) == []


def pids_of(folder: Path) -> set[int]:
    """vLLM's processes, by what their logs say: (APIServer pid=1), (EngineCore pid=2)."""
    logs = (log.read_text(errors="replace") for log in (folder / "pods").glob("*.log"))
    return {int(pid) for text in logs for pid in re.findall(r"^\(\w+ pid=(\d+)\)", text, flags=re.MULTILINE)}


def left_of(folder: Path) -> list[str]:
    """What still runs: processes with the demo's folder in their command line, and those that the logs name."""
    listed = subprocess.run(["ps", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    pids = pids_of(folder)
    alive = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [args for pid, stat, args in alive if not stat.startswith("Z") and (str(folder) in args or int(pid) in pids)]
