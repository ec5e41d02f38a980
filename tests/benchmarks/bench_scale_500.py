"""500 InferenceServices and 5,000 pods on a real control plane: what the controller needs, and how fast it is.

Real: etcd, API server, controller manager, scheduler, and the controller as a process. KServe is our stand-in, kwok
plays the kubelets, and one light server answers for all pods. At any time a tenth of the services changes, each for
a minute: load comes, drifts, goes up by a third after half of the time, which makes a queue on every pod, and goes,
and with it the pods that came. That is the steady state of the figures with bars, the others being idle; afterwards
the others are loaded, too, for the figures named `loaded_`, which have none. A reaction runs from the instant that
the pages show the queue to the new spec.replicas at a watcher: it is the decision's time and that of the read, the
write and the watch. An edge that nobody answered counts as long as it waited.

Everything shares this machine's cores: `machine_busy_ratio` says whether there was time to measure, and where it is
close to 1, times are of the machine and no longer of the controller.
"""

import asyncio
import os
import random
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from emulated_pages import RUNNING_MAX, Load, Pages
from figures import Figure
from real_plane import (
    NO_ENDPOINTS,
    SPACE,
    Controller,
    child,
    controller,
    inside,
    install,
    kubeconfig,
    kwok,
    machine_busy_s,
    until_stopped,
)
from real_plane import write_figures as write

from metrics.clock import WallClock
from simulations.cluster.api import DEPLOYMENTS, INFERENCE_SERVICES
from simulations.cluster.http_api import HttpApi

SERVICES = int(os.environ.get("WARMTIDE_BENCH_SERVICES", "500"))  # fewer to look for faults; the bars mean 500
PODS = 10
NODES = SERVICES // 5 + 10  # of 64 GPUs: room for those that grow
CHANGING = SERVICES // 10
TURN_S = 60.0
RAISE_RATIO = 1.0 / 3.0
DRIFT_RATIO = 0.02
FILL_WITHIN_S = 900.0  # 5,000 pods took 317 s on two quiet cores
SETTLE_S = 30.0
MEASURED_S = 180.0  # 150 edges
LOADED_S = 60.0
FIRST_TURNS = 1.25  # until services come as well as go
JUDGED_AFTER_S = 5.0
CREATE_AT_ONCE = 20
POLICY = {
    "mode": "direct",
    "replicas": {"max": 20},  # at least as many as each service asks for
    "objectives": {"ttftSeconds": 0},  # the pages' latencies do not follow the load
    "targets": {"runningRequests": 9, "queueRequests": 2, "useLearnedCapacity": False},
    # Short, so that the way down is measured too.
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 30}},
}


def name_of(service: int) -> str:
    return f"llm-{service:03d}"


