"""What a policy is to the simulator: it looks at an `Observation` now and then and wishes for a number."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from autoscaler.policy.spec import LensTargets
from autoscaler.policy.types import Observation, PodPhase, PodSeen, Step
from autoscaler.settings import MetricsEndpoint
from metrics.quick import quick
from metrics.sample import Histogram, PodSignals
from simulations.compiled.layout import Records
from simulations.replica import EngineConfig, StepTimes


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """So many replicas, and why; `victim` is the pod to go first, where the policy chooses one."""

    replicas: int
    victim: str | None = None
    reason: str = ""
    lens: str = ""  # the largest, where the policy has lenses
    steps: tuple[Step, ...] = ()  # from the signals to the number, where the policy tells them
    again_at_s: float | None = None  # when time alone may change the answer


class Role(StrEnum):
    """What a pool does, where prefill and decoding have one each."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How few and how many replicas a policy may ask for."""

    low: int = 1
    high: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"bounds need 1 ≤ min ≤ max, got {self.low} and {self.high}")

    def clamp(self, replicas: int) -> int:
        """The nearest allowed number."""
        return min(self.high, max(self.low, replicas))


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What makes a policy look between its times, and reads its pods more often while they are busy."""

    targets: LensTargets
    endpoint: MetricsEndpoint
    follows_pods: bool = True  # its regular times too, as the controller's; else they are those of the cadence


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """What lies between the pods and a policy that asks Prometheus: every part works at its own times."""

    window_s: float = 60.0  # the range of its rates
    is_of_router: bool = False  # all series are of one target, a router that knows its pods at once
    rule_s: float | None = None  # recording rules make the series that is asked for, so often
    is_relayed: bool = False  # another controller asks; what it says is scraped again
    polling_s: float | None = None  # whoever asks keeps the answer so long
    counts_replicas: bool = False  # series of kube-state-metrics are among what is asked for

    def stages_s(self, scrape_s: float) -> tuple[float, ...]:
        """The periods of what follows the first scrape, in the order of the way to the policy."""
        relay_s = scrape_s if self.is_relayed else None
        return tuple(period_s for period_s in (self.rule_s, relay_s, self.polling_s) if period_s is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often the sensors read the pods, and how often the policy looks at what they read."""

    scrape_s: float
    decide_s: float
    jitter_s: float = 0.0  # it looks up to so much later each time: a queue of other work, slow answers
    reads_rates: bool = True  # False: gauges only
    reads_gaps: bool = False  # with the rates: times between tokens
    events: Events | None = None  # None: it looks at its times and never between them
    queries: Queries | None = None  # None: it reads the pods itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a policy may be told of the place: the machine that serves, and for foresight the traffic to come."""

    config: EngineConfig
    times: StepTimes
    requests: Records | None = None  # only policies with foresight look at it
    eagerness_ratio: float = 1.0  # 2: half the load per replica; the knob that every policy has
    role: Role | None = None  # None: its replicas do both
    itl_s: float | None = None  # the objective between tokens; None: as each policy's makers have it

    def __post_init__(self) -> None:
        if not 0 < self.eagerness_ratio < math.inf:
            raise ValueError(f"Site.eagerness_ratio must be > 0 and finite, got {self.eagerness_ratio}")


class Policy(Protocol):
    """One service's autoscaler; it may remember what it saw."""

    @property
    def cadence(self) -> Cadence: ...

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """The number wanted now; None leaves things as they are."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A policy for each pool, where prefill and decoding are apart and both are scaled."""

    prefill: Policy
    decode: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of replicas, as kube-state-metrics exports them."""

    wanted: int  # kube_deployment_spec_replicas
    present: int  # pods that are not on their way out
    ready: int

    @property
    def pending(self) -> int:
        """There, but not ready."""
        return self.present - self.ready


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWithCounts(Observation):
    """What is seen where numbers of replicas come through Prometheus, too: as old as its last scrape."""

    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsWithPaces(PodSignals):
    """What is said by who reads times between tokens; `itl_s` is vLLM's, weighted by token."""

    # (End - first token) / (tokens - 1) of each request that ended and had several: vLLM's
    # `request_time_per_output_token_seconds`, and what a router measures.
    tpot_s: Histogram | None = None


def counts(seen: Observation) -> Counts:
    """As old as what is seen of them; of the moment, where nothing is."""
    if isinstance(seen, SeenWithCounts):
        return seen.counts
    present = sum(pod.phase is not PodPhase.TERMINATING for pod in seen.pods)
    return Counts(wanted=seen.replicas, present=present, ready=len(ready_pods(seen)))


def ready_pods(seen: Observation) -> list[PodSeen]:
    """Those that serve."""
    return [pod for pod in seen.pods if pod.phase is PodPhase.READY]


def samples(seen: Observation) -> list[PodSignals]:
    """What the serving pods said, those that said anything."""
    return [pod.signals for pod in ready_pods(seen) if pod.signals is not None]
