"""A service under a policy, in virtual time: sensors read, the policy wishes, replicas start and drain."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np

from autoscaler.policy.types import Observation
from simulations.compiled.fleet import CompiledFleet, Router, forget_course
from simulations.compiled.layout import Records
from simulations.policies.base import Bounds, Policy
from simulations.replica import EngineConfig, StepTimes
from simulations.world_pods import Pods
from simulations.world_startup import StartupTimes

# As the controller reads rates: over some scrapes, within these limits (`autoscaler.collect`).
RATE_SCRAPES, RATE_SPAN_MIN_S, RATE_SPAN_MAX_S = 15, 5.0, 60.0
# Draining replicas keep their GPUs for a while: room for as many again as may serve.
NODES_PER_REPLICA = 2
PROGRESS_EVERY_S = 60.0  # of virtual time

Progress = Callable[[float], None]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy made of a setting."""

    attainment_ratio: float  # of all requests; one that never got a token missed
    ttft_p95_s: float  # infinite where more than one in twenty never got a token
    gpu_hours: float
    starts: int
    changes: tuple[tuple[float, int], ...]  # (at_s, replicas wanted from then on)


def simulate(setting: Setting, policy: Policy, progress: Progress | None = None) -> Outcome:
    """Run one policy through the setting; the same seed gives the same outcome, and every policy the same luck."""
    run = _Run(setting, policy)
    told_s = -math.inf
    while (now_s := run.next_at_s) <= setting.span_s:
        run.tick(now_s)
        if progress is not None and now_s - told_s >= PROGRESS_EVERY_S:
            progress(now_s / setting.span_s)
            told_s = now_s
    return run.end()


class _Run:
    """One policy's world on its way."""

    def __init__(self, setting: Setting, policy: Policy) -> None:
        random = Random(setting.seed)
        nodes = setting.bounds.high * NODES_PER_REPLICA
        self._setting, self._policy = setting, policy
        self._fleet = CompiledFleet(
            forget_course(setting.requests), setting.config, setting.times, slots=nodes, router=setting.router
        )
        self._pods = Pods(self._fleet, setting.startup, random, nodes=nodes)
        self._pods.serve_from_the_start(setting.replicas_at_start, 0.0)
        self._replicas = setting.replicas_at_start
        self._changes = [(0.0, self._replicas)]
        cadence = policy.cadence
        # Sensors are not in step with the traffic, nor controllers with sensors, unless they are one and the same.
        self._scrape_at_s = random.random() * cadence.scrape_s
        decide_at_s = random.random() * cadence.decide_s
        self._decide_at_s = self._scrape_at_s if cadence.scrape_s == cadence.decide_s else decide_at_s
        self._span_s = min(max(RATE_SCRAPES * cadence.scrape_s, RATE_SPAN_MIN_S), RATE_SPAN_MAX_S)

    @property
    def next_at_s(self) -> float:
        """When something reads or decides next."""
        return min(self._scrape_at_s, self._decide_at_s)

    def tick(self, now_s: float) -> None:
        """Move the world there; let the sensors read and the policy decide, whichever is due."""
        self._fleet.advance(now_s)
        self._pods.sweep(now_s)
        if self._scrape_at_s <= now_s:
            self._pods.scrape(now_s, with_rates=self._policy.cadence.reads_rates)
            self._scrape_at_s += self._policy.cadence.scrape_s
        if self._decide_at_s <= now_s:
            self._decide(now_s)
            self._decide_at_s += self._policy.cadence.decide_s

    def end(self) -> Outcome:
        """Serve what arrived; the clock for the cost stops with the last arrival."""
        setting = self._setting
        self._fleet.advance(setting.span_s)
        self._pods.sweep(setting.span_s)
        pod_seconds = self._pods.pod_seconds(0.0, setting.span_s)
        self._fleet.advance(math.inf)
        requests = self._fleet.requests
        ttft_s = np.nan_to_num(requests["first_token_at_s"] - requests["arrived_at_s"], nan=math.inf)
        return Outcome(
            attainment_ratio=float((ttft_s <= setting.ttft_s).mean()),
            ttft_p95_s=float(np.quantile(ttft_s, 0.95, method="inverted_cdf")),
            gpu_hours=pod_seconds / 3600.0,
            starts=self._pods.starts,
            changes=tuple(self._changes),
        )

    def _decide(self, now_s: float) -> None:
        if self._policy.cadence.reads_rates:
            self._pods.rate(now_s, span_s=self._span_s)
        seen = Observation(
            service="sim/service",
            replicas=self._replicas,
            pods=self._pods.look(now_s),
            upstream_waiting_requests=float(self._fleet.held_requests),
            upstream_observed_at_s=now_s,
        )
        wish = self._policy.wish(seen, now_s)
        if wish is None:
            return
        if wish.replicas != self._replicas:
            self._replicas = wish.replicas
            self._changes.append((now_s, wish.replicas))
        self._pods.scale_to(wish.replicas, now_s, victim=wish.victim)
