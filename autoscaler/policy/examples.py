"""Services made of plain numbers, and one that lives in virtual time: for tests, benchmarks and trying things out."""

import math
from dataclasses import dataclass, field, replace

from autoscaler.policy.decide import decide
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.types import Decision, Observation, PodPhase, PodSeen, Reason, Tier
from metrics.sample import Histogram, PodSignals

# The buckets of vLLM's time to first token that matter to an objective of seconds.
LATENCY_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, math.inf)


def latencies(*, requests: float, mean_s: float) -> Histogram:
    """Exponential latencies in vLLM's buckets."""
    counts = tuple(requests * (1 - math.exp(-bound_s / mean_s)) for bound_s in LATENCY_BOUNDS_S)
    return Histogram(bounds=LATENCY_BOUNDS_S, counts=counts, sum=requests * mean_s)


def signals(at_s: float, **values: float | Histogram | bool | None) -> PodSignals:
    """A replica at work, with whatever differs."""
    usual = PodSignals(
        observed_at_s=at_s,
        window_s=30.0,
        running_requests=8.0,
        waiting_requests=0.0,
        kv_cache_usage_ratio=0.4,
        prompt_tokens_per_s=3000.0,
        generation_tokens_per_s=1000.0,
        finished_requests_per_s=4.0,
        ttft_s=latencies(requests=100.0, mean_s=0.2),
        stalled_for_s=0.0,
        is_awake=True,
    )
    return replace(usual, **values)  # type: ignore[arg-type]  # the caller names real fields, or replace() says so


IDLE: dict[str, float | Histogram | bool | None] = {
    "running_requests": 0.0,
    "waiting_requests": 0.0,
    "kv_cache_usage_ratio": 0.0,
    "prompt_tokens_per_s": 0.0,
    "generation_tokens_per_s": 0.0,
    "finished_requests_per_s": 0.0,
    "ttft_s": latencies(requests=0.0, mean_s=0.2),
}


def ready(name: str, sample: PodSignals | None, *, since_s: float = -1000.0, start_s: float = 60.0) -> PodSeen:
    """A replica that serves."""
    return PodSeen(
        name=name,
        phase=PodPhase.READY,
        created_at_s=since_s - start_s,
        ready_at_s=since_s,
        node=f"node-{name}",
        node_class="H100",
        tier=Tier.WARM,
        signals=sample,
    )


def starting(name: str, *, created_at_s: float, phase: PodPhase = PodPhase.STARTING) -> PodSeen:
    """A replica that does not serve yet."""
    return PodSeen(name=name, phase=phase, created_at_s=created_at_s, node_class="H100", tier=Tier.WARM)


def fleet(samples: list[PodSignals | None], **seen: object) -> Observation:
    """A service with one ready replica per sample."""
    pods = tuple(ready(f"pod-{index}", sample) for index, sample in enumerate(samples))
    usual = Observation(service="prod/llama", replicas=len(pods), pods=pods)
    return replace(usual, **seen)  # type: ignore[arg-type]  # as above


def numbers(decisions: list[Decision]) -> list[int]:
    """The numbers decided, repeats left out."""
    found: list[int] = []
    for decision in decisions:
        if not found or found[-1] != decision.replicas:
            found.append(decision.replicas)
    return found


@dataclass(slots=True, kw_only=True)
class Load:
    """What the whole service carries; the ready replicas share it."""

    waiting_requests: float = 0.0
    running_requests: float = 8.0
    kv_cache_usage: float = 0.4  # replicas' worth
    tokens_per_s: float = 4000.0
    upstream_waiting_requests: float | None = None


