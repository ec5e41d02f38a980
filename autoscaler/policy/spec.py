"""What a user asks of Warmtide for one service, as plain values; `autoscaler.parse` builds them."""

import math
from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """How far Warmtide may go, in order of trust."""

    OBSERVE = "observe"  # metrics only
    ADVISE = "advise"  # decides and says so; touches nothing
    DIRECT = "direct"  # patches the scale subresource


class PolicyType(StrEnum):
    """Unit of a rate limit, as in the HPA's `behavior`."""

    PODS = "Pods"
    PERCENT = "Percent"


class SelectPolicy(StrEnum):
    """Which of several rate limits counts, as in the HPA's `behavior`."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most `value` pods or percent of change within any `period_s`."""

    type: PolicyType
    value: int
    period_s: float

    def __post_init__(self) -> None:
        if self.value <= 0 or not 0 < self.period_s <= 1800:
            raise ValueError(f"rate limit: value > 0 and 0 < period ≤ 1800 s, got {self.value} in {self.period_s} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """One direction of the HPA's `behavior`."""

    tolerance_ratio: float
    stabilization_window_s: float
    select_policy: SelectPolicy = SelectPolicy.MAX
    rate_limits: tuple[RateLimit, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance_ratio < 1:
            raise ValueError(f"tolerance must be in [0, 1), got {self.tolerance_ratio}")
        if not 0 <= self.stabilization_window_s <= 3600:
            raise ValueError(f"stabilization window must be in [0, 3600] s, got {self.stabilization_window_s}")


def default_scale_up() -> ScalingRules:
    """HPA's defaults for growing: no window, the larger of +4 pods and +100 % per 15 s."""
    return ScalingRules(
        tolerance_ratio=0.10,
        stabilization_window_s=0.0,
        rate_limits=(
            RateLimit(type=PolicyType.PERCENT, value=100, period_s=15.0),
            RateLimit(type=PolicyType.PODS, value=4, period_s=15.0),
        ),
    )


def default_scale_down() -> ScalingRules:
    """HPA's defaults for shrinking: the highest wish of the last 300 s."""
    return ScalingRules(
        tolerance_ratio=0.10,
        stabilization_window_s=300.0,
        rate_limits=(RateLimit(type=PolicyType.PERCENT, value=100, period_s=15.0),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What a user of the service should experience."""

    ttft_s: float | None = 2.0  # None: the TTFT lens is off
    itl_s: float | None = None  # None: the ITL lens is off
    quantile: float = 0.95  # of TTFT and ITL
    attainment_ratio: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class LensTargets:
    """What one replica should carry; None switches the lens off."""

    queue_requests: float | None = 2.0  # waiting requests a replica may hold
    kv_cache_usage_ratio: float | None = 0.80
    running_requests: float | None = None  # concurrency: running + waiting per replica
    tokens_per_s: float | None = None  # prompt + generation per replica; None: learned capacity, once known
    use_learned_capacity: bool = True
    max_age_s: float = 30.0  # older samples are no samples
    headroom_ratio: float = 0.80  # use at most this share of a learned capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSpec:
    """Whether and how far a forecast may raise the number."""

    enabled: bool = True
    horizon_s: float | None = None  # None: the measured lead time
    max_raise_ratio: float = 1.0  # at most this share above the reactive number


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroSpec:
    """Scale to zero: only when asked for."""

    enabled: bool = False
    idle_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """All that a ScalingPolicy says. Bad states cannot be built: ValueError names field and value."""

    mode: Mode = Mode.ADVISE
    replicas_min: int | None = None  # None: the service's own minReplicas, else 1
    replicas_max: int | None = None  # None: the service's own maxReplicas, else 10
    objectives: Objectives = field(default_factory=Objectives)
    targets: LensTargets = field(default_factory=LensTargets)
    forecast: ForecastSpec = field(default_factory=ForecastSpec)
    scale_up: ScalingRules = field(default_factory=default_scale_up)
    scale_down: ScalingRules = field(default_factory=default_scale_down)
    zero: ZeroSpec = field(default_factory=ZeroSpec)
    lead_time_prior_s: float = 180.0  # until the first start-up of this service was measured
    paused: bool = False
    pinned_replicas: int | None = None  # an operator's override

    def __post_init__(self) -> None:
        low, high = self.replicas_min, self.replicas_max
        if low is not None and low < 0:
            raise ValueError(f"replicas.min must be ≥ 0, got {low}")
        if high is not None and high < 1:
            raise ValueError(f"replicas.max must be ≥ 1, got {high}")
        if low is not None and high is not None and low > high:
            raise ValueError(f"replicas.min ({low}) must not exceed replicas.max ({high})")
        if not (math.isfinite(self.lead_time_prior_s) and self.lead_time_prior_s > 0):
            raise ValueError(f"leadTimePriorSeconds must be > 0, got {self.lead_time_prior_s}")
        if self.pinned_replicas is not None and self.pinned_replicas < 0:
            raise ValueError(f"pinnedReplicas must be ≥ 0, got {self.pinned_replicas}")
