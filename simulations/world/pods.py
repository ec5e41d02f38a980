"""The replicas of a simulated service: created, ready, draining, gone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.policy.types import PodPhase, PodSeen, Tier
from metrics.sample import PodSignals
from simulations.compiled.fleet import CompiledFleet
from simulations.world.sensors import Sensing
from simulations.world.startup import Started, Starts

NODE_CLASS = "gpu"
LONG_AGO_S = 3600.0  # the first replicas are no news to anyone


@dataclass(slots=True, eq=False, kw_only=True)
class Pod:
    """One replica and where it is."""

    name: str
    slot: int  # of the fleet
    node: str
    tier: Tier
    created_at_s: float
    ready_at_s: float
    drained_at_s: float = math.inf

    def seen(self, phase: PodPhase, signals: PodSignals | None = None) -> PodSeen:
        """As a controller sees it."""
        return PodSeen(
            name=self.name,
            phase=phase,
            created_at_s=self.created_at_s,
            ready_at_s=None if phase is PodPhase.STARTING or self.ready_at_s > self.drained_at_s else self.ready_at_s,
            node=self.node,
            node_class=NODE_CLASS,
            tier=self.tier,
            signals=signals,
        )


class Pods:
    """A Deployment of replicas on nodes, `places` by slot; a node that ran the model before keeps its weights."""

    def __init__(self, fleet: CompiledFleet, sensors: Sensing, starts: Starts, *, places: Sequence[int]) -> None:
        self._fleet = fleet
        self._sensors = sensors
        self._starts = starts
        self._places = places
        self._free = set(range(len(places)))
        self._made = 0
        self.starting: list[Pod] = []
        self.serving: list[Pod] = []
        self.draining: list[Pod] = []
        self.ready_at_s = math.inf  # of the next one
        self._silent_seen: tuple[PodSeen, ...] | None = None
        self.starts = 0
        self.gone_pod_seconds = 0.0

    @property
    def replicas(self) -> int:
        """Those that are not on their way out."""
        return len(self.starting) + len(self.serving)

    @property
    def next_at_s(self) -> float:
        """When a replica gets ready, or is a phase further."""
        return min(self.ready_at_s, self._starts.next_at_s)

    def serve_from_the_start(self, replicas: int, now_s: float) -> None:
        """Replicas that have long been ready, and whose cost begins now."""
        for _ in range(replicas):
            slot = self._place()
            self._starts.hold(self._places[slot], slot)
            pod = self._add(slot, now_s - LONG_AGO_S, ready_at_s=now_s)
            self._begin(pod, now_s)

    def scale_to(self, replicas: int, now_s: float, *, victim: str | None = None) -> None:
        """Start what is missing, as far as there are nodes; let go of what is too much."""
        for _ in range(min(replicas - self.replicas, len(self._free))):
            self.starts += 1
            slot = self._place()
            self._add(slot, now_s)
        while self.replicas > replicas:
            self._let_go(self._victim(victim), now_s)

    def sweep(self, now_s: float) -> bool:
        """Who has started is ready; who drains and has served its last request is gone. Whether anything changed."""
        for started in self._starts.settle(now_s):
            self._expect(started)
        ready = [pod for pod in self.starting if pod.ready_at_s <= now_s]
        gone = [pod for pod in self.draining if self._fleet.outstanding(pod.slot) == 0]
        for pod in ready:
            self._begin(pod, now_s)
        for pod in gone:
            self.draining.remove(pod)
            self._silent_seen = None
            self._end(pod, max(pod.drained_at_s, self._fleet.last_finish_at_s(pod.slot)))
        return bool(ready or gone)

    def look(self, now_s: float) -> tuple[PodSeen, ...]:
        """All pods, with the signals of those that serve."""
        signals = self._sensors.look([pod.slot for pod in self.serving], now_s)
        serving = [pod.seen(PodPhase.READY, found) for pod, found in zip(self.serving, signals, strict=True)]
        return (*serving, *self._silent())

    def _silent(self) -> tuple[PodSeen, ...]:
        """Those that serve nobody new: as they were until one of them comes or goes."""
        if self._silent_seen is None:
            starting = [pod.seen(PodPhase.STARTING) for pod in self.starting]
            self._silent_seen = (*starting, *[pod.seen(PodPhase.TERMINATING) for pod in self.draining])
        return self._silent_seen

    def pod_seconds(self, begin_s: float, end_s: float) -> float:
        """Seconds that pods existed, and held a GPU, since the beginning."""
        present = (*self.starting, *self.serving, *self.draining)
        return self.gone_pod_seconds + sum(end_s - max(begin_s, pod.created_at_s) for pod in present)

    def _place(self) -> int:
        """Where the next one goes: to weights that are there, else where it may."""
        warm = {slot for slot in self._free if self._starts.tier(self._places[slot]) is Tier.WARM}
        return min(warm or self._free)  # low numbers: the kernel looks at all up to the highest in use

    def _add(self, slot: int, now_s: float, *, ready_at_s: float | None = None) -> Pod:
        self._free.remove(slot)
        tier = Tier.COLD if ready_at_s is not None else self._starts.tier(self._places[slot])
        self._made += 1
        pod = Pod(
            name=f"replica-{self._made}",
            slot=slot,
            node=f"node-{self._places[slot]}",
            tier=tier,
            created_at_s=now_s,
            ready_at_s=self._starts.begin(slot, self._places[slot], now_s) if ready_at_s is None else ready_at_s,
        )
        self._fleet.add(slot, ready_at_s=pod.ready_at_s)
        self.starting.append(pod)
        self._silent_seen = None
        self.ready_at_s = min(self.ready_at_s, pod.ready_at_s)
        return pod

    def _expect(self, started: Started) -> None:
        """Its weights are there: now it is known when it will be Ready, if it was not let go."""
        for pod in self.starting:
            if pod.slot == started.slot and pod.ready_at_s == math.inf:
                pod.ready_at_s = started.ready_at_s
                self._fleet.world.replicas["ready_at_s"][pod.slot] = started.ready_at_s
                self.ready_at_s = min(self.ready_at_s, pod.ready_at_s)

    def _begin(self, pod: Pod, now_s: float) -> None:
        self._is_no_longer_starting(pod)
        self.serving.append(pod)
        self._sensors.begin(pod.slot, now_s)

    def _is_no_longer_starting(self, pod: Pod) -> None:
        self.starting.remove(pod)
        self._silent_seen = None
        self.ready_at_s = min([pod.ready_at_s for pod in self.starting], default=math.inf)

    def _victim(self, named: str | None) -> Pod:
        """The one that the policy named; else as a ReplicaSet: those not ready first, then the youngest."""
        for pod in (*self.starting, *self.serving):
            if pod.name == named:
                return pod
        return max(self.starting or self.serving, key=lambda pod: (pod.ready_at_s, pod.slot))

    def _let_go(self, pod: Pod, now_s: float) -> None:
        self._fleet.drain(pod.slot)
        self._sensors.leave(pod.slot)
        pod.drained_at_s = now_s
        if pod in self.starting:
            self._is_no_longer_starting(pod)
        else:
            self.serving.remove(pod)
        if self._fleet.outstanding(pod.slot) == 0:
            self._end(pod, now_s)
        else:
            self.draining.append(pod)
            self._silent_seen = None

    def _end(self, pod: Pod, at_s: float) -> None:
        self._sensors.end(pod.slot)
        self._starts.end(pod.slot, at_s)
        self._free.add(pod.slot)
        # The first replicas were there before the clock started: they cost from then on.
        self.gone_pod_seconds += at_s - max(0.0, pod.created_at_s)
