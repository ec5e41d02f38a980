"""The demo's bars: twice in a row on its own traffic, then on the recorded trace where that is at hand."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import Figure

ROOT = Path(__file__).parents[2]
TRACE = ROOT / ".." / "shared" / "traces" / "AzureLLMInferenceTrace_conv.csv"
DEADLINE_S = 300.0  # a run of 90 s, its start and its verdict, on a busy machine


def run() -> list[Figure]:
    """Each run's requests lost, SLO attainment, and replica-seconds over those of the static fleet for the peak."""
    runs = [("first", []), ("second", [])]
    if TRACE.exists():
        runs.append(("azure", ["--trace", str(TRACE)]))
    return [figure for name, arguments in runs for figure in play(name, arguments)]


def play(name: str, arguments: list[str]) -> list[Figure]:
    """One demo in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "warmtide", "demo", "--plain", "--folder", folder, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        results = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    cost = results["replica_seconds"] / results["static_replica_seconds"]
    hindsight = results["replica_seconds"] / results["smallest_static_replica_seconds"]
    return [
        Figure(name=f"demo_{name}_exit", value=done.returncode, unit="code", bar=0, better="lower"),
        Figure(name=f"demo_{name}_lost", value=results["lost"], unit="requests", bar=0, better="lower"),
        Figure(name=f"demo_{name}_attainment", value=results["slo_attainment"], unit="ratio", bar=0.95),
        Figure(name=f"demo_{name}_cost", value=cost, unit="of_static_peak", bar=0.70, better="lower"),
        Figure(name=f"demo_{name}_hindsight", value=hindsight, unit="of_smallest_static"),
    ]
