"""The controller is `decide` and nothing else: a day of it in virtual time equals direct calls, decision for decision.

On one side the controller's own parts run as in production (cluster state, collector, wake queue, passes, status) on an
API in memory. On the other a plain loop keeps its own pods, windows and memory, and calls `decide` at the same times.
The two worlds follow their own decisions: one difference, and they part for good.
"""

import asyncio
import math
from dataclasses import dataclass, field

import pytest

from autoscaler.cluster import Cluster
from autoscaler.collect import Collector, rate_span_s
from autoscaler.controller import SWEEP, Controller
from autoscaler.instruments import NoInstruments
from autoscaler.kube import views
from autoscaler.kube.address import MetricsAddress
from autoscaler.kube.memory import MemoryApi
from autoscaler.kube.publish import Publisher
from autoscaler.kube.reports import Reports
from autoscaler.kube.scale import Scaler
from autoscaler.kube.target import NoPast, World
from autoscaler.kube.writer import Writer
from autoscaler.parse import parse_policy
from autoscaler.policies import PolicyBook
from autoscaler.policy.decide import decide
from autoscaler.policy.memory import Memory
from autoscaler.policy.types import Decision, Observation, PodPhase, PodSeen
from autoscaler.queue import WakeQueue
from autoscaler.schedule import floor_at
from metrics.sample import EngineSample, Histogram
from metrics.window import Window
from simulations.cluster.workloads.settle import LoopClock

STARTED_AT_S = 1_750_000_000.0
DAY_S = 86_400.0
# No multiple of it is a multiple of the pass period: a sample and a timer never fall on the same instant.
SCRAPE_PERIOD_S = 14.0202
START_UP_S = 150.0
FIRST_REPLICAS = 3
CAPACITY_REQUESTS = 8.0
POLICY = {
    "metadata": {"name": "gold", "namespace": "default", "uid": "p", "resourceVersion": "1"},
    "spec": {
        "mode": "direct",
        "replicas": {"min": 2, "max": 24},
        "metrics": {"periodSeconds": 14, "idlePeriodSeconds": 28},
        "schedules": [{"name": "lunch", "start": "0 12 * * *", "end": "0 13 * * *", "minReplicas": 14}],
    },
}
DEPLOYMENT = {
    "metadata": {
        "name": "llm",
        "namespace": "default",
        "uid": "d",
        "resourceVersion": "1",
        "annotations": {"warmtide.dev/policy": "gold"},
    },
    "spec": {"replicas": FIRST_REPLICAS, "selector": {"matchLabels": {"app": "llm"}}},
}


def requests_at(now_s: float) -> float:
    """A working day with a burst every three hours."""
    hour = (now_s - STARTED_AT_S) / 3600.0
    wave = 45.0 - 40.0 * math.cos(hour * math.tau / 24.0)
    return wave + (30.0 if hour % 3.0 < 0.1 else 0.0)


@dataclass
class Fleet:
    """Pods of one service: each ready 150 s after it was asked for; the newest goes first."""

    born: list[tuple[float, str]] = field(default_factory=list)
    tokens: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def resize(self, replicas: int, now_s: float) -> None:
        while len(self.born) < replicas:
            self.count += 1
            # The first are there already, and ready.
            at_s = now_s - START_UP_S if self.count <= FIRST_REPLICAS else now_s
            self.born.append((at_s, f"llm-{self.count:05d}"))
        del self.born[replicas:]

    def ready(self, now_s: float) -> list[str]:
        return [name for at_s, name in self.born if at_s + START_UP_S <= now_s]

    def scrape(self, now_s: float) -> list[tuple[str, EngineSample]]:
        names = self.ready(now_s)
        share = requests_at(now_s) / len(names)
        return [(name, self._sample(name, share, now_s)) for name in names]

    def _sample(self, name: str, share: float, now_s: float) -> EngineSample:
        running = min(share, CAPACITY_REQUESTS)
        tokens = self.tokens[name] = self.tokens.get(name, 0.0) + running * 40.0 * SCRAPE_PERIOD_S
        slow = 0.5 if share > CAPACITY_REQUESTS else 1.0
        done = tokens / 300.0
        return EngineSample(
            observed_at_s=now_s,
            running_requests=running,
            waiting_requests=share - running,
            kv_cache_usage_ratio=running / CAPACITY_REQUESTS * 0.9,
            kv_cache_capacity_tokens=100_000.0,
            prompt_tokens_total=tokens * 3.0,
            generation_tokens_total=tokens,
            iterations_total=tokens,
            finished_requests_total=done,
            ttft_s=Histogram(bounds=(2.0, math.inf), counts=(done * slow, done), sum=done),
        )


