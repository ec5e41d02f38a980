"""The course of one policy's world: sensors read, the policy wishes, replicas start and drain."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import eq
from random import Random

from autoscaler.policy.types import Observation
from autoscaler.rhythm import SPACING_S, pass_period_s
from simulations.policies.base import Cadence, Policy, Role, Wish
from simulations.world.nodes import NodeGroup
from simulations.world.outcome import SERIES_POINTS, Change, Outcome, PoolUse
from simulations.world.parts import FleetPart
from simulations.world.pods import Pods
from simulations.world.sensing.asked import AskedSensors
from simulations.world.sensing.counts import counts_of, state_metrics
from simulations.world.sensing.faults import FaultySensors
from simulations.world.sensing.prometheus import PrometheusSensors
from simulations.world.sensing.sensors import Sensing, Sensors
from simulations.world.series import Recorder
from simulations.world.serving import fixed_slots, make_fleet, prefix_hit_ratio, serve_to_the_end
from simulations.world.setting import PLACES_PER_REPLICA, Setting
from simulations.world.starts.phases import PhasedStarts, Phases
from simulations.world.starts.startup import DrawnStarts, StartFigures, Starts
from simulations.world.stream import as_they_come
from simulations.world.tally import Tally, lost_among, ttft_quantile_s
from simulations.world.tenant import Tenant, Tenants

PROGRESS_EVERY_S = 60.0  # of virtual time

Progress = Callable[[float], None]


def simulate_one(
    setting: Setting, policy: Policy, progress: Progress | None = None, *, sensing: type[Sensing] | None = None
) -> Outcome:
    """Run one policy through the setting; the same seed gives the same outcome, and every policy the same luck."""
    nodes = setting.make_nodes()
    run = Run(setting, policy, tenant_of(setting, Tenants(nodes)), sensing)
    told_s = -math.inf
    span_s = setting.span_s
    while (now_s := run.step()) < span_s:
        if progress is not None and now_s - told_s >= PROGRESS_EVERY_S:
            progress(now_s / span_s)
            told_s = now_s
    return replace(run.end(), nodes=nodes.use(setting.span_s) if setting.nodes else ())


def tenant_of(setting: Setting, tenants: Tenants, *, first_kind: int = 0, group: NodeGroup | None = None) -> Tenant:
    """The service's places; without nodes in its setting, as many as it ever needs, of this `group`.

    `first_kind`: of the fleet's kinds of machines, from which on its classes have theirs.
    """
    slots = None if setting.nodes else setting.bounds.high * PLACES_PER_REPLICA
    fits = setting.fits if group is None else partial(eq, group)
    tenant = tenants.add(gpus=setting.gpus_per_replica, fits=fits, slots=slots)
    tenant.kinds = {one.gpu_class: kind for kind, one in enumerate(setting.on_class, first_kind)}
    return tenant


class Run:
    """One policy's world on its way."""

    def __init__(
        self,
        setting: Setting,
        policy: Policy,
        tenant: Tenant,
        sensing: type[Sensing] | None = None,
        part: FleetPart | None = None,
    ) -> None:
        """`part`: of a fleet whose other replicas are another run's."""
        self._setting, self._policy, self._cadence = setting, policy, setting.monitoring.of(policy.cadence)
        requests, self._parts = as_they_come(setting)
        slots = len(tenant.index_of) if part is None else part.fleet_slots
        self._fleet = make_fleet(setting, requests, slots) if part is None else part.fleet
        self._known_to_s = math.inf if setting.more is None else float(requests["arrived_at_s"][-1])
        # Their own luck: how often a policy looks must not change how long a replica takes to start.
        self._random = random = Random(f"{setting.seed} sensing")
        sense = sensing or _sensing_of(self._cadence)
        self._sensors: Sensing = sense(self._fleet, self._cadence, random, slots=slots + fixed_slots(setting))
        if setting.faults:
            self._sensors = FaultySensors(self._sensors, setting.faults)
        self._starts = _starts(setting, tenant)
        for node in tenant.there:
            self._starts.come(node, 0.0)
        seen = self._sensors if part is None else part.seen_by(self._sensors)
        self._pods = Pods(part or self._fleet, seen, self._starts, tenant, waits=bool(setting.nodes))
        self._pods.serve_from_the_start(setting.replicas_at_start, 0.0)
        self._replicas = setting.replicas_at_start
        self._counts = state_metrics(self._cadence, setting.seed)
        self._count(0.0)
        self._decisions: list[Change] = []
        self._span_s = setting.span_s
        self._recorder = Recorder(self._span_s)
        self._tally = Tally(
            SERIES_POINTS,
            spacing_s=self._recorder.spacing_s,
            ttft_s=setting.ttft_s,
            keeps_all=setting.more is None,
        )
        self._decide_at_s = random.random() * self._cadence.decide_s
        self._decided_at_s = self._now_s = -math.inf
        self.has_acted = False  # with the last step: what it shares with others may be another

    @property
    def due_s(self) -> float:
        """Where something happens next, if nothing is news before."""
        return self._due_s(self._acts_at_s)

    @property
    def next_s(self) -> float:
        """The same, or where its sensors read next: for who moves its fleet with another run."""
        return min(self.due_s, self._sensors.next_read_s)

    @property
    def _acts_at_s(self) -> float:
        """When the policy looks next, or a replica is further."""
        return min(self._decide_at_s, self._pods.next_at_s)

    def _due_s(self, acts_at_s: float) -> float:
        return min(acts_at_s, self._recorder.next_at_s, self._known_to_s, self._span_s)

    def step(self, until_s: float = math.inf) -> float:
        """Move the world to where something happens next, and let it happen; returns when that is, or `until_s`."""
        acts_at_s = self._acts_at_s
        # An engine that had to make room for another's was due long ago: time does not go back for that.
        now_s, is_news = self._sensors.move(max(self._now_s, min(self._due_s(acts_at_s), until_s)))
        self._now_s = now_s
        if self._known_to_s <= now_s < self._span_s:
            self._read_on()
        self.has_acted = is_news or now_s >= acts_at_s
        if self.has_acted:
            # Not for the recorder's sake: who watches must not change what happens.
            is_news |= self._pods.sweep(now_s)
            self._count(now_s)
        if is_news:
            self._wake(now_s)
        if self._decide_at_s <= now_s:
            self._decide(now_s)
        if self._recorder.next_at_s <= now_s:
            self._recorder.note(self._replicas, self._pods, self._fleet)
        return now_s

    def look_around(self, now_s: float) -> bool:
        """Others did something: replicas that wait may find room, and nodes may be gone. Whether anything changed."""
        if not self._pods.must_look:
            return False
        self.step(now_s)
        is_news = self._pods.sweep(now_s)
        if is_news:
            self._wake(now_s)
        return is_news or self.has_acted

    def end(self) -> Outcome:
        """Serve what arrived; the clock for the cost stops with the last arrival."""
        setting = self._setting
        fixed_seconds = fixed_slots(setting) * setting.span_s
        pod_seconds = self._pods.pod_seconds(0.0, setting.span_s) + fixed_seconds
        self._pods.close(setting.span_s)
        rest = serve_to_the_end(setting, self._fleet)
        self._tally.add(rest)
        series = self._recorder.series()
        self._tally.fill(series)
        requests = self._tally.requests()
        return Outcome(
            attainment_ratio=self._tally.attainment_ratio,
            ttft_p95_s=ttft_quantile_s(requests, 0.95),
            gpu_hours=pod_seconds * setting.gpus_per_replica / 3600.0,
            starts=self._pods.starts,
            replicas_at_start=setting.replicas_at_start,
            decisions=tuple(self._decisions),
            requests=requests,
            series=series,
            fixed_gpu_hours=fixed_seconds * setting.gpus_per_replica / 3600.0,
            prefix_hit_ratio=prefix_hit_ratio(setting, self._fleet),
            startups=self._starts.figures(setting.span_s),
            lost_requests=lost_among(rest),  # these are never taken before
        )

    def end_pool(self, role: Role) -> PoolUse:
        """What its replicas came to, where the fleet has others; what is lost with nodes is lost now."""
        span_s = self._span_s
        gpu_hours = self._pods.pod_seconds(0.0, span_s) * self._setting.gpus_per_replica / 3600.0
        self._pods.close(span_s)
        return PoolUse(
            role=role,
            gpu_hours=gpu_hours,
            starts=self._pods.starts,
            replicas_at_start=self._setting.replicas_at_start,
            decisions=tuple(replace(change, pool=role) for change in self._decisions),
            startups=StartFigures(by_tier=self._starts.figures(span_s).by_tier),  # bytes came for both
            series=self._recorder.series(),
        )

    def _wake(self, now_s: float) -> None:
        if self._cadence.events is not None:
            self._decide_at_s = min(self._decide_at_s, max(now_s, self._decided_at_s + SPACING_S))

    def _read_on(self) -> None:
        """The next part of the traffic; what ended of those before is counted and forgotten."""
        part = next(self._parts, None)
        if part is None:
            self._known_to_s = math.inf
            return
        self._tally.add(self._fleet.take_finished(in_order=False))
        self._fleet.feed(part)
        self._known_to_s = float(part["arrived_at_s"][-1])

    def _decide(self, now_s: float) -> None:
        self._decided_at_s = now_s
        pods = self._pods.look(now_s)
        held_requests, counted_at_s = self._sensors.held
        seen = Observation(
            service="sim/service",
            replicas=self._replicas,
            pods=pods,
            upstream_waiting_requests=held_requests,
            upstream_observed_at_s=counted_at_s,
            schedulable_replicas=self._pods.schedulable_replicas,
            budget_replicas=self._pods.budget_replicas,
            landing=self._pods.landing(now_s),
        )
        wish = self._policy.wish(seen if self._counts is None else self._counts.told(seen, now_s), now_s)
        self._decide_at_s = self._next_look_s(wish, now_s)
        if wish is None:
            return
        if wish.replicas != self._replicas:
            self._decisions.append(_change(wish, self._replicas, now_s))
            self._replicas = wish.replicas
        self._pods.scale_to(wish.replicas, now_s, victim=wish.victim)
        self._count(now_s)

    def _count(self, now_s: float) -> None:
        if self._counts is not None:
            self._counts.note(counts_of(self._replicas, self._pods), now_s)

    def _next_look_s(self, wish: Wish | None, now_s: float) -> float:
        events = self._cadence.events
        if events is not None and events.follows_pods:
            due_s = now_s + pass_period_s(events.endpoint, self._sensors.period_s)
        else:
            due_s = now_s + self._cadence.decide_s + self._cadence.jitter_s * self._random.random()
        if wish is None or wish.again_at_s is None:
            return due_s
        return min(due_s, max(wish.again_at_s, now_s + SPACING_S))