def inference_service(name: str, port: int) -> dict:
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "external",
        "warmtide.dev/policy": "gold",
        "prometheus.kserve.io/port": str(port),
        "prometheus.kserve.io/path": f"/metrics/{name}",
    }
    container = {"name": "kserve-container", "image": "vllm:v0.32.0", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    predictor = {"minReplicas": PODS, "maxReplicas": 20, "containers": [container]}
    return {
        "apiVersion": INFERENCE_SERVICES.api_version,
        "kind": INFERENCE_SERVICES.kind,
        "metadata": {"name": name, "namespace": SPACE, "annotations": annotations},
        "spec": {"predictor": predictor},
    }


@dataclass(slots=True)
class Edge:
    """A queue that came up, until the number follows."""

    service: str
    replicas: int
    raised_s: float
    answered_s: float | None = None
    served_s: float | None = None  # the first page that showed it was read


@dataclass(slots=True)
class Fleet:
    """What the API says of the Deployments, and the edges that wait for an answer."""

    api: HttpApi
    pages: Pages
    clock: WallClock
    replicas: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    open: dict[str, Edge] = field(default_factory=dict)
    calm_requests: float = 0.0

    async def follow(self) -> None:
        """Every change of a Deployment."""
        async for event in self.api.watch([DEPLOYMENTS]):
            name = event.object["metadata"]["name"].removesuffix("-predictor")
            load = self.pages.loads.get(name)
            if load is None:
                continue
            self.replicas[name] = event.object["spec"]["replicas"]
            self.ready[name] = (event.object.get("status") or {}).get("readyReplicas", 0)
            load.replicas = max(1, self.ready[name])
            edge = self.open.get(name)
            if edge is not None and self.replicas[name] > edge.replicas:
                edge.answered_s, edge.served_s = self.clock.now_s(), load.first_served_s
                del self.open[name]

    def raise_load(self, name: str) -> None:
        load = self.pages.loads[name]
        load.requests = self.replicas[name] * RUNNING_MAX * (1 + RAISE_RATIO)
        load.mark()
        self.open[name] = Edge(name, self.replicas[name], self.clock.now_s())
        self.edges.append(self.open[name])

    def let_all(self, requests: float) -> None:
        """The load of services that do not change."""
        self.calm_requests = requests
        for load in self.pages.loads.values():
            load.requests = requests

    async def change(self) -> None:
        """One service after another, spread evenly, so that a tenth of them is within its turn."""
        chance = random.Random(1)
        changing: list[str] = []
        turn = 0
        while True:
            name = name_of(turn * 7 % SERVICES)  # coprime: neighbours do not follow each other
            turn += 1
            changing.append(name)
            self.pages.loads[name].requests = PODS * RUNNING_MAX
            if len(changing) > CHANGING // 2:
                self.raise_load(changing[-CHANGING // 2])
            if len(changing) > CHANGING:
                self.pages.loads[changing.pop(0)].requests = self.calm_requests
            for one in changing:
                self.pages.loads[one].requests *= 1 + chance.uniform(-DRIFT_RATIO, DRIFT_RATIO)
            await self.clock.sleep(TURN_S / CHANGING)

    def start_over(self) -> None:
        """Edges from now on only."""
        self.edges.clear()
        self.open.clear()

    async def until_full(self) -> None:
        """Every service has its pods."""
        due_s, told_s = self.clock.now_s() + FILL_WITHIN_S, 0.0
        while (full := sum(self.ready.get(name) == PODS for name in self.pages.loads)) < SERVICES:
            if self.clock.now_s() > due_s:
                raise RuntimeError(f"{full} of {SERVICES} services had their pods after {FILL_WITHIN_S} s")
            if self.clock.now_s() - told_s > 20:
                told_s = self.clock.now_s()
                print(f"{sum(self.ready.values())} pods ready", file=sys.stderr, flush=True)
            await self.clock.sleep(0.5)


async def create(fleet: Fleet, port: int) -> None:
    """The services, each with ten pods."""

    async def one(name: str, turn: asyncio.Semaphore) -> None:
        async with turn:
            await fleet.api.create(INFERENCE_SERVICES, inference_service(name, port))
            while name not in fleet.replicas:  # of class external: KServe leaves the number to others
                await fleet.clock.sleep(0.1)
            await fleet.api.patch(
                DEPLOYMENTS, SPACE, f"{name}-predictor", {"spec": {"replicas": PODS}}, subresource="scale"
            )

    turn = asyncio.Semaphore(CREATE_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for name in fleet.pages.loads:
            group.create_task(one(name, turn))


@dataclass(frozen=True, slots=True)
class Use:
    """What the controller had used at one time."""

    at_s: float
    cpu_s: float
    writes: float
    pages: int
    machine_busy_s: float

    @classmethod
    async def now(cls, running: Controller, fleet: Fleet) -> "Use":
        return cls(fleet.clock.now_s(), running.cpu_s(), await running.writes(), fleet.pages.served, machine_busy_s())


async def measure(fleet: Fleet, running: Controller) -> list[Figure]:
    """Three minutes of changing load while the others are idle, then one while they are loaded."""
    clock = fleet.clock
    await clock.sleep(SETTLE_S)
    changing = asyncio.ensure_future(fleet.change())
    found: list[Figure] = []
    for name, requests, duration_s in (("", 0.0, MEASURED_S), ("loaded_", PODS * RUNNING_MAX, LOADED_S)):
        fleet.let_all(requests)
        await clock.sleep(FIRST_TURNS * TURN_S)
        fleet.start_over()
        before = await Use.now(running, fleet)
        await clock.sleep(duration_s)
        found += figures(name, before, await Use.now(running, fleet), reactions(fleet, name))
        found.append(Figure(name=f"{name}rss_mb", value=running.memory_mb("VmRSS"), unit="MB", bar=600, better="lower"))
    changing.cancel()
    await asyncio.wait([changing])
    return [*found, Figure(name="pods_at_the_end", value=sum(fleet.ready.values()), unit="pods")]


def figures(name: str, before: Use, after: Use, rest: list[Figure]) -> list[Figure]:
    """Bars are for the first round only."""
    took_s = after.at_s - before.at_s
    bars = {"cores": 1.0, "writes": 20.0} if not name else {}
    cores, writes_per_s = (after.cpu_s - before.cpu_s) / took_s, (after.writes - before.writes) / took_s
    return [
        Figure(name=f"{name}controller_cores", value=cores, unit="cores", bar=bars.get("cores"), better="lower"),
        Figure(name=f"{name}writes_per_s", value=writes_per_s, unit="1/s", bar=bars.get("writes"), better="lower"),
        Figure(name=f"{name}pages_read_per_s", value=(after.pages - before.pages) / took_s, unit="1/s"),
        Figure(
            name=f"{name}machine_busy_ratio",
            value=(after.machine_busy_s - before.machine_busy_s) / took_s / len(os.sched_getaffinity(0)),
            unit="ratio",
        ),
        Figure(name=f"{name}measured_s", value=took_s, unit="s"),
        *rest,
    ]


def reactions(fleet: Fleet, name: str) -> list[Figure]:
    """An edge that nobody answered counts as long as it waited."""
    now_s = fleet.clock.now_s()
    # One that is young and open says nothing yet.
    edges = [edge for edge in fleet.edges if edge.answered_s is not None or now_s - edge.raised_s > JUDGED_AFTER_S]
    whole = sorted((edge.answered_s or now_s) - edge.raised_s for edge in edges)
    heard = sorted((edge.answered_s or now_s) - (edge.served_s or edge.raised_s) for edge in edges)
    late = int(len(edges) * 0.99)
    bar = None if name else 2.0
    return [
        Figure(name=f"{name}reaction_p50_s", value=whole[len(whole) // 2], unit="s", better="lower"),
        Figure(name=f"{name}reaction_p99_s", value=whole[late], unit="s", bar=bar, better="lower"),
        Figure(name=f"{name}reaction_since_read_p50_s", value=heard[len(heard) // 2], unit="s", better="lower"),
        Figure(name=f"{name}reaction_since_read_p99_s", value=heard[late], unit="s", better="lower"),
        Figure(name=f"{name}reaction_edges", value=len(edges), unit="edges"),
        Figure(name=f"{name}reaction_unanswered", value=sum(e.answered_s is None for e in edges), unit="edges"),
    ]


async def main(out: Path) -> None:
    clock = WallClock()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(HttpApi.from_kubeconfig(kubeconfig()))
        await install(api, POLICY)
        await stack.enter_async_context(kwok(api, NODES))
        await stack.enter_async_context(child("kserve", sys.executable, str(Path(__file__).parent / "real_plane.py")))
        pages = Pages(clock)
        port = await pages.listen()
        pages.loads = {name_of(i): Load(replicas=PODS) for i in range(SERVICES)}
        fleet = Fleet(api, pages, clock)
        following = asyncio.ensure_future(fleet.follow())
        await create(fleet, port)
        await fleet.until_full()
        running = await stack.enter_async_context(controller())
        write(out, await measure(fleet, running))
        following.cancel()
        await asyncio.wait([following])


def run() -> list[Figure]:
    return inside(__file__, flags=[NO_ENDPOINTS])


if __name__ == "__main__":
    until_stopped(main(Path(sys.argv[1])))
