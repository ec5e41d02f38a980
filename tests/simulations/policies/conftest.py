"""Observations that the tests of all peers make."""

from collections.abc import Callable
from typing import Any

import pytest

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.policies import Site
from simulations.replica import PROFILES, EngineConfig

Saw = Callable[..., Observation]


@pytest.fixture
def site() -> Site:
    return Site(config=EngineConfig(max_num_seqs=256), times=PROFILES["llama-3.1-8b-l40s"])


@pytest.fixture
def saw() -> Saw:
    def make(*pods: dict[str, Any] | None, starting: int = 0, held: float = 0.0) -> Observation:
        """One ready pod per argument with these signals (None: silent), and some that start."""
        ready = [
            PodSeen(
                name=f"pod-{number}",
                phase=PodPhase.READY,
                created_at_s=0.0,
                signals=None if signals is None else PodSignals(observed_at_s=0.0, window_s=60.0, **signals),
            )
            for number, signals in enumerate(pods)
        ]
        late = [PodSeen(name=f"new-{n}", phase=PodPhase.STARTING, created_at_s=0.0) for n in range(starting)]
        return Observation(
            service="ns/a",
            replicas=len(ready) + len(late),
            pods=(*ready, *late),
            upstream_waiting_requests=held,
        )

    return make
