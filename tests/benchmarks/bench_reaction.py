"""Signal edge → scale patch: 500 services × 10 pods on one core, samples and scale targets in memory.

All parts of the controller run as in production but for the network: cluster state with its indexes, collector and
windows, wake queue, passes, decisions, status. Every pod gives a sample each 2 s (as it must, to be under load); at any
time 10 % of the services change: within each scrape period the queues of one service in ten jump. An edge has the other
pods read at once, which takes as long as on a network. The clock runs from the moment that the edge's sample enters the
collector to the scale patch.
"""

import asyncio
import os
from pathlib import Path

from figures import Figure

import autoscaler.wiring  # everything the controller imports, kubernetes_asyncio included: RSS must show it
from autoscaler.cluster import Cluster
from autoscaler.collect import Collector
from autoscaler.controller import SWEEP, Controller
from autoscaler.kube import views
from autoscaler.kube.memory import MemoryApi
from autoscaler.kube.publish import Publisher
from autoscaler.kube.reports import Reports
from autoscaler.kube.scale import Scaler
from autoscaler.kube.target import NoPast, World
from autoscaler.kube.writer import Writer
from autoscaler.metering import Metering
from autoscaler.policies import PolicyBook
from autoscaler.queue import WakeQueue
from metrics.clock import WallClock
from metrics.sample import EngineSample, Histogram
from metrics.telemetry import TelemetryConfig, set_up

SERVICES = 500
PODS = 10
PERIOD_S = 2.0
CHANGING_SHARE = 0.1
READ_S = 0.02  # a page of 50 kB, asked for and answered
WARM_UP_S = 6.0
MEASURED_S = 24.0
EDGE_REQUESTS = 6.0  # waiting per pod: 60 where 20 are the target
TTFT_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))


def name_of(service: int) -> str:
    return f"llm-{service:03d}"


def deployment(service: int) -> dict:
    name = name_of(service)
    container = {"name": "kserve-container", "image": "vllm:v0.32.0", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    meta = {"name": name, "namespace": "bench", "uid": f"d-{name}", "resourceVersion": "1"}
    return {
        "metadata": meta | {"annotations": {"warmtide.dev/policy": "gold"}},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": f"isvc.{name}", "component": "predictor"}},
            "template": {"spec": {"containers": [container]}},
        },
    }


