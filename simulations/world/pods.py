"""The replicas of a simulated service: created, ready, draining, gone."""

import math
from dataclasses import dataclass
from random import Random

from autoscaler.policy.types import PodPhase, PodSeen, Tier
from metrics.sample import PodSignals
from simulations.compiled.fleet import CompiledFleet
from simulations.world.sensors import Sensing
from simulations.world.startup import StartupTimes

NODE_CLASS = "gpu"
LONG_AGO_S = 3600.0  # the first replicas are no news to anyone


@dataclass(slots=True, eq=False, kw_only=True)
class Pod:
    """One replica and its node, which is the fleet's slot."""

    name: str
    slot: int
    tier: Tier
    created_at_s: float
    ready_at_s: float
    is_ready: bool = False
    drained_at_s: float | None = None

    @property
    def phase(self) -> PodPhase:
        """Where it is on its way."""
        if self.drained_at_s is not None:
            return PodPhase.TERMINATING
        return PodPhase.READY if self.is_ready else PodPhase.STARTING

    def seen(self, signals: PodSignals | None) -> PodSeen:
        """As a controller sees it."""
        return PodSeen(
            name=self.name,
            phase=self.phase,
            created_at_s=self.created_at_s,
            ready_at_s=self.ready_at_s if self.is_ready else None,
            node=f"node-{self.slot}",
            node_class=NODE_CLASS,
            tier=self.tier,
            signals=signals,
        )


class Pods:
    """A Deployment of replicas on nodes of one GPU each; a node that ran the model before keeps its weights."""

    def __init__(
        self, fleet: CompiledFleet, sensors: Sensing, startup: StartupTimes, random: Random, *, nodes: int
    ) -> None:
        self._fleet = fleet
        self._sensors = sensors
        self._startup = startup
        self._random = random
        self._free_nodes = list(range(nodes))
        self._warm_nodes: set[int] = set()
        self._made = 0
        self.present: list[Pod] = []
        self.starts = 0
        self.gone_pod_seconds = 0.0

    @property
    def replicas(self) -> int:
        """Those that are not on their way out."""
        return sum(pod.drained_at_s is None for pod in self.present)

    @property
    def next_ready_at_s(self) -> float:
        """When the next one becomes ready."""
        coming = [pod.ready_at_s for pod in self.present if pod.phase is PodPhase.STARTING]
        return min(coming, default=math.inf)

    def serve_from_the_start(self, replicas: int, now_s: float) -> None:
        """Replicas that have long been ready, and whose cost begins now."""
        for _ in range(replicas):
            pod = self._add(now_s - LONG_AGO_S, startup_s=LONG_AGO_S)
            self._begin(pod, now_s)

    def scale_to(self, replicas: int, now_s: float, *, victim: str | None = None) -> None:
        """Start what is missing, as far as there are nodes; let go of what is too much."""
        for _ in range(min(replicas - self.replicas, len(self._free_nodes))):
            self.starts += 1
            self._add(now_s)
        while self.replicas > replicas:
            self._let_go(self._victim(victim), now_s)

    def sweep(self, now_s: float) -> bool:
        """Who has started is ready; who drains and has served its last request is gone. Whether anything changed."""
        changed = False
        for pod in list(self.present):
            if pod.phase is PodPhase.STARTING and pod.ready_at_s <= now_s:
                self._begin(pod, now_s)
                changed = True
            elif pod.drained_at_s is not None and self._fleet.outstanding(pod.slot) == 0:
                self._end(pod, max(pod.drained_at_s, self._fleet.last_finish_at_s(pod.slot)))
                changed = True
        return changed

    def look(self, now_s: float) -> tuple[PodSeen, ...]:
        """All pods, with the signals of those that serve."""
        serving = [pod for pod in self.present if pod.phase is PodPhase.READY]
        signals = dict(zip(serving, self._sensors.look([pod.slot for pod in serving], now_s), strict=True))
        return tuple([pod.seen(signals.get(pod)) for pod in self.present])

    def pod_seconds(self, begin_s: float, end_s: float) -> float:
        """Seconds that pods existed, and held a GPU, since the beginning."""
        alive = sum(end_s - max(begin_s, pod.created_at_s) for pod in self.present)
        return self.gone_pod_seconds + alive

    def _add(self, now_s: float, *, startup_s: float | None = None) -> Pod:
        warm = [node for node in self._free_nodes if node in self._warm_nodes]
        slot = warm[0] if warm else self._free_nodes[0]
        self._free_nodes.remove(slot)
        tier = Tier.WARM if warm else Tier.COLD
        self._warm_nodes.add(slot)
        takes_s = self._startup.draw_s(tier, self._random) if startup_s is None else startup_s
        self._made += 1
        pod = Pod(name=f"replica-{self._made}", slot=slot, tier=tier, created_at_s=now_s, ready_at_s=now_s + takes_s)
        self._fleet.add(slot, ready_at_s=pod.ready_at_s)
        self.present.append(pod)
        return pod

    def _begin(self, pod: Pod, now_s: float) -> None:
        pod.is_ready = True
        self._sensors.begin(pod.slot, now_s)

    def _victim(self, named: str | None) -> Pod:
        """The one that the policy named; else as a ReplicaSet: those not ready first, then the youngest."""
        staying = [pod for pod in self.present if pod.drained_at_s is None]
        for pod in staying:
            if pod.name == named:
                return pod
        return max(staying, key=lambda pod: (not pod.is_ready, pod.ready_at_s, pod.slot))

    def _let_go(self, pod: Pod, now_s: float) -> None:
        self._fleet.drain(pod.slot)
        self._sensors.leave(pod.slot)
        pod.drained_at_s = now_s
        if self._fleet.outstanding(pod.slot) == 0:
            self._end(pod, now_s)

    def _end(self, pod: Pod, at_s: float) -> None:
        self.present.remove(pod)
        self._sensors.end(pod.slot)
        self._free_nodes.append(pod.slot)
        # The first replicas were there before the clock started: they cost from then on.
        self.gone_pod_seconds += at_s - max(0.0, pod.created_at_s)
