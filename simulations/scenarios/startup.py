"""The part of a scenario file that says how replicas start: by tier, or phase by phase on nodes that keep weights.

startup:
  sleepSeconds: 900 # so long an engine sleeps where its replica was (vLLM's sleep mode); a start there wakes it
  hotSeconds: 3 # and takes so long
  # weightsBytes: 16.1e9, where nothing is said of phases: what it holds of its node's memory meanwhile
  logDeviation: {cold: 0.36, warm: 0.27, hot: 0.12} # of lognormal draws, the defaults by tier; or one number for all
  phases: # medians of what each phase takes, and how fast bytes move; those left out are as `Phases` has them
    weightsBytes: 16.1e9
    originBytesPerSecond: 2e9 # all nodes share it
    compileSeconds: 19
  caches:
    keep: prefetch # none | on-demand | prefetch | all-nodes, see `Keeping`
    prefetchNodes: 4
    diskBytes: 100e9 # of each node
    memoryBytes: 64e9 # page cache of each node, as far as engines that sleep leave it
    others: # who else wants room there
    - {name: qwen3-32b, bytes: 65.5e9, usesPerHour: 0.5, useSeconds: 600}

Of several services on the same nodes each keeps its weights as it says; they share the disk, the memory and the line of
each node, so of those all say the same.
"""

from collections.abc import Collection
from typing import Any

from simulations.scenarios.parts import Bytes, Count, Part, Positive, Seconds
from simulations.world.starts.caches import Keeping, NodeCaches, OtherModel
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import (
    HOT_LOG_DEVIATION,
    LOG_DEVIATION,
    WARM_LOG_DEVIATION,
    Deviations,
    StartupTimes,
)


class DeviationsPart(Part):
    """As `Deviations`."""

    cold: Seconds = LOG_DEVIATION
    warm: Seconds = WARM_LOG_DEVIATION
    hot: Seconds = HOT_LOG_DEVIATION

    def made(self) -> Deviations:
        """As the world takes it."""
        return Deviations(cold=self.cold, warm=self.warm, hot=self.hot)


class PhasesPart(Part):
    """As `Phases`."""

    provision_seconds: Seconds | None = None
    image_seconds: Seconds | None = None
    weights_bytes: Positive | None = None
    origin_bytes_per_second: Positive | None = None
    node_bytes_per_second: Positive | None = None
    disk_bytes_per_second: Positive | None = None
    memory_bytes_per_second: Positive | None = None
    init_seconds: Seconds | None = None
    compile_seconds: Seconds | None = None
    compile_cached_seconds: Seconds | None = None
    graphs_seconds: Seconds | None = None
    warm_up_seconds: Seconds | None = None


class OtherPart(Part):
    """As `OtherModel`."""

    name: str
    bytes: Bytes
    uses_per_hour: Positive
    use_seconds: Positive

    def made(self) -> OtherModel:
        """As the world takes it."""
        return OtherModel(
            name=self.name, size_bytes=round(self.bytes), uses_per_hour=self.uses_per_hour, use_s=self.use_seconds
        )


class CachesPart(Part):
    """As `NodeCaches`."""

    keep: Keeping = Keeping.ON_DEMAND
    prefetch_nodes: Count | None = None
    disk_bytes: Bytes | None = None
    memory_bytes: Bytes = 0.0
    others: tuple[OtherPart, ...] = ()

    def made(self) -> NodeCaches:
        """As the world takes it."""
        return NodeCaches(
            keep=self.keep,
            prefetch_nodes=self.prefetch_nodes,
            disk_bytes=None if self.disk_bytes is None else round(self.disk_bytes),
            memory_bytes=round(self.memory_bytes),
            others=tuple(other.made() for other in self.others),
        )


class StartupPart(Part):
    """Times by tier; or phases, caches, or both."""

    cold_seconds: Positive | None = None
    warm_seconds: Positive | None = None
    hot_seconds: Positive | None = None
    weights_bytes: Positive | None = None
    sleep_seconds: Seconds | None = None
    log_deviation: DeviationsPart | Seconds | None = None
    phases: PhasesPart | None = None
    caches: CachesPart | None = None

    def made(self) -> StartupTimes | Phases:
        """As the world takes it; ValueError names the field."""
        given = _given(self, exclude={"phases", "caches", "log_deviation"})
        if self.log_deviation is not None:
            one_or_three = self.log_deviation
            given["log_deviation"] = one_or_three.made() if isinstance(one_or_three, DeviationsPart) else one_or_three
        if self.phases is None and self.caches is None:
            return StartupTimes(**given)
        if self.cold_seconds is not None or self.warm_seconds is not None:
            raise ValueError("startup: coldSeconds and warmSeconds do not go with phases or caches, which decide them")
        if self.weights_bytes is not None:
            raise ValueError("startup.weightsBytes: of replicas that start by phases say startup.phases.weightsBytes")
        caches = NodeCaches() if self.caches is None else self.caches.made()
        return Phases(**given, **({} if self.phases is None else _given(self.phases)), caches=caches)


def _given(part: Part, exclude: Collection[str] = ()) -> dict[str, Any]:
    """What a file says, by the names that the world has for it."""
    given = part.model_dump(exclude_none=True, exclude=set(exclude))
    return {name.replace("_seconds", "_s").replace("_per_second", "_per_s"): value for name, value in given.items()}
