"""The replicas of a simulated service: created, ready, draining, gone; and what sensors read of them."""

import math
from dataclasses import dataclass, field
from random import Random

from autoscaler.policy.types import PodPhase, PodSeen, Tier
from metrics.sample import EngineSample, Histogram, PodSignals
from metrics.window import Window
from simulations.compiled.fleet import CompiledFleet, Gauges, Load
from simulations.compiled.layout import TTFT_BOUNDS_S
from simulations.world.startup import StartupTimes

BOUNDS_S = (*TTFT_BOUNDS_S, math.inf)
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
    window: Window = field(default_factory=Window)
    drained_at_s: float | None = None
    signals: PodSignals | None = None

    def phase(self, now_s: float) -> PodPhase:
        """Where it is on its way."""
        if self.drained_at_s is not None:
            return PodPhase.TERMINATING
        return PodPhase.READY if self.ready_at_s <= now_s else PodPhase.STARTING

    def seen(self, now_s: float) -> PodSeen:
        """As a controller sees it."""
        phase = self.phase(now_s)
        return PodSeen(
            name=self.name,
            phase=phase,
            created_at_s=self.created_at_s,
            ready_at_s=self.ready_at_s if self.ready_at_s <= now_s else None,
            node=f"node-{self.slot}",
            node_class=NODE_CLASS,
            tier=self.tier,
            signals=self.signals if phase is PodPhase.READY else None,
        )


class Pods:
    """A Deployment of replicas on nodes of one GPU each; a node that ran the model before keeps its weights."""

    def __init__(self, fleet: CompiledFleet, startup: StartupTimes, random: Random, *, nodes: int) -> None:
        self._fleet = fleet
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

    def serve_from_the_start(self, replicas: int, now_s: float) -> None:
        """Replicas that have long been ready, and whose cost begins now."""
        for _ in range(replicas):
            self._add(now_s - LONG_AGO_S, startup_s=LONG_AGO_S)

    def scale_to(self, replicas: int, now_s: float, *, victim: str | None = None) -> None:
        """Start what is missing, as far as there are nodes; let go of what is too much."""
        for _ in range(min(replicas - self.replicas, len(self._free_nodes))):
            self.starts += 1
            self._add(now_s)
        while self.replicas > replicas:
            self._let_go(self._victim(victim, now_s), now_s)

    def sweep(self, now_s: float) -> None:
        """Draining pods that have served their last request are gone, and their nodes free."""
        for pod in [pod for pod in self.present if pod.drained_at_s is not None]:
            if self._fleet.outstanding(pod.slot) == 0:
                self._end(pod, max(pod.drained_at_s or 0.0, self._fleet.last_finish_at_s(pod.slot)))

    def scrape(self, now_s: float, *, with_rates: bool) -> None:
        """Read every metrics page that there is; without rates, the gauges of the moment are all that is kept."""
        for pod in self.present:
            if pod.phase(now_s) is not PodPhase.READY:
                continue
            if with_rates:
                pod.window.add(_sample(self._fleet.gauges(pod.slot), now_s))
            else:
                pod.signals = _signals(self._fleet.load(pod.slot), now_s)

    def rate(self, now_s: float, *, span_s: float) -> None:
        """Bring every pod's signals up to now: gauges of the last scrape, rates over so many seconds before it."""
        for pod in self.present:
            pod.signals = pod.window.signals(now_s=now_s, span_s=span_s)

    def look(self, now_s: float) -> tuple[PodSeen, ...]:
        """All pods with their signals."""
        return tuple(pod.seen(now_s) for pod in self.present)

    def pod_seconds(self, begin_s: float, end_s: float) -> float:
        """Seconds that pods existed, and held a GPU, since the beginning."""
        alive = sum(end_s - max(begin_s, pod.created_at_s) for pod in self.present)
        return self.gone_pod_seconds + alive

    def _add(self, now_s: float, *, startup_s: float | None = None) -> None:
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

    def _victim(self, named: str | None, now_s: float) -> Pod:
        """The one that the policy named; else as a ReplicaSet: those not ready first, then the youngest."""
        staying = [pod for pod in self.present if pod.drained_at_s is None]
        for pod in staying:
            if pod.name == named:
                return pod
        return max(staying, key=lambda pod: (pod.phase(now_s) is not PodPhase.READY, pod.ready_at_s, pod.slot))

    def _let_go(self, pod: Pod, now_s: float) -> None:
        self._fleet.drain(pod.slot)
        pod.drained_at_s = now_s
        if self._fleet.outstanding(pod.slot) == 0:
            self._end(pod, now_s)

    def _end(self, pod: Pod, at_s: float) -> None:
        self.present.remove(pod)
        self._free_nodes.append(pod.slot)
        # The first replicas were there before the clock started: they cost from then on.
        self.gone_pod_seconds += at_s - max(0.0, pod.created_at_s)


def _signals(load: Load, now_s: float) -> PodSignals:
    return PodSignals(
        observed_at_s=now_s,
        window_s=0.0,
        running_requests=load.running_requests,
        waiting_requests=load.waiting_requests,
        kv_cache_usage_ratio=load.kv_cache_usage_ratio,
    )


def _sample(gauges: Gauges, now_s: float) -> EngineSample:
    counts, total = [], 0
    for count in gauges.ttft_counts:
        total += count
        counts.append(float(total))
    return EngineSample(
        observed_at_s=now_s,
        running_requests=gauges.running_requests,
        waiting_requests=gauges.waiting_requests,
        kv_cache_usage_ratio=gauges.kv_cache_usage_ratio,
        prompt_tokens_total=gauges.prompt_tokens_total,
        computed_prompt_tokens_total=gauges.prompt_tokens_total,
        generation_tokens_total=gauges.generation_tokens_total,
        preemptions_total=gauges.preemptions_total,
        finished_requests_total=gauges.finished_requests_total,
        ttft_s=Histogram(bounds=BOUNDS_S, counts=tuple(counts), sum=gauges.ttft_sum_s),
        is_awake=True,
    )
