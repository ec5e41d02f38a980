"""Where numba is not installed the same functions run as they are: worlds come out the same, to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simulations.compiled.records import requests_of
from simulations.policies import Bounds, build
from simulations.policies.static import Static
from simulations.replica import PROFILES, EngineConfig
from simulations.world import Outcome, Setting, simulate
from simulations.world.starts.startup import StartupTimes

ROOT = Path(__file__).parents[3]
HERE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import test_without_numba as this
from simulations.compiled.jit import IS_COMPILED
assert not IS_COMPILED
print(json.dumps({name: this.told(this.outcome(name)) for name in sys.argv[2:]}))
"""
POLICIES = ("static", "warmtide", "hpa-queue", "keda-slo", "kpa")


def outcome(name: str) -> Outcome:
    rng = np.random.default_rng(1)
    requests = 400
    shared = Setting(
        requests=requests_of(
            np.sort(rng.uniform(0.0, 120.0, requests)),
            rng.integers(100, 3000, requests).astype(np.int32),
            rng.integers(20, 200, requests).astype(np.int32),
        ),
        config=EngineConfig(caches_prefixes=False, num_gpu_blocks=1500),
        times=PROFILES["llama-3.1-8b-l40s"],
        bounds=Bounds(low=1, high=4),
        replicas_at_start=1,
        startup=StartupTimes(cold_s=20.0, warm_s=10.0),
    )
    policy = Static(2) if name == "static" else build(name, shared.bounds, ttft_s=2.0, lead_time_s=20.0)
    return simulate(shared, policy)


def told(found: Outcome) -> list[object]:
    courses = [found.requests[name].tolist() for name in ("first_token_at_s", "finished_at_s", "replica")]
    decisions = [[change.at_s, change.before, change.after, change.reason] for change in found.decisions]
    return [found.attainment_ratio, found.gpu_hours, decisions, *courses]


@pytest.fixture(scope="module")
def plain() -> dict[str, list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", HERE, str(Path(__file__).parent), *POLICIES],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", POLICIES)
def test_a_world_is_the_same_without_numba(name: str, plain: dict[str, list[object]]) -> None:
    assert plain[name] == json.loads(json.dumps(told(outcome(name))))