class Recorder(NoInstruments):
    """Keeps every decision."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def decided(self, key: str, decision: Decision, *, took_s: float) -> None:
        self.decisions.append(decision)


class Controlled:
    """The world of the controller."""

    def __init__(self) -> None:
        self.clock = LoopClock(STARTED_AT_S)
        self.queue = WakeQueue(self.clock)
        self.cluster = Cluster(wake=self.queue.wake, table_changed=lambda: self.queue.wake(SWEEP))
        self.collector = Collector(self.clock, wake=self.queue.hurry)
        self.recorder = Recorder()
        self.fleet = Fleet()
        self.starts = asyncio.Event()
        writer = Writer(MemoryApi(self.cluster, self.scaled), lambda: True)
        world = World(
            cluster=self.cluster,
            collector=self.collector,
            scaler=Scaler(writer),
            publisher=Publisher(writer, self.cluster.scaled_services, "parity"),
            reports=Reports(self.clock),
            clock=self.clock,
            stale_for_s=lambda _now_s: 0.0,
            past=NoPast(),
        )
        self.controller = Controller(world, PolicyBook(self.cluster.policies, "default"), self.queue, self.recorder)

    async def run(self) -> list[Decision]:
        deployment = views.deployment_view(DEPLOYMENT)
        self.cluster.policy_changed("default/gold", None, views.policy_view(POLICY))
        self.cluster.deployment_changed("default/llm", None, deployment)
        self.scaled("default/llm", FIRST_REPLICAS)
        self.controller.lead(True)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in (self.controller.run(), self.scrape(), self.start_up())]
            await self.clock.sleep(DAY_S)
            for task in tasks:
                task.cancel()
        return self.recorder.decisions

    def scaled(self, _key: str, replicas: int) -> None:
        self.fleet.resize(replicas, self.clock.now_s())
        self.tell()
        self.starts.set()

    def tell(self) -> None:
        """Bring the cluster state to what the fleet is, as a watch would."""
        now_s, pods = self.clock.now_s(), self.cluster.pods
        wanted = {f"default/{name}": pod_view(name, at_s, now_s) for at_s, name in self.fleet.born}
        for key in pods.keys() - wanted.keys():
            self.cluster.pod_changed(key, pods[key], None)
        for key, view in wanted.items():
            if pods.get(key) != view:
                self.cluster.pod_changed(key, pods.get(key), view)

    async def scrape(self) -> None:
        for turn in range(1, 1_000_000):
            await self.clock.sleep(STARTED_AT_S + turn * SCRAPE_PERIOD_S - self.clock.now_s())
            for name, sample in self.fleet.scrape(STARTED_AT_S + turn * SCRAPE_PERIOD_S):
                self.collector.on_result(f"uid-{name}", sample)

    async def start_up(self) -> None:
        """Pods become ready when their time has come."""
        while True:
            now_s = self.clock.now_s()
            due = [at_s + START_UP_S for at_s, _ in self.fleet.born if at_s + START_UP_S > now_s]
            self.starts.clear()
            try:
                async with asyncio.timeout(min(due) - now_s if due else None):
                    await self.starts.wait()
            except TimeoutError:
                self.tell()


def pod_view(name: str, at_s: float, now_s: float) -> views.PodView:
    return views.PodView(
        namespace="default",
        name=name,
        uid=f"uid-{name}",
        labels={"app": "llm"},
        created_at_s=at_s,
        ready_at_s=at_s + START_UP_S if at_s + START_UP_S <= now_s else None,
        is_terminating=False,
        is_over=False,
        is_unschedulable=False,
        is_gated=False,
        node="gpu-0",
        ip="10.0.0.1",
        address=MetricsAddress(8080, "/metrics", "default"),
        gpus=(),
    )


def direct(times_s: list[float]) -> list[Decision]:
    """The same day by hand."""
    policy = parse_policy(POLICY)
    span_s = rate_span_s(policy.endpoint.period_s)
    fleet, windows, decisions = Fleet(), dict[str, Window](), []
    fleet.resize(FIRST_REPLICAS, STARTED_AT_S)
    replicas, memory, turn = FIRST_REPLICAS, None, 1
    for now_s in times_s:
        while STARTED_AT_S + turn * SCRAPE_PERIOD_S <= now_s:
            for name, sample in fleet.scrape(STARTED_AT_S + turn * SCRAPE_PERIOD_S):
                windows.setdefault(name, Window()).add(sample)
            turn += 1
        pods = []
        for at_s, name in fleet.born:
            is_ready = at_s + START_UP_S <= now_s
            window = windows.get(name)
            pods.append(
                PodSeen(
                    name=name,
                    phase=PodPhase.READY if is_ready else PodPhase.STARTING,
                    created_at_s=at_s,
                    ready_at_s=at_s + START_UP_S if is_ready else None,
                    node="gpu-0",
                    signals=window.signals(now_s=now_s, span_s=span_s) if window else None,
                )
            )
        floor, _ = floor_at(policy.schedules, now_s)
        seen = Observation(service="default/llm", replicas=replicas, pods=tuple(pods), schedule_floor=floor)
        decision, memory = decide(seen, policy.spec, memory or Memory.start(replicas, now_s), now_s=now_s)
        decisions.append(decision)
        if decision.replicas != replicas:
            replicas = decision.replicas
            fleet.resize(replicas, now_s)
    return decisions


@pytest.mark.slow
@pytest.mark.timeout(180)  # some 17 s of CPU, on a machine that may be busy
@pytest.mark.looptime
async def test_a_day_of_the_controller_is_a_day_of_decide() -> None:
    decided = await Controlled().run()

    by_hand = direct([decision.decided_at_s for decision in decided])

    assert len(decided) > 5000
    assert len({decision.replicas for decision in decided}) >= 8
    assert len({step.reason for decision in decided for step in decision.steps}) >= 6
    for one, other in zip(decided, by_hand, strict=True):
        assert one == other
