"""500 InferenceServices and 5,000 pods on a real control plane: what the controller needs, and how fast it is.

Real: etcd, API server, controller manager, scheduler, and the controller as a process. KServe is our stand-in, kwok
plays the kubelets, and one light server answers for all pods. Every service is under load all the time. Each turn of
20 s another tenth of the services changes: its load goes up by a third, which makes a queue on every pod, drifts, and
goes back. A reaction runs from the instant that the pages show the queue to the new spec.replicas at a watcher.
"""

import asyncio
import random
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from emulated_pages import RUNNING_MAX, Load, Pages
from figures import Figure
from real_plane import NO_ENDPOINTS, SPACE, Controller, child, controller, inside, install, kubeconfig, kwok
from real_plane import write_figures as write

from metrics.clock import WallClock
from simulations.cluster.api import DEPLOYMENTS, INFERENCE_SERVICES
from simulations.cluster.http_api import HttpApi

SERVICES = 500
PODS = 10
NODES = 110  # of 64 GPUs: room for those that grow
CHANGING = SERVICES // 10
TURN_S = 20.0
RAISE_RATIO = 1.0 / 3.0
DRIFT_RATIO = 0.02
FILL_WITHIN_S = 900.0  # 5,000 pods took 317 s on two quiet cores
SETTLE_S = 60.0
MEASURED_S = 140.0
CREATE_AT_ONCE = 20
POLICY = {
    "mode": "direct",
    "replicas": {"min": 1, "max": 20},
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
    predictor = {"minReplicas": 1, "maxReplicas": 20, "containers": [container]}
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

    async def change(self) -> None:
        """One tenth of the services after another, spread evenly over their turn."""
        chance = random.Random(1)
        changing: list[str] = []
        turn = 0
        while True:
            name = name_of(turn * 7 % SERVICES)  # coprime: neighbours do not follow each other
            turn += 1
            changing.append(name)
            self.raise_load(name)
            if len(changing) > CHANGING:
                self.pages.loads[changing.pop(0)].requests = PODS * RUNNING_MAX
            for one in changing:
                self.pages.loads[one].requests *= 1 + chance.uniform(-DRIFT_RATIO, DRIFT_RATIO)
            await self.clock.sleep(TURN_S / CHANGING)

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
    """The services, each with ten pods as somebody left it."""

    async def one(name: str, turn: asyncio.Semaphore) -> None:
        async with turn:
            await fleet.api.create(INFERENCE_SERVICES, inference_service(name, port))
            while name not in fleet.replicas:
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

    @classmethod
    async def now(cls, running: Controller, fleet: Fleet) -> "Use":
        return cls(fleet.clock.now_s(), running.cpu_s(), await running.writes(), fleet.pages.served)


async def measure(fleet: Fleet, running: Controller) -> list[Figure]:
    """Two minutes and more of changing load."""
    clock = fleet.clock
    await clock.sleep(SETTLE_S)
    quiet = [await Use.now(running, fleet)]
    await clock.sleep(TURN_S)
    quiet.append(await Use.now(running, fleet))
    changing = asyncio.ensure_future(fleet.change())
    await clock.sleep(2 * TURN_S)  # until services come back as well as go
    fleet.edges.clear()
    before = await Use.now(running, fleet)
    await clock.sleep(MEASURED_S)
    after = await Use.now(running, fleet)
    changing.cancel()
    await asyncio.wait([changing])
    pods = sum(fleet.ready.values())
    return [
        *figures_of_use(before, after),
        *figures_of_rest(*quiet),
        *figures_of_size(running, pods),
        *reactions(fleet),
    ]


def figures_of_use(before: Use, after: Use) -> list[Figure]:
    took_s = after.at_s - before.at_s
    return [
        Figure(
            name="controller_cores", value=(after.cpu_s - before.cpu_s) / took_s, unit="cores", bar=1, better="lower"
        ),
        Figure(name="writes_per_s", value=(after.writes - before.writes) / took_s, unit="1/s", bar=20, better="lower"),
        Figure(name="pages_read_per_s", value=(after.pages - before.pages) / took_s, unit="1/s"),
        Figure(name="measured_s", value=took_s, unit="s"),
    ]


def figures_of_rest(before: Use, after: Use) -> list[Figure]:
    took_s = after.at_s - before.at_s
    return [
        Figure(name="unchanging_cores", value=(after.cpu_s - before.cpu_s) / took_s, unit="cores"),
        Figure(name="unchanging_writes_per_s", value=(after.writes - before.writes) / took_s, unit="1/s"),
        Figure(name="unchanging_pages_per_s", value=(after.pages - before.pages) / took_s, unit="1/s"),
    ]


def figures_of_size(running: Controller, pods: int) -> list[Figure]:
    return [
        Figure(name="rss_mb", value=running.memory_mb("VmRSS"), unit="MB", bar=600, better="lower"),
        Figure(name="rss_peak_mb", value=running.memory_mb("VmHWM"), unit="MB"),
        Figure(name="pods_at_the_end", value=pods, unit="pods"),
    ]


def reactions(fleet: Fleet) -> list[Figure]:
    """An edge that nobody answered counts as long as it waited."""
    now_s = fleet.clock.now_s()
    whole = sorted((edge.answered_s or now_s) - edge.raised_s for edge in fleet.edges)
    heard = sorted((e.answered_s or now_s) - (e.served_s or e.raised_s) for e in fleet.edges)
    return [
        Figure(name="reaction_p50_s", value=whole[len(whole) // 2], unit="s", better="lower"),
        Figure(name="reaction_p99_s", value=whole[int(len(whole) * 0.99)], unit="s", bar=2, better="lower"),
        Figure(name="reaction_since_read_p50_s", value=heard[len(heard) // 2], unit="s", better="lower"),
        Figure(name="reaction_since_read_p99_s", value=heard[int(len(heard) * 0.99)], unit="s", better="lower"),
        Figure(name="reaction_edges", value=len(whole), unit="edges"),
        Figure(name="reaction_unanswered", value=len(fleet.open), unit="edges"),
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
        pages.loads = {name_of(i): Load(requests=PODS * RUNNING_MAX, replicas=PODS) for i in range(SERVICES)}
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
    asyncio.run(main(Path(sys.argv[1])))
