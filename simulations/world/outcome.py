"""What a policy made of a setting: figures, every change with its reason, and the course over time."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autoscaler.policy.types import Step
from simulations.compiled.layout import Records
from simulations.policies.base import Role
from simulations.world.nodes import NodeUse
from simulations.world.starts.startup import StartFigures

# A plot shows no more; a week is a point every ten minutes.
SERIES_POINTS = 1009

SAMPLE = np.dtype(
    [
        ("at_s", np.float64),
        ("wanted", np.int32),  # replicas, as the policy last said
        ("starting_hot", np.int32),
        ("starting_warm", np.int32),
        ("starting_cold", np.int32),
        ("ready", np.int32),
        ("draining", np.int32),
        ("running_requests", np.int32),  # in all replicas
        ("waiting_requests", np.int32),  # in all replicas
        ("held_requests", np.int32),  # before them: no replica was ready
        ("kv_cache_usage_ratio", np.float64),  # mean of the ready ones; 0 where none is
        ("unplaced", np.int32),  # replicas that wait for a node, and hold no GPU
        # The next three: of what arrived since the point before, at its arrival.
        ("arrived_requests", np.int64),
        ("arrived_tokens", np.int64),  # prompt + output
        ("missed_requests", np.int64),  # whose first token came after the objective, or never
    ]
)

Series = NDArray[np.void]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A number that the policy changed, and why: its rule in words; Warmtide's steps besides."""

    at_s: float
    before: int
    after: int
    reason: str = ""
    lens: str = ""  # the largest, where the policy has lenses
    steps: tuple[Step, ...] = ()
    pool: Role | None = None  # whose, where two are scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """What one of two scaled pools came to, and what its policy changed."""

    role: Role
    gpu_hours: float
    starts: int
    replicas_at_start: int
    decisions: tuple[Change, ...]
    startups: StartFigures
    series: Series = field(compare=False, repr=False)  # its replicas; the load is that of both

    @property
    def changes(self) -> tuple[tuple[float, int], ...]:
        """(at_s, replicas wanted from then on)."""
        return ((0.0, self.replicas_at_start), *((change.at_s, change.after) for change in self.decisions))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy made of a setting. Equal outcomes have equal figures and decisions."""

    attainment_ratio: float  # of all requests; one that never got a token missed
    ttft_p95_s: float  # infinite where more than one in twenty never got a token
    gpu_hours: float
    starts: int
    replicas_at_start: int
    decisions: tuple[Change, ...]
    requests: Records = field(compare=False, repr=False)  # in order of arrival
    series: Series = field(compare=False, repr=False)  # of dtype SAMPLE, evenly spaced, from 0 to the end
    startups: StartFigures = field(default_factory=StartFigures)
    lost_requests: int = 0  # on nodes that were reclaimed or lost; they missed
    nodes: tuple[NodeUse, ...] = ()  # where nodes were given, and no other service uses them

    fixed_gpu_hours: float = 0.0  # of these, what a pool that nobody scales took
    # Of prefill and of decoding, where both are scaled: then the series has the replicas of both, decoding's KV use.
    pools: tuple[PoolUse, ...] = ()
    prefix_hit_ratio: float | None = None  # of prompt tokens, those found in a cache; None: nothing is cached

    @property
    def changes(self) -> tuple[tuple[float, int], ...]:
        """(at_s, replicas wanted from then on); of decoding, where both pools are scaled."""
        own = (change for change in self.decisions if change.pool is not Role.PREFILL)
        return ((0.0, self.replicas_at_start), *((change.at_s, change.after) for change in own))

    @property
    def waited_hours(self) -> float:
        """That replicas waited for a node, all together."""
        return float(self.series["unplaced"].mean() * self.series["at_s"][-1]) / 3600.0
