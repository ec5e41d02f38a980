"""A demo that was played, simulated: the same requests and policy on modelled replicas, beside what was measured.

The demo is processes, sockets and clocks on a busy machine; the simulation is none of that. What they agree on is what
the simulator can be trusted with, what they differ in is what it leaves out.
"""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.parse import parse_policy
from simulations.compiled.fleet import requests_of
from simulations.demo.objects import policy_object
from simulations.demo.recording import MS
from simulations.demo.run import REQUESTS, RESULTS, TIMELINE
from simulations.demo.setting import LOAD_S, REPLICAS_MAX, REPLICAS_MIN, TTFT_OBJECTIVE_S, WARM_WEIGHTS_S
from simulations.demo.setting import Setting as DemoSetting
from simulations.policies import Bounds
from simulations.policies.warmtide import Warmtide
from simulations.world import Outcome, Setting, simulate
from simulations.world.starts.startup import StartupTimes

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One run, live or simulated, at evenly spaced moments."""

    at_s: Floats
    replicas: Floats  # ready
    waiting_requests: Floats
    ttft_s: Floats  # of each request
    replica_seconds: float

    @property
    def ttft_p95_s(self) -> float:
        """Of all requests."""
        return float(np.quantile(self.ttft_s, 0.95))

    @property
    def attainment_ratio(self) -> float:
        """First tokens within the objective."""
        return float((self.ttft_s <= TTFT_OBJECTIVE_S).mean())


def live_course(folder: Path) -> Course:
    """What a demo left in its folder."""
    with (folder / TIMELINE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in ("at_s", "ready", "waiting_requests")}
    return Course(
        at_s=columns["at_s"],
        replicas=columns["ready"],
        waiting_requests=columns["waiting_requests"],
        ttft_s=_requests(folder)["ttfb_ms"] / MS,
        replica_seconds=float(_results(folder)["replica_seconds"]),
    )


def simulated_course(folder: Path, like: Course) -> Course:
    """The same requests through the simulator, looked at in the same moments."""
    outcome = _simulate(folder)
    series = outcome.series
    requests = outcome.requests
    nearest = np.clip(np.searchsorted(series["at_s"], like.at_s), 0, len(series) - 1)
    return Course(
        at_s=like.at_s,
        replicas=series["ready"][nearest].astype(np.float64),
        waiting_requests=series["waiting_requests"][nearest].astype(np.float64),
        ttft_s=requests["first_token_at_s"] - requests["arrived_at_s"],
        replica_seconds=outcome.gpu_hours * 3600.0,
    )


def _simulate(folder: Path) -> Outcome:
    results, columns = _results(folder), _requests(folder)
    demo = DemoSetting(seconds=results["seconds"], seed=results["seed"])
    order = np.argsort(columns["scheduled_ms"], kind="stable")
    tokens = (columns[name][order].astype(np.int32) for name in ("prompt_tokens", "completion_tokens"))
    setting = Setting(
        requests=requests_of(columns["scheduled_ms"][order] / MS, *tokens),
        config=demo.engine,
        times=demo.step_times,
        bounds=Bounds(low=REPLICAS_MIN, high=REPLICAS_MAX),
        replicas_at_start=REPLICAS_MIN,
        startup=StartupTimes(
            cold_s=demo.cold_start_s, warm_s=demo.compressed_s(WARM_WEIGHTS_S + LOAD_S), log_deviation=0.0
        ),
        ttft_s=TTFT_OBJECTIVE_S,
        ends_at_s=results["duration_s"],
    )
    policy = parse_policy(policy_object(results["policy"]))
    return simulate(setting, Warmtide(spec=policy.spec, endpoint=policy.endpoint))


def _requests(folder: Path) -> dict[str, Floats]:
    with (folder / REQUESTS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("scheduled_ms", "ttfb_ms", "prompt_tokens", "completion_tokens")
    return {name: np.array([float(row[name] or math.inf) for row in rows]) for name in names}


def _results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return found
