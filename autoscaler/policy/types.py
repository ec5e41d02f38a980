"""What the policy may know (`Observation`), what it remembers (`Memory`), what it answers (`Decision`).

All of it is plain, frozen data: the controller, the simulator, advise mode and `warmtide why` pass
the same values to the same `decide`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.policy.forecast import Outlook
from metrics.quick import quick
from metrics.sample import PodSignals


class PodPhase(StrEnum):
    """Where a replica is on its way."""

    READY = "Ready"
    STARTING = "Starting"  # scheduled; weights, compile, graphs
    UNSCHEDULABLE = "Unschedulable"  # no node has room
    GATED = "Gated"  # waits for a quota (Kueue)
    TERMINATING = "Terminating"


class Tier(StrEnum):
    """What a start-up had to bring, by llm-d's names."""

    HOT = "hot"  # asleep in place: wake
    WARM = "warm"  # weights on the node
    COLD = "cold"  # weights must come


class Reason(StrEnum):
    """Why a number is what it is. Stable: status, metrics, Events and reports use these names."""

    # where the number starts
    FOLLOWING_QUEUE = "FollowingQueue"
    FOLLOWING_KV_CACHE = "FollowingKVCache"
    FOLLOWING_CONCURRENCY = "FollowingConcurrency"
    FOLLOWING_TOKENS = "FollowingTokens"
    FOLLOWING_TTFT = "FollowingTTFT"
    FOLLOWING_ITL = "FollowingITL"
    IDLE = "Idle"
    WITHIN_TOLERANCE = "WithinTolerance"
    # starting replicas
    STARTING_COUNTED = "StartingReplicasCounted"
    STARTING_OVERDUE = "StartingReplicasOverdue"
    # forecast
    FORECAST_RAISED = "ForecastRaised"
    FORECAST_HELD = "ForecastHeld"
    FORECAST_OFF = "ForecastOff"
    # limits, in their order
    NO_FRESH_DATA = "NoFreshData"
    PARTLY_BLIND = "PartlyBlind"
    UPSTREAM_UNKNOWN = "UpstreamUnknown"
    BELOW_MIN = "BelowMin"
    ABOVE_MAX = "AboveMax"
    SCHEDULE_FLOOR = "ScheduleFloor"
    PAUSED = "Paused"
    PINNED = "Pinned"
    GPU_BUDGET = "GPUBudget"
    NOT_SCHEDULABLE = "NotSchedulable"
    RATE_UP = "ScaleUpRate"
    RATE_DOWN = "ScaleDownRate"
    STABILIZING_UP = "StabilizingUp"
    STABILIZING_DOWN = "StabilizingDown"
    SCALING_DISABLED = "ScalingDisabled"
    ONE_AT_A_TIME = "OneAtATime"
    LAST_WARM_COPY = "LastWarmCopy"
    KEEPING_ONE = "KeepingOne"
    IDLE_LONG_ENOUGH = "IdleLongEnough"
    WAKING = "Waking"
    # nothing to say
    STEADY = "Steady"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    """One replica as the controller sees it. Times are Unix seconds."""

    name: str
    phase: PodPhase
    created_at_s: float
    ready_at_s: float | None = None
    node: str | None = None
    node_class: str = ""  # e.g. the GPU product; lead times are learned per class
    tier: Tier = Tier.COLD
    signals: PodSignals | None = None  # None: never scraped


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What the start-up of the next replica would have to bring, by the nodes on which it could start."""

    tier: Tier
    node_class: str = ""  # empty: of several classes


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that a decision may know about one service; nothing else reaches it."""

    service: str  # namespace/name
    replicas: int  # the scale subresource's spec.replicas now
    version: str = ""  # resourceVersion that `replicas` was read at
    pods: tuple[PodSeen, ...] = ()
    native_min: int | None = None  # spec.predictor.minReplicas
    native_max: int | None = None
    schedule_floor: int | None = None  # of the policy's schedules, at this time
    upstream_waiting_requests: float | None = None  # held by an activator, gateway or EPP
    upstream_observed_at_s: float | None = None
    upstream_problem: str = ""  # why it is not known, where somebody was asked; empty and no count: nobody is asked
    schedulable_replicas: int | None = None  # how many more would find free GPUs; None: unknown
    budget_replicas: int | None = None  # the most that the GPU budget allows in all; None: no budget
    incumbent_replicas: int | None = None  # what whoever scales today wants (advise mode)
    last_warm_copies: frozenset[str] = frozenset()  # pods that must not go: last warm copy of a pinned model
    landing: Landing | None = None  # of the next replica; None: nobody knows where its weights lie
    history: tuple[tuple[float, float], ...] = ()  # back-filled (at_s, demand tokens/s), once after a start
    foretold: Outlook | None = None  # a forecast made elsewhere, instead of the service's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The number after this step, and why it is that."""

    replicas: int
    reason: Reason
    detail: str = ""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class LensReading:
    """What one signal alone would ask for. `replicas` is None when it could not be read."""

    name: str  # queue | kv_cache | concurrency | tokens | ttft | itl
    reason: Reason
    replicas: int | None
    value: float | None = None
    target: float | None = None
    unit: str = ""
    note: str = ""  # why it is silent, where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadTime:
    """Measured start-up time of one tier on one node class: request → Ready."""

    tier: Tier
    node_class: str
    p50_s: float
    p80_s: float
    p95_s: float
    starts: int  # how many were measured; 0: the prior


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastReading:
    """Demand expected at now + horizon, in the unit of the tokens lens."""

    active: bool  # False: it did not beat the naive one, or has too little history
    horizon_s: float
    demand_now_tokens_per_s: float | None = None
    demand_p50_tokens_per_s: float | None = None
    demand_p90_tokens_per_s: float | None = None
    replicas: int | None = None
    skill_ratio: float | None = None  # error ÷ the naive forecaster's error; < 1 is better
    method: str = ""
    note: str = ""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Tokens per second (prompt + generation) that one replica serves at the objective."""

    tokens_per_s: float | None = None
    regime: str = ""  # what limits it: compute | kv | batch | unknown
    windows: int = 0  # how many windows it was learned from
    trusted_tokens_per_s: float | None = None  # what calm lets a replica be asked for, headroom or not
    demonstrated_tokens_per_s: float | None = None  # the most that replicas served on average, saturated or not


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Replicas by what they are worth now."""

    ready: int = 0
    starting: int = 0  # on time: they count
    overdue: int = 0  # older than the P95 lead time, unschedulable or gated: they do not
    terminating: int = 0
    blind: int = 0  # ready, but without a fresh sample
    asleep: int = 0  # ready to wake (hot): they count, but serve nothing


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many replicas, and every reason on the way there.

    `reason` is that of the step that settled the number; `binding_lens` names the largest lens.
    `revisit_at_s` is when time alone could change the answer.
    """

    service: str
    decided_at_s: float
    current_replicas: int
    replicas: int
    reason: Reason
    steps: tuple[Step, ...]
    lenses: tuple[LensReading, ...] = ()
    binding_lens: str | None = None
    supply: Supply = field(default_factory=Supply)
    forecast: ForecastReading | None = None
    capacity: Capacity = field(default_factory=Capacity)
    lead_times: tuple[LeadTime, ...] = ()
    replicas_min: int = 0  # the bounds in force
    replicas_max: int = 0
    victim: str | None = None  # the pod to go first, when shrinking
    revisit_at_s: float | None = None
    would_change: tuple[str, ...] = ()  # sentences for `warmtide why`
