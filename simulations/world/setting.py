"""What all policies of a comparison share: traffic, machine, bounds, start-up times, objective, luck."""

import math
from dataclasses import dataclass, field

from simulations.compiled.fleet import Router
from simulations.compiled.layout import Records
from simulations.policies.base import Bounds
from simulations.replica import EngineConfig, StepTimes
from simulations.world.startup import StartupTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all policies of a comparison share; `requests` is never written to."""

    requests: Records
    config: EngineConfig
    times: StepTimes
    bounds: Bounds
    replicas_at_start: int
    startup: StartupTimes = field(default_factory=StartupTimes)
    ttft_s: float = 2.0
    seed: int = 1
    router: Router = Router.LEAST_OUTSTANDING

    def __post_init__(self) -> None:
        if not len(self.requests):
            raise ValueError("a setting needs at least one request")
        if not 0 < self.ttft_s < math.inf:
            raise ValueError(f"the TTFT objective must be > 0 and finite, got {self.ttft_s}")
        if not self.bounds.low <= self.replicas_at_start <= self.bounds.high:
            raise ValueError(
                f"replicas_at_start must be within {self.bounds.low} and {self.bounds.high}, "
                f"got {self.replicas_at_start}"
            )

    @property
    def span_s(self) -> float:
        """From 0 to the last arrival: what is paid for."""
        return float(self.requests["arrived_at_s"][-1])