@dataclass(slots=True, kw_only=True)
class Service:
    """One service whose decisions are applied at once, in virtual time. Faults are set by attribute."""

    policy: PolicySpec
    replicas: int
    now_s: float = 1_000_000.0
    period_s: float = 2.0
    startup_s: float = 60.0
    load: Load = field(default_factory=Load)
    blind: bool = False  # no sample is newer than when it was set
    sample_changes: dict[str, float | Histogram | bool | None] = field(default_factory=dict)
    phase_of_new: PodPhase | None = None  # new pods stay in this phase
    seen_changes: dict[str, object] = field(default_factory=dict)
    memory: Memory | None = None
    decisions: list[Decision] = field(default_factory=list)
    _pods: list[PodSeen] = field(default_factory=list)
    _made: int = 0
    _sampled_at_s: float = 0.0

    def __post_init__(self) -> None:
        self._make(self.replicas, created_at_s=self.now_s - 1000.0)
        self._advance_pods()

    def run(self, duration_s: float) -> list[Decision]:
        """Decide every period; the decisions of this stretch."""
        first = len(self.decisions)
        end_s = self.now_s + duration_s
        while self.now_s < end_s:
            self.now_s += self.period_s
            self._advance_pods()
            decision = self.decide()
            self.scale_to(decision.replicas, victim=decision.victim)
        return self.decisions[first:]

    def decide(self) -> Decision:
        """One decision, not applied."""
        memory = self.memory or Memory.start(self.replicas, self.now_s)
        decision, self.memory = decide(self.observe(), self.policy, memory, now_s=self.now_s)
        self.decisions.append(decision)
        return decision

    def scale_to(self, replicas: int, *, victim: str | None = None) -> None:
        """Set the number; pods come and go as a ReplicaSet has it."""
        self.replicas = replicas
        if replicas > len(self._pods):
            self._make(replicas - len(self._pods), created_at_s=self.now_s)
        while len(self._pods) > replicas:
            gone = next((pod for pod in self._pods if pod.name == victim), self._pods[-1])
            self._pods.remove(gone)

    def observe(self) -> Observation:
        """What a controller would see now."""
        usual = Observation(
            service="prod/llama",
            replicas=self.replicas,
            pods=tuple(self._pods),
            upstream_waiting_requests=self.load.upstream_waiting_requests,
            upstream_observed_at_s=self.now_s,
        )
        return replace(usual, **self.seen_changes)  # type: ignore[arg-type]  # as above

    @property
    def reasons(self) -> set[Reason]:
        """Of every step so far."""
        return {step.reason for decision in self.decisions for step in decision.steps}

    def _make(self, pods: int, *, created_at_s: float) -> None:
        for _ in range(pods):
            self._made += 1
            phase = self.phase_of_new or PodPhase.STARTING
            self._pods.append(starting(f"pod-{self._made}", created_at_s=created_at_s, phase=phase))

    def _advance_pods(self) -> None:
        if not self.blind:
            self._sampled_at_s = self.now_s
        for index, pod in enumerate(self._pods):
            ready_at_s = pod.created_at_s + self.startup_s
            if pod.phase is PodPhase.STARTING and ready_at_s <= self.now_s and self.phase_of_new is None:
                self._pods[index] = replace(pod, phase=PodPhase.READY, ready_at_s=ready_at_s)
        serving = [pod for pod in self._pods if pod.phase is PodPhase.READY]
        for index, pod in enumerate(self._pods):
            if pod.phase is PodPhase.READY:
                self._pods[index] = replace(pod, signals=self._sample(len(serving)))

    def _sample(self, serving: int) -> PodSignals:
        load = self.load
        return signals(
            self._sampled_at_s,
            **{
                "waiting_requests": load.waiting_requests / serving,
                "running_requests": load.running_requests / serving,
                "kv_cache_usage_ratio": min(1.0, load.kv_cache_usage / serving),
                "prompt_tokens_per_s": 0.75 * load.tokens_per_s / serving,
                "generation_tokens_per_s": 0.25 * load.tokens_per_s / serving,
                "finished_requests_per_s": load.tokens_per_s / serving / 1000.0,
                **self.sample_changes,
            },
        )
