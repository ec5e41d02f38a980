"""The course of one policy's world: sensors read, the policy wishes, replicas start and drain."""

import math
from collections.abc import Callable
from random import Random

import numpy as np

from autoscaler.policy.types import Observation
from simulations.compiled.fleet import CompiledFleet, forget_course
from simulations.policies.base import Policy
from simulations.world.outcome import Change, Outcome
from simulations.world.pods import Pods
from simulations.world.series import Recorder
from simulations.world.setting import Setting

# As the controller reads rates: over some scrapes, within these limits (`autoscaler.collect`).
RATE_SCRAPES, RATE_SPAN_MIN_S, RATE_SPAN_MAX_S = 15, 5.0, 60.0
# Draining replicas keep their GPUs for a while: room for as many again as may serve.
NODES_PER_REPLICA = 2
PROGRESS_EVERY_S = 60.0  # of virtual time

Progress = Callable[[float], None]


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
        self._decisions: list[Change] = []
        self._recorder = Recorder(setting.span_s)
        cadence = policy.cadence
        # Sensors are not in step with the traffic, nor controllers with sensors, unless they are one and the same.
        self._scrape_at_s = random.random() * cadence.scrape_s
        decide_at_s = random.random() * cadence.decide_s
        self._decide_at_s = self._scrape_at_s if cadence.scrape_s == cadence.decide_s else decide_at_s
        self._span_s = min(max(RATE_SCRAPES * cadence.scrape_s, RATE_SPAN_MIN_S), RATE_SPAN_MAX_S)

    @property
    def next_at_s(self) -> float:
        """When something reads or decides next."""
        return min(self._scrape_at_s, self._decide_at_s, self._recorder.next_at_s)

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
        if self._recorder.next_at_s <= now_s:
            self._recorder.note(now_s, self._replicas, self._pods, self._fleet)

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
            replicas_at_start=setting.replicas_at_start,
            decisions=tuple(self._decisions),
            requests=requests,
            series=self._recorder.series(requests, setting.ttft_s),
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
            self._decisions.append(
                Change(
                    at_s=now_s,
                    before=self._replicas,
                    after=wish.replicas,
                    reason=wish.reason,
                    lens=wish.lens,
                    steps=wish.steps,
                )
            )
            self._replicas = wish.replicas
        self._pods.scale_to(wish.replicas, now_s, victim=wish.victim)