def go_on(runs: Sequence[Run], span_s: float, progress: Progress | None) -> None:
    """Runs that share something, to the end, event by event: none is ahead of what another does."""
    due_s = [run.next_s for run in runs]
    now_s = told_s = 0.0
    while now_s < span_s:
        now_s = max(now_s, min(due_s))
        turns = [number for number, at_s in enumerate(due_s) if at_s <= now_s]
        for number in turns:
            runs[number].step(now_s)
        if any(runs[number].has_acted for number in turns):  # what others wait for may be there, or come sooner
            while any([run.look_around(now_s) for run in runs]):  # and what one lets go then is another's
                pass
            turns = list(range(len(runs)))
        for number in turns:
            due_s[number] = runs[number].next_s
        if progress is not None and now_s - told_s >= PROGRESS_EVERY_S:
            progress(now_s / span_s)
            told_s = now_s


def _sensing_of(cadence: Cadence) -> type[Sensing]:
    """The sensors that a policy with this cadence has."""
    if cadence.queries is not None:
        return PrometheusSensors
    only_asks = cadence.events is None and not cadence.reads_rates and cadence.scrape_s == cadence.decide_s
    return AskedSensors if only_asks else Sensors


def _starts(setting: Setting, tenant: Tenant) -> Starts:
    random = Random(setting.seed)
    if isinstance(setting.startup, Phases):
        return PhasedStarts(setting.startup, random, tenant.nodes, holdings=tenant.holdings, memory=tenant.memory)
    return DrawnStarts(setting.startup, random, tenant.memory)


def _change(wish: Wish, before: int, now_s: float) -> Change:
    return Change(at_s=now_s, before=before, after=wish.replicas, reason=wish.reason, lens=wish.lens, steps=wish.steps)
