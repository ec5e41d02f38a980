"""Real vLLM servers as the pods of an InferenceService: the real controller takes them from one to three and back."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
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


def left_of(folder: Path) -> list[str]:
    """Processes that still have the demo's folder in their command line."""
    listed = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]
