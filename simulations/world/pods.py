"""The replicas of a simulated service: created, ready, draining, gone."""

import math
from dataclasses import dataclass

from autoscaler.caching.landing import SettledLanding, landing_of
from autoscaler.policy.types import Landing, PodPhase, PodSeen, Tier
from metrics.sample import PodSignals
from simulations.compiled.fleet import CompiledFleet
from simulations.world.nodes import NODE_CLASS, Fate, Happening
from simulations.world.parts import FleetPart, SensorsPart
from simulations.world.sensing.sensors import Sensing
from simulations.world.starts.startup import Started, Starts
from simulations.world.tenant import Tenant

NOWHERE = -1  # the slot of a replica that waits for a node
# While anybody waits for its GPUs, that a replica has served its last request is known so soon: a kubelet relists its
# containers every second (its PLEG's relist period).
GONE_S = 1.0
LONG_AGO_S = 3600.0  # the first replicas are no news to anyone


@dataclass(slots=True, eq=False, kw_only=True)
class Pod:
    """One replica and where it is."""

    name: str
    created_at_s: float
    slot: int = NOWHERE  # of the fleet
    machine: int = NOWHERE
    node: str | None = None
    node_class: str = NODE_CLASS
    tier: Tier = Tier.COLD
    held_from_s: float = math.inf  # its GPUs
    ready_at_s: float = math.inf
    drained_at_s: float = math.inf
    is_stopped: bool = False  # its machine is lost, and nobody knows

    def seen(self, phase: PodPhase, signals: PodSignals | None = None) -> PodSeen:
        """As a controller sees it."""
        return PodSeen(
            name=self.name,
            phase=phase,
            created_at_s=self.created_at_s,
            ready_at_s=None if phase in _NOT_READY or self.ready_at_s > self.drained_at_s else self.ready_at_s,
            node=self.node,
            node_class=self.node_class,
            tier=self.tier,
            signals=signals,
        )


_NOT_READY = (PodPhase.STARTING, PodPhase.UNSCHEDULABLE)