def pod(service: int, index: int) -> dict:
    name = f"{name_of(service)}-6c9f7d5b8-{index:05d}"
    labels = {"app": f"isvc.{name_of(service)}", "component": "predictor", "pod-template-hash": "6c9f7d5b8"}
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:03:00Z"}]
    container = {
        "name": "kserve-container",
        "ports": [{"containerPort": 8080}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    meta = {"name": name, "namespace": "bench", "uid": f"u-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {
        "metadata": meta | {"labels": labels},
        "spec": {"nodeName": f"gpu-{(service * PODS + index) // 8:04d}", "containers": [container]},
        "status": {"phase": "Running", "podIP": f"10.0.{service % 250}.{index}", "conditions": conditions},
    }


class Bench:
    """The controller's parts around a world in memory."""

    def __init__(self) -> None:
        self.clock = clock = WallClock()
        self.queue = WakeQueue(clock)
        self.cluster = Cluster(wake=self.queue.wake, table_changed=lambda: self.queue.wake(SWEEP))
        self.collector = Collector(clock, wake=self.queue.hurry)
        self.api = MemoryApi(self.cluster, self.scaled)
        writer = Writer(self.api, lambda: True)
        world = World(
            cluster=self.cluster,
            collector=self.collector,
            scaler=Scaler(writer),
            publisher=Publisher(writer, self.cluster.scaled_services, "bench"),
            reports=Reports(clock),
            clock=clock,
            stale_for_s=lambda _now_s: 0.0,
            past=NoPast(),
        )
        metering = Metering(set_up(TelemetryConfig()))
        self.controller = Controller(world, PolicyBook(self.cluster.policies, "bench"), self.queue, metering)
        self.edges: dict[str, float] = {}  # by service: when its unanswered edge came
        self.reactions_s: list[float] = []
        self.waiting = [0.0] * SERVICES
        self.steps = 0
        self.pods: dict[str, tuple[int, int]] = {}  # by uid: service and index
        self.collector.hasten = self.read_soon

    def fill(self) -> None:
        spec = {"mode": "direct", "replicas": {"min": 1, "max": 64}}
        policy = {"metadata": {"name": "gold", "namespace": "bench", "uid": "p", "resourceVersion": "1"}, "spec": spec}
        self.cluster.policy_changed("bench/gold", None, views.policy_view(policy))
        for service in range(SERVICES):
            view = views.deployment_view(deployment(service))
            self.cluster.deployment_changed(view.meta.key, None, view)
            for index in range(PODS):
                view = views.pod_view(pod(service, index))
                self.pods[view.uid] = service, index
                self.cluster.pod_changed(f"bench/{service}/{index}", None, view)

    def scaled(self, key: str, _replicas: int) -> None:
        since_s = self.edges.pop(key, None)
        if since_s is not None:
            self.reactions_s.append(self.clock.now_s() - since_s)
            self.waiting[int(key[-3:])] = 0.0  # the queue is being worked off

    def sample(self, service: int, index: int) -> None:
        now_s = self.clock.now_s()
        key = f"bench/{name_of(service)}"
        waiting = self.waiting[service]
        if waiting and key not in self.edges:
            self.edges[key] = now_s
        done = float(self.steps)
        latency = Histogram(
            bounds=TTFT_BOUNDS, counts=tuple(done * share for share in (0.2, 0.5, 0.9, 1, 1, 1, 1, 1)), sum=done
        )
        self.collector.on_result(
            f"u-{name_of(service)}-6c9f7d5b8-{index:05d}",
            EngineSample(
                observed_at_s=now_s,
                running_requests=8.0,
                waiting_requests=waiting,
                kv_cache_usage_ratio=0.6,
                kv_cache_capacity_tokens=200_000.0,
                prompt_tokens_total=done * 900.0,
                computed_prompt_tokens_total=done * 700.0,
                generation_tokens_total=done * 300.0,
                finished_requests_total=done,
                iterations_total=done * 40.0,
                ttft_s=latency,
                itl_s=latency,
                queue_time_s=latency,
                is_awake=True,
            ),
        )

    def read_soon(self, uid: str) -> None:
        asyncio.get_running_loop().call_later(READ_S, self.sample, *self.pods[uid])

    async def feed(self) -> None:
        """Every pod once per period, spread evenly; the services that change are spread too."""
        slots = 101  # no divisor of 500: the pods of a service have different ones
        pods = [(service, index) for index in range(PODS) for service in range(SERVICES)]
        changing = round(SERVICES * CHANGING_SHARE)
        started_s, slot, turn = self.clock.now_s(), 0, 0
        while True:
            self.steps += slot % slots == 0
            for service, index in pods[slot % slots :: slots]:
                self.sample(service, index)
            if self.clock.now_s() - started_s > WARM_UP_S and slot % slots % (slots // changing) == 0:
                self.waiting[turn % SERVICES] = EDGE_REQUESTS
                turn += 7  # coprime to 500: every service has its turn, neighbours do not follow each other
            slot += 1
            await self.clock.sleep(started_s + slot * PERIOD_S / slots - self.clock.now_s())

    async def run(self) -> None:
        self.fill()
        self.controller.lead(True)
        try:
            async with asyncio.timeout(WARM_UP_S + MEASURED_S), asyncio.TaskGroup() as group:
                group.create_task(self.controller.run())
                group.create_task(self.feed())
        except TimeoutError:
            return


def rss_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def run() -> list[Figure]:
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everything)})
    bench = Bench()
    try:
        asyncio.run(bench.run())
    finally:
        os.sched_setaffinity(0, everything)
    # An edge that was never answered counts as long as it has waited.
    now_s = bench.clock.now_s()
    assert autoscaler.wiring.KubeClient
    reactions_s = sorted([*bench.reactions_s, *(now_s - since_s for since_s in bench.edges.values())])
    return [
        Figure(name="reaction_p50_s", value=reactions_s[len(reactions_s) // 2], unit="s", better="lower"),
        Figure(
            name="reaction_p99_s", value=reactions_s[int(len(reactions_s) * 0.99)], unit="s", bar=2.0, better="lower"
        ),
        Figure(name="reaction_edges", value=len(reactions_s), unit="edges"),
        Figure(name="rss_mb", value=rss_mb(), unit="MB", bar=400.0, better="lower"),
    ]
