"""Two small runs, simulated once."""

import numpy as np
import pytest

from simulations.compare import Row, compare
from simulations.compiled.fleet import requests_of
from simulations.policies import Bounds
from simulations.replica import PROFILES, EngineConfig
from simulations.world import Setting

REQUESTS = 3000


@pytest.fixture(scope="session")
def setting() -> Setting:
    rng = np.random.default_rng(1)
    return Setting(
        requests=requests_of(
            np.sort(rng.uniform(0, 400, REQUESTS)),
            rng.integers(50, 2500, REQUESTS).astype(np.int32),
            rng.integers(20, 300, REQUESTS).astype(np.int32),
        ),
        config=EngineConfig(caches_prefixes=False, num_gpu_blocks=12_000, max_model_len_tokens=8192),
        times=PROFILES["llama-3.1-8b-l40s"],
        bounds=Bounds(low=1, high=4),
        replicas_at_start=1,
    )


@pytest.fixture(scope="session")
def rows(setting: Setting) -> list[Row]:
    return list(compare(setting, ["warmtide", "hpa-queue"], lambda name, share: None))