class Pods:
    """A Deployment of replicas on nodes. `waits`: one without room is there and waits; else it is not made."""

    def __init__(
        self,
        fleet: CompiledFleet | FleetPart,
        sensors: Sensing | SensorsPart,
        starts: Starts,
        tenant: Tenant,
        *,
        waits: bool,
    ) -> None:
        self._fleet, self._sensors, self._starts = fleet, sensors, starts
        self._tenant, self._waits = tenant, waits
        self._free = set(range(len(tenant.index_of)))
        self._made = self._wanted = 0
        self.waiting: list[Pod] = []  # for a node
        self.starting: list[Pod] = []
        self.serving: list[Pod] = []
        self.draining: list[Pod] = []
        self.ready_at_s = math.inf  # of the next one
        self._looks_at_s = math.inf  # whether one that drains is gone
        self._silent_seen: tuple[PodSeen, ...] | None = None
        self._landing = SettledLanding()
        self.starts = 0
        self.gone_pod_seconds = 0.0

    @property
    def replicas(self) -> int:
        """Those that are not on their way out."""
        return len(self.waiting) + len(self.starting) + len(self.serving)

    @property
    def next_at_s(self) -> float:
        """When a replica gets ready, or is a phase further, or may be gone, or something happens to a node."""
        looks_at_s = self._looks_at_s if self._waits and self._tenant.is_anyone_short else math.inf
        return min(self.ready_at_s, looks_at_s, self._starts.next_at_s, self._tenant.next_at_s)

    @property
    def must_look(self) -> bool:
        """Whether what others did may matter: something happened to a node, or they left one that we wait for."""
        return self._tenant.has_news or (self._tenant.is_short and self._tenant.may_have_room)

    @property
    def schedulable_replicas(self) -> int | None:
        """As many more as would find free GPUs; None: it cannot be known."""
        return self._tenant.schedulable if self._waits else None

    @property
    def budget_replicas(self) -> int | None:
        """The most that a quota allows."""
        return self._tenant.budget(self._wanted, self.replicas)

    def landing(self, now_s: float) -> Landing | None:
        """What the next one would find, as the controller has it of node agents; None: nobody tells it."""
        if not self._starts.are_told:
            return None
        free = {self._tenant.index_of[slot]: slot for slot in self._free if self._tenant.is_free(slot)}
        roomy = {str(node): self._tenant.names(slot)[1] for node, slot in free.items()}
        warm = {str(node) for node in free if self._starts.tier(node) is Tier.WARM}
        return self._landing.settle(landing_of(roomy, warm), now_s)

    def serve_from_the_start(self, replicas: int, now_s: float) -> None:
        """Replicas that have long been ready, and whose cost begins now; those without room wait for it."""
        self._wanted = replicas
        while self.replicas < replicas and self._tenant.admits() and (slot := self._place(now_s)) is not None:
            self._starts.hold(self._tenant.index_of[slot], slot)
            pod = self._create(now_s - LONG_AGO_S)
            self._put(pod, slot, now_s, is_ready=True)
            self._begin(pod, now_s)
        self._keep_up(now_s)

    def scale_to(self, replicas: int, now_s: float, *, victim: str | None = None) -> None:
        """Start what is missing, as far as there are nodes; let go of what is too much."""
        self._wanted = replicas
        while self.replicas > replicas:
            self._let_go(self._victim(victim), now_s)
        self._keep_up(now_s)

    def sweep(self, now_s: float) -> bool:
        """Who has started is ready; who drains and has served its last request is gone. Whether anything changed."""
        happened = self._tenant.hear(now_s)
        for happening in happened:
            self._bear(happening, now_s)
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
        self._looks_at_s = now_s + GONE_S if self.draining else math.inf
        if self._waits:
            self._keep_up(now_s)
        return bool(ready or gone or happened)

    def close(self, now_s: float) -> None:
        """The course is over: what is on machines that were lost will not end, whether somebody knows it or not."""
        for pod in (*self.starting, *self.serving, *self.draining):
            if pod.is_stopped:
                self._lose(pod, now_s)

    def look(self, now_s: float) -> tuple[PodSeen, ...]:
        """All pods, with the signals of those that serve."""
        signals = self._sensors.look([pod.slot for pod in self.serving], now_s)
        serving = [pod.seen(PodPhase.READY, found) for pod, found in zip(self.serving, signals, strict=True)]
        return (*serving, *self._silent())

    def _silent(self) -> tuple[PodSeen, ...]:
        """Those that serve nobody new: as they were until one of them comes or goes."""
        if self._silent_seen is None:
            waiting = [pod.seen(PodPhase.UNSCHEDULABLE) for pod in self.waiting]
            starting = [pod.seen(PodPhase.STARTING) for pod in self.starting]
            self._silent_seen = (*waiting, *starting, *[pod.seen(PodPhase.TERMINATING) for pod in self.draining])
        return self._silent_seen

    def pod_seconds(self, begin_s: float, end_s: float) -> float:
        """Seconds that pods existed, and held a GPU, since the beginning."""
        present = (*self.starting, *self.serving, *self.draining)
        return self.gone_pod_seconds + sum(end_s - max(begin_s, pod.held_from_s) for pod in present)

    def _keep_up(self, now_s: float) -> None:
        """Make what is missing, as a ReplicaSet; place what waits, the oldest first, as a scheduler."""
        while self.replicas < self._wanted and self._tenant.admits() and (self._waits or self._free):
            self.waiting.append(self._create(now_s))
            self._silent_seen = None
            if not self._waits:
                self._place_first(now_s)
        while self.waiting and self._place_first(now_s):
            pass
        self._tenant.is_short = self.replicas - len(self.waiting) < self._wanted
        self._tenant.provide(len(self.waiting), now_s)

    def _place_first(self, now_s: float) -> bool:
        """Whether the one that waits longest found a node."""
        slot = self._place(now_s)
        if slot is None:
            return False
        self.starts += 1
        self._put(self.waiting.pop(0), slot, now_s)
        return True

    def _place(self, now_s: float) -> int | None:
        """Where the next one goes: to an engine that sleeps, to weights that are there, else where there is room."""
        # Low numbers first: the kernel looks at all up to the highest in use. So groups are used in their order, and
        # one node after the other, as under a scheduler that packs GPUs (NodeResourcesFit's MostAllocated).
        free = [slot for slot in sorted(self._free) if self._tenant.is_free(slot)]
        hot = next((slot for slot in free if self._starts.is_hot(slot, now_s)), None)
        if hot is not None or not free:
            return hot
        return next((slot for slot in free if self._starts.tier(self._tenant.index_of[slot]) is Tier.WARM), free[0])

    def _create(self, now_s: float) -> Pod:
        self._made += 1
        self._tenant.admit()
        return Pod(name=f"replica-{self._made}", created_at_s=now_s)

    def _put(self, pod: Pod, slot: int, now_s: float, *, is_ready: bool = False) -> None:
        """On its node."""
        self._free.remove(slot)
        self._tenant.take(slot)
        pod.slot, pod.machine = slot, self._tenant.machine(slot)
        pod.node, pod.node_class = self._tenant.names(slot)
        pod.held_from_s = now_s
        node = self._tenant.index_of[slot]
        if not is_ready:
            pod.tier = Tier.HOT if self._starts.is_hot(slot, now_s) else self._starts.tier(node)
        pod.ready_at_s = now_s if is_ready else self._starts.begin(slot, node, now_s)
        self._fleet.add(slot, ready_at_s=pod.ready_at_s, kind=self._tenant.kind(slot))
        self.starting.append(pod)
        self._silent_seen = None
        self.ready_at_s = min(self.ready_at_s, pod.ready_at_s)

    def _bear(self, happening: Happening, now_s: float) -> None:
        """What befalls a machine befalls what is on it."""
        present = (*self.starting, *self.serving, *self.draining)
        for pod in [pod for pod in present if pod.machine == happening.machine]:
            if happening.fate is Fate.LOST:
                self._stop(pod)
            elif happening.fate is not Fate.RECLAIMED:
                self._lose(pod, now_s)
            elif pod.drained_at_s == math.inf:
                self._let_go(pod, now_s)
        if happening.fate is Fate.COMES:
            self._starts.come(happening.node, now_s)
        elif happening.fate is not Fate.RECLAIMED:
            self._starts.forget(happening.node, now_s)

    def _stop(self, pod: Pod) -> None:
        """Nothing comes of it any more; who watches it sees nothing new, and requests still go there."""
        pod.is_stopped = True
        self._sensors.end(pod.slot)
        self._fleet.stop(pod.slot)
        if pod in self.starting:
            self._set_ready_at(pod, math.inf)

    def _lose(self, pod: Pod, now_s: float) -> None:
        for pods in (self.starting, self.serving, self.draining):
            if pod in pods:
                pods.remove(pod)
        self.ready_at_s = min([pod.ready_at_s for pod in self.starting], default=math.inf)
        self._silent_seen = None
        self._fleet.lose(pod.slot)
        self._end(pod, now_s)

    def _expect(self, started: Started) -> None:
        """Its weights are there: now it is known when it will be Ready, if it was not let go."""
        for pod in self.starting:
            if pod.slot == started.slot and pod.ready_at_s == math.inf and not pod.is_stopped:
                self._set_ready_at(pod, started.ready_at_s)

    def _set_ready_at(self, pod: Pod, at_s: float) -> None:
        pod.ready_at_s = self._fleet.world.replicas["ready_at_s"][pod.slot] = at_s
        self.ready_at_s = min([pod.ready_at_s for pod in self.starting], default=math.inf)

    def _begin(self, pod: Pod, now_s: float) -> None:
        self._is_no_longer_starting(pod)
        self.serving.append(pod)
        self._sensors.begin(pod.slot, now_s)

    def _is_no_longer_starting(self, pod: Pod) -> None:
        self.starting.remove(pod)
        self._silent_seen = None
        self.ready_at_s = min([pod.ready_at_s for pod in self.starting], default=math.inf)

    def _victim(self, named: str | None) -> Pod:
        """The one that the policy named; else as a ReplicaSet: those without a node, not ready, then the youngest."""
        for pod in (*self.waiting, *self.starting, *self.serving):
            if pod.name == named:
                return pod
        if self.waiting:
            return self.waiting[-1]
        return max(self.starting or self.serving, key=lambda pod: (pod.ready_at_s, pod.slot))

    def _let_go(self, pod: Pod, now_s: float) -> None:
        if pod.slot == NOWHERE:
            self.waiting.remove(pod)
            self._tenant.leave(None, now_s)
            self._silent_seen = None
            return
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
            self._looks_at_s = min(self._looks_at_s, now_s + GONE_S)

    def _end(self, pod: Pod, at_s: float) -> None:
        self._sensors.end(pod.slot)
        self._starts.end(pod.slot, at_s)
        self._free.add(pod.slot)
        self._tenant.leave(pod.slot, at_s)
        self.gone_pod_seconds += at_s - pod.held_from_s
