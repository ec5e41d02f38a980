"""The part of a scenario file that says how replicas start: by tier, or phase by phase.

startup:
  phases: # medians of what each phase takes, and how fast bytes move; those left out are as `Phases` has them
    weightsBytes: 16.1e9
    originBytesPerSecond: 2e9 # all nodes share it
    compileSeconds: 19
"""

from typing import Any

from pydantic import model_validator

from simulations.scenarios.parts import Part, Positive, Seconds
from simulations.world.phases import Phases
from simulations.world.startup import StartupTimes


class PhasesPart(Part):
    """As `Phases`."""

    provision_seconds: Seconds | None = None
    image_seconds: Seconds | None = None
    weights_bytes: Positive | None = None
    origin_bytes_per_second: Positive | None = None
    node_bytes_per_second: Positive | None = None
    disk_bytes_per_second: Positive | None = None
    init_seconds: Seconds | None = None
    compile_seconds: Seconds | None = None
    compile_cached_seconds: Seconds | None = None
    graphs_seconds: Seconds | None = None
    warm_up_seconds: Seconds | None = None
    log_deviation: Seconds | None = None


class StartupPart(Part):
    """Times by tier, or phases."""

    cold_seconds: Positive | None = None
    warm_seconds: Positive | None = None
    phases: PhasesPart | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "StartupPart":
        if self.phases is not None and (self.cold_seconds is not None or self.warm_seconds is not None):
            raise ValueError("coldSeconds and warmSeconds do not go with phases, which add up to them")
        return self

    def made(self) -> StartupTimes | Phases:
        """As the world takes it."""
        if self.phases is not None:
            return Phases(**_given(self.phases))
        return StartupTimes(**_given(self))


def _given(part: Part) -> dict[str, Any]:
    """What a file says, by the names that the world has for it."""
    given = part.model_dump(exclude_none=True)
    return {name.replace("_seconds", "_s").replace("_per_second", "_per_s"): value for name, value in given.items()}
