"""A demo that is played live, and the same requests under the same policy simulated; also drawn over each other.

The live side is processes and sockets on the machine as it is, so the bounds are wide: they hold on two cores under
other work. The picture is `build/bench/sim-live.html`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from figures import Figure

from simulations.demo.resimulated import Course, live_course, simulated_course
from simulations.outputs.charts import drawing, line, nice_top

PICTURE = Path(__file__).parents[2] / "build" / "bench" / "sim-live.html"
STYLE = """
body { font: 16px system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: 12rem; border-left: 1px solid #999; border-bottom: 1px solid #999; }
polyline { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
.live { stroke: #c8442f; } .sim { stroke: #2f7f86; }
"""


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "simulations.demo.cli", "--plain", "--folder", folder]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # its own bars are those of `demo`
        live = live_course(Path(folder))
        simulated = simulated_course(Path(folder), live)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(live, simulated), encoding="utf-8")
    return compare(live, simulated)


def compare(live: Course, simulated: Course) -> list[Figure]:
    """What differs, each with its bound."""
    figures = {
        "replica_seconds_error": (abs(simulated.replica_seconds / live.replica_seconds - 1.0), "ratio", 0.12),
        "replicas_mean_difference": (float(np.abs(simulated.replicas - live.replicas).mean()), "replicas", 0.75),
        "queue_mean_error": (mean_error(simulated.waiting_requests, live.waiting_requests), "ratio", 0.5),
        "ttft_p95_error": (abs(simulated.ttft_p95_s / live.ttft_p95_s - 1.0), "ratio", 0.5),
        "attainment_difference": (abs(simulated.attainment_ratio - live.attainment_ratio), "ratio", 0.03),
    }
    shown = [
        Figure(name=f"sim_live_{name}", value=value, unit=unit, bar=bar, better="lower")
        for name, (value, unit, bar) in figures.items()
    ]
    told = [("live", live), ("simulated", simulated)]
    return shown + [Figure(name=f"sim_live_ttft_p95_{name}", value=one.ttft_p95_s, unit="s") for name, one in told]


def mean_error(one: np.ndarray, other: np.ndarray) -> float:
    return abs(float(one.mean()) / max(1.0, float(other.mean())) - 1.0)


def picture(live: Course, simulated: Course) -> str:
    """Replicas and queue, both runs over each other."""
    parts = []
    for name, one, other in (
        ("ready replicas", live.replicas, simulated.replicas),
        ("waiting requests", live.waiting_requests, simulated.waiting_requests),
    ):
        top = nice_top(float(max(one.max(), other.max())))
        shapes = [line(one, top, "live"), line(other, top, "sim")]
        parts.append(f"<h2>{name}, 0 to {top:g}</h2>{drawing(shapes, len(one), name)}")
    legend = f"<p>red: live, {live.at_s[-1]:.0f} s; teal: simulated</p>"
    return (
        f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h1>Live and simulated</h1>{legend}{''.join(parts)}"
    )
